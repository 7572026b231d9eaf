"""A hostile coordinator against a real client over gRPC: rows 2 to 16 of reference 1.4, up to the roster.

Each case: row, what the victim is told, the code of its refusal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from federation_world import MANIFEST, MODEL, Play
from hostile_scheme import Lie, Scheme, Tell, crafted
from hostile_world import Case, Template, refusal, template

from unisono.base.ids import ClientName
from unisono.codec import Spec as Layout
from unisono.crypto import SigningKey, sha256, system_entropy
from unisono.secagg.client.advertise import signed
from unisono.secagg.shared.roster import Entry, Roster
from unisono.wire.v1 import round_pb2 as pb
from unisono.wire.v1 import types_pb2 as types

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["template"]
SYBIL = SigningKey.generate(system_entropy)

# the invitation


def padded_manifest(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    secure.manifest.append(pb.Pin(name="sybil", key_sha256=bytes(32)))
    return secure


def rekeyed_manifest(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    secure.manifest[0].key_sha256 = bytes(32)
    return secure


def round_one_again(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return scheme.shown[1, 1, "invitation"]


def a_second_attempt_after_the_reveal(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    first = pb.Secure.FromString(scheme.shown[1, 1, "invitation"].SerializeToString())
    first.attempt.CopyFrom(types.Attempt(run=first.attempt.run, round=1, attempt=2))
    return first


def the_same_model_in_another_round(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return crafted(secure, model_sha256=scheme.shown[1, 1, "invitation"].model_sha256)


def rubbish_for_a_certificate(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return crafted(secure, certificates=[b"rubbish"])


# the roster

Change = Callable[[Scheme, Roster], Roster]


def told(change: Change, round_: int = 1) -> Lie:
    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        return crafted(secure, message=change(scheme, Roster.decode(secure.message)).encode())

    return Lie(tell, "roster", round=round_)


def fewer(count: int) -> Change:
    return lambda _, roster: replace(roster, entries=roster.entries[-count:])


def entry(name: str, change: Callable[[Scheme, Entry, Roster], Entry]) -> Change:
    """Change one client's entry."""

    def changed(scheme: Scheme, roster: Roster) -> Roster:
        found = (change(scheme, e, roster) if e.name == name else e for e in roster.entries)
        return replace(roster, entries=tuple(found))

    return changed


def colluder(change: Callable[[Scheme, Entry, Roster], Entry]) -> Change:
    """Change the entry of a site that conspires: it signs what is shown."""
    return entry("a", lambda scheme, e, roster: signed(change(scheme, e, roster), scheme.keys["a"]))


def sybil(scheme: Scheme, roster: Roster) -> Roster:
    made = replace(roster.entries[0], name=ClientName("sybil"), identity=SYBIL.public)
    return replace(roster, entries=(*roster.entries[:4], signed(made, SYBIL), roster.entries[4]))


