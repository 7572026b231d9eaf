"""A hostile coordinator against a real client's runtime: refused by its code, audited, no secret sent.

Up to the roster; what comes after is in `test_client_secure_hostile_ends`.
"""

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from client_secure_world import RUN, Change, World, bound_of, changed, model_of
from hostile_scene import VICTIM, Make, at, refusal, scenes, shared
from secagg_world import identity, name_of

from unisono.base.ids import ClientName, Digest
from unisono.client.policy import Policy
from unisono.client.session import Attempt, Polling, Secure
from unisono.codec import Spec as Layout
from unisono.secagg import server as s
from unisono.secagg.client.advertise import signed
from unisono.secagg.shared.certificates import AbandonCertificate
from unisono.secagg.shared.roster import Pin, Roster, manifest_digest
from unisono.secagg.shared.statements import abandon
from unisono.tensors import write

make = pytest.fixture(scenes)


# rows 1 to 6


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (Policy(protections=("sealed",)), "outside_policy"),
        (Policy(tasks=("another",)), "outside_policy"),
        (Policy(max_epsilon=4.0), "outside_policy"),
        (Policy(approve="ask"), "plan_not_approved"),
        (Policy(plans=("f" * 64,)), "plan_not_approved"),
        (Policy(roster_digest="f" * 64), "roster_not_pinned"),
    ],
)
def test_a_policy_is_asked_before_anything_is_said(make: Make, policy: Policy, code: str) -> None:
    world = make(policy=policy)
    assert refusal(world)[0] == code
    assert not world.sites[0].wire.leaves


def test_a_plan_that_was_not_agreed_to(make: Make) -> None:
    world = make(at("invitation", lambda order: replace(order, plan=Digest("f" * 64))))
    world.run()
    assert [(who, answer.code) for who, answer in world.hub.failed] == [(VICTIM, "not_joined")]


def padded(order: Secure) -> Secure:
    return replace(order, manifest=(*order.manifest, Pin(ClientName("sybil"), Digest("f" * 64))))


def rekeyed(order: Secure) -> Secure:
    first, second, *rest = order.manifest
    return replace(order, manifest=(first, Pin(second.name, Digest("f" * 64)), *rest))


def of_round_two(world: World) -> None:
    """Play round 1, then begin round 2 from another model."""
    world.run()
    world.hub.round, world.hub.attempt, world.hub.model = 2, 0, model_of(1)
    world.hub.open()


@pytest.mark.parametrize("harm", [padded, rekeyed])
def test_the_roster_of_a_run_does_not_change_later(make: Make, harm: Callable[[Secure], Secure]) -> None:
    world = make(lambda _, order: harm(order) if order.attempt.round == 2 else order)
    of_round_two(world)
    assert refusal(world)[0] == "roster_not_pinned"


def test_a_pinned_roster_is_compared_with_the_policy_and_said_to_be(make: Make) -> None:
    hub = World(make().folder / "again", 3).hub
    pinned = manifest_digest(hub.pins)
    world = make(policy=Policy(roster_digest=pinned))
    world.run()
    assert not world.hub.failed
    (line,) = (line for line in world.sites[0].vault.audit() if line.kind == "roster_pinned")
    assert (line.detail["digest"], line.detail["compared"]) == (pinned, "roster_digest")


@pytest.mark.parametrize("kind", ["copied", "machine"])
def test_a_copied_folder_leaves_its_attempts_and_the_round(make: Make, kind: str) -> None:
    world = make()
    world.run(until=s.Uploading)
    site, text = world.sites[0], "restored"
    site.stop()
    if kind == "copied":
        database = site.folder / "state.db"
        shutil.copy(database, site.folder / "copy")
        database.unlink()
        (site.folder / "copy").rename(database)
        site.start()
    else:
        site.start()
        site.vault._db.execute("UPDATE place SET value = 'x' WHERE key = 'machine id'")
        site.restart()
    assert "is a copy" in site.attempts.rolled_back
    assert not site.vault.rows("SELECT * FROM attempts WHERE state IS NOT NULL", ())
    assert refusal(world)[0] == "state_rolled_back"  # what belongs to the attempt that it left
    world.hub.failed.clear()
    world.hub.away.clear()
    world.hub.open()  # another attempt of the same round
    world.run()
    assert {answer.code for who, answer in world.hub.failed if who == VICTIM} == {"state_rolled_back"}
    assert text in world.hub.failed[0][1].text
    world.hub.failed.clear()
    world.hub.away.clear()
    world.hub.round, world.hub.attempt, world.hub.model = 2, 0, model_of(1)
    world.hub.open()
    world.run()
    assert isinstance(world.hub.stage, s.Revealing)
    assert not world.hub.failed


