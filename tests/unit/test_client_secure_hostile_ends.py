"""A hostile coordinator against a real client's runtime, from the deal on: refused by its code, audited."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from client_secure_world import RUN, Change, changed, model_of
from hostile_scene import VICTIM, Make, approve, at, refusal, scenes, word
from secagg_world import name_of

from unisono.client.session import Attempt as At
from unisono.client.session import Work
from unisono.codec import Spec as Layout
from unisono.plan import digest
from unisono.secagg import server as s
from unisono.secagg.shared.messages import Closing, Deal, Quorum, Survivor, Survivors, Upload

make = pytest.fixture(scenes)


def in_deal(change: Callable[[Deal], Deal]) -> Change:
    return at("deal", lambda order: changed(order, message=change(Deal.decode(order.message)).encode()))


def spoilt(deal: Deal) -> Deal:
    first = deal.parcels[0]
    box = bytes([first.parcel.box[0] ^ 1]) + first.parcel.box[1:]
    return replace(deal, parcels=(replace(first, parcel=replace(first.parcel, box=box)), *deal.parcels[1:]))


def unsigned(deal: Deal) -> Deal:
    first = deal.parcels[0]
    return replace(deal, parcels=(replace(first, signature=bytes(64)), *deal.parcels[1:]))


def test_a_set_cut_down_for_one_victim(make: Make) -> None:
    world = make(in_deal(lambda deal: replace(deal, u1=deal.u1[:2], parcels=deal.parcels[:1])))
    assert refusal(world)[0] == "too_few_shared"
    assert "released" not in world.sites[0].kinds()


def test_a_peer_on_another_context_is_named(make: Make) -> None:
    assert refusal(make(in_deal(unsigned))) == ("other_context", name_of(2))


def test_a_parcel_that_does_not_open_is_complained_of(make: Make) -> None:
    world = make(in_deal(spoilt))
    world.run(until=s.Agreeing)
    site = world.sites[0]
    assert b"complaint" in site.wire.leaves[-1][:60]
    assert not [who for who, _ in world.hub.failed if who == VICTIM]
    (line,) = (line for line in site.vault.audit() if line.kind == "refused")
    assert (line.detail["code"], line.detail["peer"]) == ("share_unreadable", name_of(2))
    assert "released" not in site.kinds()


# rows 20 to 24, and after them


def in_survivors(change: Callable[[Survivors], Survivors]) -> Change:
    return at("survivors", lambda o: changed(o, message=change(Survivors.decode(o.message)).encode()))


def in_quorum(change: Callable[[Quorum], Quorum]) -> Change:
    return at("quorum", lambda o: changed(o, message=change(Quorum.decode(o.message)).encode()))


def unsigned_upload(survivors: Survivors) -> Survivors:
    first, second, *rest = survivors.members
    return Survivors((first, replace(second, signature=bytes(64)), *rest))


ENDS: list[tuple[Change, str, bool]] = [
    (in_survivors(lambda s_: replace(s_, members=s_.members[:2])), "too_few_survivors", False),
    (in_survivors(lambda s_: replace(s_, members=s_.members[1:])), "not_a_survivor", False),
    (in_survivors(unsigned_upload), "survivor_not_signed", True),
    (in_quorum(lambda q: replace(q, signatures=q.signatures[:1])), "no_quorum", True),
    (in_quorum(lambda q: replace(q, dropped=(q.survivors[1],))), "dead_and_alive", True),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "stops"), ENDS, ids=word)
def test_ends_that_are_refused_and_what_stops_a_run(
    make: Make, change: Change, code: str, stops: bool
) -> None:
    world = make(change)
    assert refusal(world)[0] == code
    site = world.sites[0]
    assert "revealed" not in site.kinds()
    assert site.attempts.stop(RUN)[0].startswith(code) == stops
    if not stops:
        return
    hub = world.hub
    hub.change = lambda _, order: order
    hub.failed.clear()
    hub.away.clear()
    hub.round, hub.attempt, hub.model = 2, 0, model_of(1)
    hub.open()
    site.restart()
    world.run()
    assert [(who, answer.code) for who, answer in hub.failed] == [(VICTIM, code)]
    site.clock.advance(1.0)
    approve(site, digest(hub.plan))
    hub.failed.clear()
    hub.away.clear()
    hub.attempt = 1
    hub.open()
    world.run()
    assert not hub.failed
    assert "resumed" in site.kinds()


def test_another_survivor_set_after_the_first(make: Make) -> None:
    world = make(n=4)
    world.run(until=s.Revealing)
    hub, site = world.hub, world.sites[0]
    order = hub.order(VICTIM)
    assert order is not None
    members = [member for member in _survivors(dict(world.hub.stage.book.uploads)) if member.number != 4]
    hub.change = lambda who, real: (
        changed(order, message=Survivors(tuple(members)).encode()) if who == VICTIM else real
    )
    assert refusal(world)[0] == "second_survivor_set"
    assert "revealed" not in site.kinds()


def _survivors(uploads: dict[int, Upload]) -> list[Survivor]:
    return [Survivor(number, upload.digest, upload.signature) for number, upload in sorted(uploads.items())]


def test_abandoning_after_the_reveal_and_without_an_attempt(make: Make) -> None:
    world = make()
    world.run()
    hub = world.hub
    before = hub.last[VICTIM][0]
    hub.change = lambda who, real: (
        changed(before, message=Closing(hub.digest).encode()) if who == VICTIM else real
    )
    world.sites[0].restart()
    assert refusal(world)[0] == "already_revealed"
    world = make()
    order = world.hub.order(VICTIM)
    assert order is not None
    closing = changed(order, message=Closing(world.hub.digest).encode())
    world.hub.change = lambda who, real: closing if who == VICTIM else real
    assert refusal(world)[0] == "wrong_phase"


def test_a_refused_attempt_may_still_be_closed(make: Make) -> None:
    world = make(in_survivors(lambda found: replace(found, members=found.members[:2])))
    world.run(until=s.Agreeing)
    assert refusal(world)[0] == "too_few_survivors"
    hub = world.hub
    hub.away.clear()
    hub.close()
    world.run()
    assert "abandoned" in world.sites[0].kinds()
    assert len(hub.failed) == 1


@pytest.mark.parametrize("leg", ["roster", "deal", "survivors", "quorum"])
def test_messages_that_cannot_be_read(make: Make, leg: str) -> None:
    world = make(at(leg, lambda order: replace(order, message=order.message[:-1])))
    assert refusal(world)[0] == "bad_message"


def test_work_in_the_clear_for_a_plan_under_secure_aggregation(make: Make) -> None:
    world = make()
    site, hub = world.sites[0], world.hub
    spec = Layout.decode(hub.spec(3).codec)
    work = Work(
        At(RUN, 1, 1), "train", digest(hub.plan), hub.digest, len(hub.model), spec.encode(), spec.digest, 60.0
    )
    known = site.driver._p.knowledge.of(work, "aa")
    assert known.objection is not None
    assert known.objection.code == "bad_spec"
    assert 'protection "secagg"' in known.objection.reason
