"""A hostile coordinator against a real client over gRPC: from the deal to the reveal.

Rows 15, 17 to 24 and 27 of reference 1.4.  Each case: row, what the victim is told, the code of its refusal.
The other sites conspire where a lie needs a signature: the tests hold their keys, not the victim's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hostile_scheme import HONEST, VICTIM, Lie, Scheme, Tell, crafted
from hostile_world import Case, Template, hostile, refusal, template
from test_hostile_coordinator_grpc_roster import other_model

from unisono.base.ids import Digest
from unisono.crypto import sha256
from unisono.secagg.shared import statements
from unisono.secagg.shared.messages import Agree, Answer, Closing, Deal, Dealt, Quorum, Survivor, Survivors

if TYPE_CHECKING:
    from pathlib import Path

    from federation_world import Play

    from unisono.wire.v1 import round_pb2 as pb

__all__ = ["template"]
TOLD = ("complaint",)
ME, U1 = 5, (1, 2, 3, 4, 5)

# the deal


def dealt(change: Callable[[Scheme, Deal], Deal]) -> Tell:
    return lambda scheme, secure: crafted(
        secure, message=change(scheme, Deal.decode(secure.message)).encode()
    )


def first(change: Callable[[Scheme, Dealt], Dealt]) -> Tell:
    """Change what the first client dealt."""
    return dealt(lambda scheme, d: replace(d, parcels=(change(scheme, d.parcels[0]), *d.parcels[1:])))


def cut_down(scheme: Scheme, deal: Deal) -> Deal:
    """The victim and two who conspire."""
    return Deal((1, 2, ME), deal.parcels[:2])


def without_the_victim(scheme: Scheme, deal: Deal) -> Deal:
    return replace(deal, u1=deal.u1[:-1])


def with_a_stranger(scheme: Scheme, deal: Deal) -> Deal:
    return replace(deal, u1=(*deal.u1, 6))


def a_second_u1(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    deal = Deal.decode(scheme.message("deal"))
    return crafted(secure, message=Deal((1, 2, 3, ME), deal.parcels[:3]).encode())


def under_another_context(scheme: Scheme, found: Dealt) -> Dealt:
    signature = statements.share(sha256(b"another roster"), 1).sign(scheme.keys["a"])
    return replace(found, signature=signature)


def what_the_others_dealt(scheme: Scheme, secure: pb.Secure) -> pb.Secure | None:
    """Deal out what the others shared, on their model."""
    shares = scheme.shares()
    if shares is None:
        return None
    parcels = tuple(Dealt(n, s.parcels[-1], s.signature) for n, s in enumerate(shares.values(), 1))
    return crafted(secure, message=Deal(U1, parcels).encode())


def to_one_on_another_model(scheme: Scheme, secure: pb.Secure) -> pb.Secure | None:
    return what_the_others_dealt(scheme, other_model(scheme, secure))


def meant_for_another(scheme: Scheme, found: Dealt) -> Dealt:
    shares = scheme.shares()
    assert shares is not None
    return replace(found, parcel=shares["a"].parcels[2])  # to "d", with a true signature of "a"


def tampered(scheme: Scheme, found: Dealt) -> Dealt:
    box = bytes([found.parcel.box[0] ^ 1]) + found.parcel.box[1:]
    return replace(found, parcel=replace(found.parcel, box=box))


def not_there(scheme: Scheme, deal: Deal) -> Deal:
    return replace(deal, parcels=deal.parcels[1:])


# the survivors


def survived(change: Callable[[tuple[Survivor, ...]], tuple[Survivor, ...]]) -> Lie:
    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        members = change(Survivors.decode(secure.message).members)
        return crafted(secure, message=Survivors(members).encode())

    return Lie(tell, "survivors")


def a_colluder(state: Callable[[Scheme, Survivor, int], statements.Statement]) -> Lie:
    """Let the first survivor sign another upload statement."""

    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        member, *rest = Survivors.decode(secure.message).members
        statement = state(scheme, member, scheme.roster().spec.length)
        signature = statement.sign(scheme.keys["a"])
        return crafted(secure, message=Survivors((replace(member, signature=signature), *rest)).encode())

    return Lie(tell, "survivors")


def of_another_u1(scheme: Scheme, member: Survivor, length: int) -> statements.Statement:
    return statements.upload(scheme.context(), (1, 2, 3, 4), length, member.digest)


def of_another_context(scheme: Scheme, member: Survivor, length: int) -> statements.Statement:
    return statements.upload(sha256(b"another context"), U1, length, member.digest)


def of_another_length(scheme: Scheme, member: Survivor, length: int) -> statements.Statement:
    return statements.upload(scheme.context(), U1, length - 8, member.digest)


def of_another_label(scheme: Scheme, member: Survivor, length: int) -> statements.Statement:
    return statements.share(scheme.context(), 1)


def without(number: int) -> Callable[[tuple[Survivor, ...]], tuple[Survivor, ...]]:
    return lambda members: tuple(member for member in members if member.number != number)


def a_stranger(members: tuple[Survivor, ...]) -> tuple[Survivor, ...]:
    return (*members, replace(members[0], number=6))


def other_digest(members: tuple[Survivor, ...]) -> tuple[Survivor, ...]:
    return (*members[:-1], replace(members[-1], digest=sha256(b"other bytes")))


def all_but_one(scheme: Scheme, secure: pb.Secure) -> pb.Secure | None:
    """Show a set without "d", who uploaded: every statement in it holds."""
    members = scheme.uploads()
    return crafted(secure, message=Survivors(without(4)(members)).encode()) if members else None


def closing(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    return crafted(secure, message=Closing(Digest(secure.model_sha256.hex())).encode())


def everybody(scheme: Scheme, secure: pb.Secure) -> pb.Secure | None:
    members = scheme.uploads()
    return crafted(secure, message=Survivors(members).encode()) if members else None


# the quorum


def certified(change: Callable[[Quorum], Quorum]) -> Lie:
    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        return crafted(secure, message=change(Quorum.decode(secure.message)).encode())

    return Lie(tell, "quorum")


def signed_by(*signers: int, number: int = 0) -> Tell:
    """Show signatures for the set without "d": the victim's, and of these under their numbers or one."""

    def tell(scheme: Scheme, secure: pb.Secure) -> pb.Secure | None:
        members, own = scheme.uploads(), scheme.said(VICTIM, "agree", 1)
        assert members is not None
        assert own is not None
        tally = Survivors(without(4)(members)).tally
        statement = statements.agree(scheme.context(), U1, tally)
        found = [(number or n, statement.sign(scheme.keys[HONEST[n - 1]])) for n in signers]
        mine = ME, Agree.decode(own).signature
        message = Quorum((*found, mine), (1, 2, 3, ME), (4,))
        return crafted(secure, message=message.encode())

    return tell