def test_an_older_state_put_back_is_known_by_an_own_statement(make: Make) -> None:
    """The keys of an attempt are shown to a site whose disk was put back to before it made others."""
    world = make()
    site = world.sites[0]
    while not isinstance(site.state, Polling) or not site.wire.leaves:
        site.turn()
    (row,) = site.vault.rows("SELECT state FROM attempts", ())
    old = row[0]
    site.vault._db.execute("DELETE FROM attempts")
    site.vault._db.execute("UPDATE secure_runs SET round = 0, attempt = 0")
    site.restart()
    entry = world.hub.stage.book.entries[0]
    world.hub.stage = s.begin(world.hub.stage.book.setup)
    while not world.hub.stage.book.entries:
        site.turn()
    assert entry != world.hub.stage.book.entries[0]
    site.vault._db.execute("UPDATE attempts SET state = ?", (old,))
    site.restart()
    assert refusal(world)[0] == "state_rolled_back"
    assert not shared(site)


def test_a_certificate_with_a_signature_that_the_disk_does_not_know(make: Make) -> None:
    key, ctx = identity(VICTIM), bytes(32)
    certificate = AbandonCertificate(ctx, ((1, abandon(ctx).sign(key)),))
    world = make(at("invitation", lambda order: replace(order, certificates=(certificate.encode(),))))
    assert refusal(world)[0] == "state_rolled_back"
    assert not world.sites[0].wire.leaves


def test_a_foreign_certificate_says_nothing_and_a_damaged_one_is_refused(make: Make) -> None:
    foreign = AbandonCertificate(bytes(32), ((2, abandon(bytes(32)).sign(identity(name_of(2)))),))
    world = make(at("invitation", lambda order: replace(order, certificates=(foreign.encode(),))))
    world.run()
    assert not world.hub.failed
    world = make(at("invitation", lambda order: replace(order, certificates=(b"x",))))
    assert refusal(world)[0] == "bad_certificate"


@pytest.mark.parametrize(
    ("round_", "attempt", "code"), [(1, 3, "round_replayed"), (2, 1, "attempt_replayed")]
)
def test_replayed_attempts(make: Make, round_: int, attempt: int, code: str) -> None:
    world = make()
    of_round_two(world)
    world.run()
    hub = world.hub
    hub.round, hub.attempt = round_, attempt - 1
    hub.open()
    world.sites[0].driver._p.protection.round_over(RUN, 2)
    assert refusal(world)[0] == code


def test_a_run_that_is_over_is_over(make: Make) -> None:
    world = make()
    world.run()
    world.sites[0].driver._p.protection.run_over(RUN)
    world.hub.round, world.hub.attempt = 2, 0
    world.hub.open()
    assert refusal(world)[0] == "round_replayed"


def test_a_second_attempt_after_the_reveal(make: Make) -> None:
    world = make()
    world.run()
    world.hub.open()
    assert refusal(world)[0] == "already_released"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("leg", ["survivors", "quorum", "invitation"])
def test_a_lie_that_the_round_is_over_frees_nobody(make: Make, leg: str, restarted: bool) -> None:
    """The site forgets the attempt's secrets, as it is told, and not that its sum may be opened.

    Before the reveal, or when the next attempt begins.
    """
    told: list[int] = []

    def lie(_: ClientName, order: Secure) -> Secure:
        victim, attempt = world.sites[0], order.attempt.attempt
        if order.leg == leg and victim.vault.kept() and not told:
            told.append(attempt)
            victim.driver._round_over(RUN, 1)
            assert victim.vault.kept() == ()
        return order

    world = make(lie)
    world.run()
    world.hub.open()
    world.run()
    site = world.sites[0]
    if restarted:
        site.restart()
    assert told
    assert [release.attempt.attempt for release in site.protection._store.releases(RUN)] == [1]
    assert site.protection._store.state(Attempt(RUN, 1, 2)) is None
    assert {answer.code for who, answer in world.hub.failed if who == VICTIM} <= {
        "wrong_phase",
        "already_released",
    }


def test_the_same_model_again_in_another_round(make: Make) -> None:
    world = make()
    world.run()
    world.hub.round, world.hub.attempt = 2, 0
    world.hub.open()
    assert refusal(world)[0] == "already_released"