def taken_over(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return signed(replace(e, identity=SYBIL.public), SYBIL)


def twice(scheme: Scheme, roster: Roster) -> Roster:
    return replace(roster, entries=(roster.entries[0], *roster.entries))


def swapped(scheme: Scheme, roster: Roster) -> Roster:
    a, b, *rest = roster.entries
    one = replace(a, c=b.c, ec=b.ec, s=b.s, es=b.es)
    two = replace(b, c=a.c, ec=a.ec, s=a.s, es=a.es)
    return replace(roster, entries=(one, two, *rest))


def unsigned(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return replace(e, signature=bytes(64))


def of_another_run(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return replace(e, ctx0=sha256(b"another run"))


def of_low_order(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return replace(e, c=bytes(32))


def of_round_one(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return scheme.roster(1).entries[0]


def of_round_one_renamed(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return replace(scheme.roster(1).entries[0], ctx0=e.ctx0)


def own_key_of_the_victim(scheme: Scheme, e: Entry, roster: Roster) -> Entry:
    return replace(e, s=roster.entries[4].c)


def without_the_victim(scheme: Scheme, roster: Roster) -> Roster:
    return replace(roster, entries=roster.entries[:4])


def terms(**fields: int) -> Change:
    return lambda _, r: replace(r, spec=replace(r.spec, terms=replace(r.spec.terms, **fields)))


def layout(**fields: object) -> Change:
    def changed(scheme: Scheme, roster: Roster) -> Roster:
        found = replace(Layout.decode(roster.spec.codec), **fields)  # type: ignore[arg-type]
        return replace(roster, spec=replace(roster.spec, codec=found.encode(), length=found.bytes))

    return changed


def bound(factor: float) -> Change:
    def changed(scheme: Scheme, roster: Roster) -> Roster:
        (part,) = Layout.decode(roster.spec.codec).parts
        return layout(parts=(replace(part, bound=part.bound * factor),))(scheme, roster)

    return changed


def spec(**fields: object) -> Change:
    return lambda _, r: replace(r, spec=replace(r.spec, **fields))  # type: ignore[arg-type]


# the model


def model(data: bytes) -> Tell:
    """Tell of another model from the invitation on, and serve it."""

    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        scheme.blobs[sha256(data)] = data
        return crafted(secure, model_sha256=sha256(data), model_bytes=len(data))

    return tell


def other_model(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return model(MODEL[:-8] + MODEL[-4:] + MODEL[-8:-4])(scheme, secure) or secure  # of the same norm


def other_bytes(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    """Announce one model and send another."""
    scheme.blobs[sha256(b"announced")] = MODEL
    return crafted(secure, model_sha256=sha256(b"announced"))


def longer(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    secure = model(NAN)(scheme, secure) or secure
    return crafted(secure, model_bytes=len(NAN) + 8)


def cut_short(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return crafted(secure, message=secure.message[:-1])


def evaluation(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return crafted(secure, kind=pb.Work.EVALUATE)


def second_roster(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    roster = scheme.roster()
    return crafted(secure, message=replace(roster, entries=roster.entries[1:]).encode())


NAN = MODEL[:-8] + struct.pack("<ff", 3.0, float("nan"))
OTHER_TENSORS = MODEL.replace(b'"w"', b'"q"')
assert len(MODEL) == MANIFEST.file_bytes

CASES = (
    Case(2, "a manifest with a site more", Lie(padded_manifest, "invitation", round=2), "roster_not_pinned"),
    Case(2, "a manifest with another key", Lie(rekeyed_manifest, "invitation", round=2), "roster_not_pinned"),
    Case(4, "a replayed attempt", Lie(round_one_again, "invitation", round=2), "attempt_replayed", same=True),
    Case(4, "a replayed round", Lie(round_one_again, "invitation", round=3), "round_replayed", same=True),
    Case(
        5, "a second attempt after the reveal",
        Lie(a_second_attempt_after_the_reveal, "invitation", round=2), "already_released", same=True,
    ),
    Case(
        5, "the same model in another round",
        Lie(the_same_model_in_another_round, "invitation", round=2), "already_released",
    ),
    Case(5, "a certificate that is none", Lie(rubbish_for_a_certificate, "invitation"), "bad_certificate"),
    Case(7, "two clients", told(fewer(2)), "cohort_too_small"),
    Case(7, "fewer clients than the policy's", told(fewer(3)), "cohort_too_small"),
    Case(8, "an identity that is not pinned", told(sybil), "roster_padded"),
    Case(8, "another identity of a pinned name", told(entry("a", taken_over)), "roster_padded"),
    Case(8, "a client twice", told(twice), "roster_padded"),
    Case(9, "unsigned keys", told(entry("a", unsigned)), "bad_signature"),
    Case(9, "swapped keys", told(swapped), "bad_signature"),
    Case(9, "keys of another run", told(colluder(of_another_run)), "foreign_keys"),
    Case(9, "keys of an earlier round", told(entry("a", of_round_one), 2), "foreign_keys"),
    Case(9, "such keys called present ones", told(entry("a", of_round_one_renamed), 2), "bad_signature"),
    Case(10, "the victim's key as a colluder's", told(colluder(own_key_of_the_victim)), "duplicate_key"),
    Case(11, "the victim's entry is missing", told(without_the_victim), "own_keys_changed"),
    Case(12, "a lower threshold", told(terms(threshold=3)), "wrong_threshold"),
    Case(12, "fewer colluders than the policy's", told(terms(colluding=0, threshold=3)), "wrong_threshold"),
    Case(12, "fewer survivors than the policy's", told(terms(minimum=3)), "wrong_threshold"),
    Case(12, "another number of clients", told(terms(clients=6)), "wrong_threshold"),
    Case(13, "other lanes", told(layout(lanes=16)), "spec_mismatch"),
    Case(13, "another head", told(layout(head=("one", "weight", "age.sum", "age.count"))), "spec_mismatch"),
    Case(13, "another protection", told(spec(protection="none")), "spec_mismatch"),
    Case(13, "more survivors than the plan's", told(terms(minimum=5)), "spec_mismatch"),
    Case(13, "an unreadable codec", told(spec(codec=b"x")), "spec_mismatch"),
    Case(13, "an evaluation by a training's spec", Lie(evaluation, "*"), "spec_mismatch", may=("advertise",)),
    Case(13, "a roster cut short", Lie(cut_short, "roster"), "bad_message"),
    Case(13, "a larger bound", told(bound(4.0)), "clip_out_of_rule"),
    Case(13, "a bound that jumps", told(bound(1000.0), 2), "clip_out_of_rule"),
    Case(14, "a model that is not finite", Lie(model(NAN), "*"), "bad_model", may=("advertise",)),
    Case(14, "a model of other tensors", Lie(model(OTHER_TENSORS), "*"), "bad_model", may=("advertise",)),
    Case(14, "other bytes than announced", Lie(other_bytes, "*"), "bad_model", may=("advertise",)),
    Case(14, "another length than announced", Lie(longer, "*"), "bad_model", may=("advertise",)),
    Case(15, "another model with the roster", Lie(other_model, "roster"), "second_context"),
    Case(15, "a second roster", Lie(steps=(("share", second_roster),)), "second_context"),
    Case(16, "a key of low order", told(colluder(of_low_order)), "weak_key"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lies_up_to_the_roster(
    template: Template, tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    play(refusal(template, tmp_path / "w", monkeypatch, case))


def test_every_row_of_these_legs_has_a_case() -> None:
    """Row 6 has nothing to count: no plan has differential privacy.  Rows 1 and 3 are in `_site`."""
    assert {case.row for case in CASES} == {2, 4, 5, *range(7, 17)}