def kinds(survivors: tuple[int, ...], dropped: tuple[int, ...]) -> Callable[[Quorum], Quorum]:
    return lambda quorum: replace(quorum, survivors=survivors, dropped=dropped)


def other_kinds_later(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    quorum = Quorum.decode(scheme.message("quorum"))
    return crafted(secure, message=kinds((2, 3, 4, 5), (1,))(quorum).encode())


def smaller_set(*steps: tuple[str, Tell]) -> Lie:
    """Begin with a set without "d", which the honest half does not hear of."""
    return Lie(steps=(("upload", all_but_one), *steps), swallow=("agree",))


def after_abandon(said: str, tell: Tell) -> Lie:
    """Let the victim sign that it will never open the attempt, and go on with it."""
    return Lie(steps=((said, closing), ("abandon", tell)), swallow=("abandon",))


def earlier(leg: str) -> Lie:
    return Lie(lambda scheme, secure: crafted(secure, message=scheme.message(leg, 1)), leg, round=2)


def few(quorum: Quorum) -> Quorum:
    return replace(quorum, signatures=quorum.signatures[:3])


def one(quorum: Quorum) -> Quorum:
    return replace(quorum, signatures=quorum.signatures[:1] * 4)


GIVEN_UP_EARLY = after_abandon("share", what_the_others_dealt)
GIVEN_UP_LATE = after_abandon("upload", everybody)
TO_ANOTHER = Lie(first(meant_for_another), "deal")
LATER = Lie(steps=(("answer", other_kinds_later),))
STRANGER = smaller_set(("agree", signed_by(1, 2, 4)))
RENUMBERED = smaller_set(("agree", signed_by(1, 2, 4, number=3)))
SHARED_ALONE = Lie(other_model, "*", steps=(("share", to_one_on_another_model),), swallow=("share",))

CASES = (
    Case(15, "another model with the deal", Lie(other_model, "deal"), "second_context"),
    Case(15, "another model with the survivors", Lie(other_model, "survivors"), "second_context"),
    Case(17, "a U1 cut down for one victim", Lie(dealt(cut_down), "deal"), "too_few_shared"),
    Case(17, "a U1 without the victim", Lie(dealt(without_the_victim), "deal"), "too_few_shared"),
    Case(17, "a U1 with a stranger", Lie(dealt(with_a_stranger), "deal"), "too_few_shared"),
    Case(17, "a second U1", Lie(steps=(("upload", a_second_u1),)), "second_share_set"),
    Case(18, "a peer on another context", Lie(first(under_another_context), "deal"), "other_context"),
    Case(18, "another model to one client", SHARED_ALONE, "other_context", may=("advertise", "share")),
    Case(19, "a share meant for another", TO_ANOTHER, "share_unreadable", may=TOLD),
    Case(19, "a tampered share", Lie(first(tampered), "deal"), "share_unreadable", may=TOLD),
    Case(19, "a share that is missing", Lie(dealt(not_there), "deal"), "share_unreadable", may=TOLD),
    Case(18, "a deal of an earlier round", earlier("deal"), "other_context"),
    Case(20, "a deal after an abandon", GIVEN_UP_EARLY, "attempt_abandoned", may=("abandon",)),
    Case(21, "survivors without the victim", survived(without(ME)), "not_a_survivor"),
    Case(21, "other bytes than the victim's", survived(other_digest), "not_a_survivor"),
    Case(21, "a survivor who never shared", survived(a_stranger), "not_a_survivor"),
    Case(21, "a survivor twice", survived(lambda m: (m[0], *m)), "not_a_survivor"),
    Case(21, "survivors below the policy", survived(lambda m: m[2:]), "too_few_survivors"),
    Case(21, "survivors of an earlier round", earlier("survivors"), "not_a_survivor"),
    Case(22, "a survivor of another U1", a_colluder(of_another_u1), "survivor_not_signed"),
    Case(22, "a survivor of another context", a_colluder(of_another_context), "survivor_not_signed"),
    Case(22, "a survivor of another length", a_colluder(of_another_length), "survivor_not_signed"),
    Case(22, "a survivor that never uploaded", a_colluder(of_another_label), "survivor_not_signed"),
    Case(23, "two survivor sets", Lie(steps=(("agree", all_but_one),)), "second_survivor_set"),
    Case(23, "a retry in parallel", GIVEN_UP_LATE, "attempt_abandoned", may=("abandon",)),
    Case(24, "a signature short", certified(few), "no_quorum"),
    Case(24, "one signature four times", certified(one), "no_quorum"),
    Case(24, "a non-survivor in the quorum", STRANGER, "no_quorum", may=("agree",)),
    Case(24, "signatures under another number", RENUMBERED, "no_quorum", may=("agree",)),
    Case(24, "a quorum of an earlier round", earlier("quorum"), "no_quorum"),
    Case(24, "one client both alive and dead", certified(kinds(U1, (1,))), "dead_and_alive"),
    Case(24, "a survivor called dead", certified(kinds((2, 3, 4, 5), (1,))), "dead_and_alive"),
    Case(24, "other shares after the reveal", LATER, "already_revealed"),
    Case(27, "closing after the reveal", Lie(steps=(("answer", closing),)), "already_revealed"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lies_from_the_deal_to_the_reveal(
    template: Template, tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    play(refusal(template, tmp_path / "w", monkeypatch, case))


def test_a_smaller_set_with_its_quorum_is_no_lie(
    template: Template, tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What row 24 refuses above, with the one signature that it lacks: kinds of shares as in the set."""

    async def story() -> None:
        async with hostile(template, tmp_path / "w", monkeypatch) as world:
            world.scheme.lie = replace(
                smaller_set(("agree", signed_by(1, 2, 3))), swallow=("agree", "answer")
            )
            await world.begin()
            world.live()
            await world.until(lambda: world.scheme.said(VICTIM, "answer", 1))
            raw = world.scheme.said(VICTIM, "answer", 1)
            assert raw is not None
            answer = Answer.decode(raw)
            assert [opened.number for opened in answer.selves] == [1, 2, 3, ME]
            assert [opened.number for opened in answer.vaults] == [4]
            assert not world.scheme.codes()

    play(story())


def test_every_row_of_these_legs_has_a_case() -> None:
    """Rows 25 and 26 are of the homomorphic scheme, which does not exist yet."""
    assert {case.row for case in CASES} == {15, *range(17, 25), 27}