def test_a_policy_may_allow_more_releases(make: Make) -> None:
    world = make(policy=Policy(max_releases_per_model=2))
    world.run()
    world.hub.round, world.hub.attempt = 2, 0
    world.hub.open()
    world.run()
    assert not world.hub.failed


# rows 7 to 13


def in_roster(change: Callable[[Roster], Roster]) -> Change:
    return at("roster", lambda order: changed(order, message=change(Roster.decode(order.message)).encode()))


def other_spec(roster: Roster, **fields: object) -> Roster:
    layout = replace(Layout.decode(roster.spec.codec), **fields)  # type: ignore[arg-type]
    return replace(roster, spec=replace(roster.spec, codec=layout.encode(), length=layout.bytes))


def other_bound(factor: float) -> Callable[[Roster], Roster]:
    def change(roster: Roster) -> Roster:
        (part,) = Layout.decode(roster.spec.codec).parts
        return other_spec(roster, parts=(replace(part, bound=part.bound * factor),))

    return change


def sybil(roster: Roster) -> Roster:
    key = identity("sybil")
    entry = replace(roster.entries[1], name=ClientName("sybil"), identity=key.public)
    return replace(roster, entries=(*roster.entries[:2], signed(entry, key)))


def other_key(roster: Roster) -> Roster:
    first, second, third = roster.entries
    return replace(roster, entries=(first, replace(second, c=bytes(32)), third))


ROSTERS: list[tuple[Callable[[Roster], Roster], str]] = [
    (lambda roster: replace(roster, entries=roster.entries[:2]), "cohort_too_small"),
    (sybil, "roster_padded"),
    (other_key, "bad_signature"),
    (lambda r: replace(r, spec=replace(r.spec, terms=replace(r.spec.terms, threshold=1))), "wrong_threshold"),
    (lambda r: replace(r, spec=replace(r.spec, codec=b"x")), "spec_mismatch"),
    (lambda r: other_spec(r, lanes=16), "spec_mismatch"),
    (lambda r: other_spec(r, head=("one", "weight", "age.sum", "age.count")), "spec_mismatch"),
    (other_bound(4.0), "clip_out_of_rule"),
    (lambda r: other_spec(r, parts=()), "spec_mismatch"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code"), ROSTERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_rosters_that_are_refused(make: Make, change: Callable[[Roster], Roster], code: str) -> None:
    world = make(in_roster(change))
    assert refusal(world)[0] == code
    assert not shared(world.sites[0])


def test_a_bound_may_follow_the_rule_over_rounds_and_not_jump(make: Make) -> None:
    world = make()
    first = bound_of(world.hub.model)
    world.hub.bounds = (first / 4,)
    world.run()
    assert not world.hub.failed
    world.hub.round, world.hub.attempt, world.hub.model = 3, 0, model_of(1)
    world.hub.bounds = (first,)  # twice in each of two rounds
    world.hub.open()
    world.run()
    assert not world.hub.failed
    world.sites[0].restart()
    world.hub.round, world.hub.attempt, world.hub.model = 4, 0, model_of(2)
    world.hub.bounds = (first * 2.5,)
    world.hub.open()
    assert refusal(world)[0] == "clip_out_of_rule"


# rows 14 to 19


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_that_is_not_finite_is_not_shared_under(make: Make, wrong: float) -> None:
    world = make()
    good = world.hub.model
    raw = bytearray(good)
    raw[-4:] = struct.pack("<f", wrong)
    world.hub.model = bytes(raw)
    assert refusal(world)[0] == "bad_model"
    assert not shared(world.sites[0])


def test_a_model_of_another_run(make: Make) -> None:
    world = make()
    world.hub.model = write({"v": np.zeros(5000, np.float32)})
    assert refusal(world)[0] == "bad_model"


def test_a_second_roster_for_the_same_keys(make: Make) -> None:
    """First the true one; then, before the deal, one without the last entry and its spec."""
    world = make(n=4)
    world.run(until=s.Uploading)
    site, hub = world.sites[0], world.hub
    roster = hub.stage.book.roster
    other = Roster(roster.entries[:3], hub.spec(3))
    order = hub.order(VICTIM)
    assert order is not None
    hub.change = lambda who, real: changed(order, message=other.encode()) if who == VICTIM else real
    assert refusal(world)[0] == "second_context"
    assert shared(site) == 1
