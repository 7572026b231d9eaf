"""A coordinator that lies, one case at least for each row of reference 1.4 that belongs to the protocol.

It knows everything that any client sent, signs for colluding sites, and shows one victim (site 1) what it
likes.  Every case ends in that row's refusal; the state is unchanged (states are values) and nothing is sent.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from secagg_world import (
    MODEL,
    Site,
    entropy_of,
    identity,
    journey,
    name_of,
    names,
    spec_of,
)

from unisono.base.ids import ClientName, RunId
from unisono.crypto import sha256, sha256_hex
from unisono.crypto.keys import KEM_PUBLIC
from unisono.secagg import client as c
from unisono.secagg.client.refusals import Refusal
from unisono.secagg.client.state import Bound
from unisono.secagg.shared import statements
from unisono.secagg.shared.messages import (
    Agree,
    Closing,
    Complaint,
    Deal,
    Dealt,
    Quorum,
    Share,
    Survivor,
    Survivors,
    Upload,
)
from unisono.secagg.shared.roster import Attempt, Entry, Roster, context
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.terms import Terms

TRIP = journey()  # n = 5, c = 0: t = q = m = 3; U1 = 1..5, U2 = 1..4
WHO = names(5)
ME = WHO[0]
SITE: Site = TRIP.world.sites[ME]
ROSTER, DEAL = TRIP.sent(Roster), TRIP.sent(Deal)
SURVIVORS, QUORUM = TRIP.sent(Survivors), TRIP.sent(Quorum)
FRAME = TRIP.state(c.Revealed).frame
CTX, U1, U2 = FRAME.ctx, TRIP.state(c.Revealed).u1, TRIP.state(c.Revealed).u2


def refused(code: str, act: Callable[[], object], peer: ClientName | None = None) -> None:
    with pytest.raises(Refusal) as caught:
        act()
    assert caught.value.code == code
    assert caught.value.peer == peer


# leg 0


def shown(roster: Roster, setup: c.Setup | None = None) -> Callable[[], object]:
    state = TRIP.state(c.Advertised)
    if setup is not None:
        state = replace(state, setup=setup)
    return lambda: state.receive_roster(roster, SITE.spec_for)


def policy(min_cohort: int = 0, max_colluding: int = 0, only: Bound | None = None) -> c.Setup:
    return replace(SITE.setup, min_cohort=min_cohort, max_colluding=max_colluding, only=only)


def fields_of(changes: dict[str, bytes]) -> Any:
    """Let the type checker believe that these are fields of whatever is replaced."""
    return changes


def with_entry(number: int, entry: Entry) -> Roster:
    entries = list(ROSTER.entries)
    entries[number - 1] = entry
    return Roster(tuple(entries), ROSTER.spec)


def resigned(entry: Entry, name: str) -> Entry:
    """Signed by the (colluding) site of this name."""
    statement = statements.advertise(entry.ctx0, entry.name, entry.keys)
    return replace(entry, signature=statement.sign(identity(name)))


def advertised_by(name: str, attempt: Attempt, like: str = "") -> Entry:
    """A fresh advertisement, well signed, for any attempt."""
    state, _ = c.begin(
        replace(SITE.setup, name=ClientName(like or name), attempt=attempt),
        identity(name),
        entropy_of("hostile"),
    ).after(lambda data: None)
    assert isinstance(state, c.Advertised)
    return state.entry


def test_row_7_cohort_too_small() -> None:
    refused("cohort_too_small", shown(Roster(ROSTER.entries[:2], spec_of(5))))
    refused("cohort_too_small", shown(ROSTER, policy(min_cohort=6)))
    refused("cohort_too_small", shown(Roster(ROSTER.entries * 21, spec_of(5))))


def test_row_8_roster_padded() -> None:
    sybil = resigned(
        replace(ROSTER.entry(5), name=ClientName("sybil"), identity=identity("sybil").public), "sybil"
    )
    refused("roster_padded", shown(with_entry(5, sybil)), ClientName("sybil"))
    taken_over = resigned(replace(ROSTER.entry(3), identity=identity("sybil").public), "sybil")
    refused("roster_padded", shown(with_entry(3, taken_over)), WHO[2])
    refused("roster_padded", shown(Roster(ROSTER.entries[::-1], ROSTER.spec)))
    refused("roster_padded", shown(with_entry(5, ROSTER.entry(4))))


def test_row_9_unsigned_and_swapped_keys() -> None:
    refused("bad_signature", shown(with_entry(2, replace(ROSTER.entry(2), signature=bytes(64)))), WHO[1])
    swapped = replace(ROSTER.entry(2), c=advertised_by(WHO[1], SITE.setup.attempt).c)
    refused("bad_signature", shown(with_entry(2, swapped)), WHO[1])
    refused("bad_signature", shown(with_entry(2, resigned(ROSTER.entry(2), WHO[2]))), WHO[1])


@pytest.mark.parametrize("changed", ["run", "round", "attempt", "plan"])
def test_row_9_foreign_keys(changed: str) -> None:
    here = SITE.setup.attempt
    elsewhere = {
        "run": replace(here, run=RunId("r-0002")),
        "round": replace(here, round=2),
        "attempt": replace(here, attempt=2),
        "plan": replace(here, plan=sha256_hex(b"another plan")),
    }[changed]
    foreign = advertised_by(WHO[1], elsewhere)
    refused("foreign_keys", shown(with_entry(2, foreign)), WHO[1])
    pretended = replace(foreign, ctx0=here.ctx0)  # and relabelled, its signature does not hold
    refused("bad_signature", shown(with_entry(2, pretended)), WHO[1])


@pytest.mark.parametrize("key", ["c", "s", "ec", "es"])
def test_row_10_duplicate_key(key: str) -> None:
    reflected = resigned(replace(ROSTER.entry(2), **fields_of({key: getattr(ROSTER.entry(1), key)})), WHO[1])
    refused("duplicate_key", shown(with_entry(2, reflected)))


def test_row_10_a_key_in_two_places() -> None:
    entry = resigned(replace(ROSTER.entry(2), c=ROSTER.entry(2).s), WHO[1])
    refused("duplicate_key", shown(with_entry(2, entry)))


def test_row_11_own_keys_changed() -> None:
    """Even with a valid own signature: only a copied state could have made it."""
    refused("own_keys_changed", shown(with_entry(1, advertised_by(ME, SITE.setup.attempt))))
    others = [advertised_by(WHO[n], SITE.setup.attempt) for n in range(1)]
    assert others[0] != ROSTER.entry(1)
    assert c.refusals.OwnKeysChanged.stops_run


@pytest.mark.parametrize(
    "terms",
    [
        Terms(5, 0, 2, 3),  # t one too low
        Terms(5, 0, 4, 4),  # t one too high: fewer could block, not open, but it is not the rule
        Terms(5, 0, 3, 2),  # m below t
        Terms(5, 4, 5, 6),  # c above n - 2
        Terms(4, 0, 3, 3),  # counts another roster
    ],
)
def test_row_12_wrong_threshold(terms: Terms) -> None:
    spec = replace(ROSTER.spec, terms=terms)
    refused("wrong_threshold", shown(Roster(ROSTER.entries, spec)))


def test_row_12_below_the_policy() -> None:
    refused("wrong_threshold", shown(ROSTER, policy(max_colluding=1)))
    refused("wrong_threshold", shown(ROSTER, policy(min_cohort=4)))  # m = 3 < 4 <= n


@pytest.mark.parametrize(
    "spec",
    [
        replace(ROSTER.spec, codec=b"less noise"),
        replace(ROSTER.spec, length=48),
        replace(ROSTER.spec, terms=Terms.of(5, 1)),
        replace(ROSTER.spec, protection="sealed"),
    ],
)
def test_row_13_spec_mismatch(spec: Spec) -> None:
    refused("spec_mismatch", shown(Roster(ROSTER.entries, spec)))


# leg 1


def test_row_15_second_context() -> None:
    """A second roster or model for the same keys."""
    late = Roster(ROSTER.entries[:4], spec_of(4, words=5))
    other_model = sha256_hex(b"another model")
    for kind in (c.Rostered, c.Shared, c.Ready, c.Committed, c.Uploaded, c.Agreed, c.Revealed):
        state = TRIP.states[kind]
        refused("second_context", lambda state=state: state.receive_roster(late, SITE.spec_for))  # type: ignore[misc]
    for kind in (c.Shared, c.Ready, c.Committed, c.Uploaded, c.Agreed, c.Revealed):
        state = TRIP.states[kind]
        refused(
            "second_context",
            lambda state=state: state.share(other_model, SITE.key, entropy_of("x")),  # type: ignore[misc]
        )


@pytest.mark.parametrize("key", ["c", "s", "ec", "es"])
def test_row_16_weak_key(key: str) -> None:
    """Small order, or no point of the lattice: a colluder signs for it."""
    weak = b"\1" + bytes(31) if len(key) == 1 else b"\xff" * KEM_PUBLIC
    roster = with_entry(2, resigned(replace(ROSTER.entry(2), **fields_of({key: weak})), WHO[1]))
    state, _ = TRIP.state(c.Advertised).receive_roster(roster, SITE.spec_for).after(lambda data: None)
    refused("weak_key", lambda: state.share(MODEL, SITE.key, entropy_of("x")), WHO[1])


def dealt(deal: Deal, state: c.State | None = None) -> Callable[[], object]:
    return lambda: (state or TRIP.state(c.Shared)).receive_deal(deal)


def to(*numbers: int) -> Deal:
    """The deal with U1 cut down to these."""
    return Deal(numbers, tuple(d for d in DEAL.parcels if d.sender in numbers))


def test_row_17_u1_cut_down_for_one_victim() -> None:
    refused("too_few_shared", dealt(to(1, 2)))
    refused("too_few_shared", dealt(to(1)))


def test_row_17_u1_without_the_victim_or_beyond_the_roster() -> None:
    refused("too_few_shared", dealt(to(2, 3, 4, 5)))
    refused("too_few_shared", dealt(Deal((1, 2, 3, 6), DEAL.parcels[:2])))
    refused("too_few_shared", dealt(replace(DEAL, u1=(1, 2, 3))))  # parcels of more than U1


def test_row_17_second_share_set() -> None:
    for kind in (c.Ready, c.Committed, c.Uploaded, c.Agreed, c.Revealed):
        refused("second_share_set", dealt(to(1, 2, 3), TRIP.states[kind]))


def with_parcel(number: int, **changes: bytes) -> Deal:
    parcels = [
        replace(d, parcel=replace(d.parcel, **fields_of(changes))) if d.sender == number else d
        for d in DEAL.parcels
    ]
    return Deal(DEAL.u1, tuple(parcels))


def test_row_18_other_context() -> None:
    """Another model, spec or roster was shown to site 3: its statement is over another ctx."""
    for ctx in (
        context(SITE.setup.attempt, sha256_hex(b"crafted"), ROSTER),
        context(SITE.setup.attempt, MODEL, Roster(ROSTER.entries, spec_of(5, 1))),
        context(SITE.setup.attempt, MODEL, Roster(ROSTER.entries[:4], ROSTER.spec)),
    ):
        signature = statements.share(ctx, 3).sign(identity(WHO[2]))
        parcels = tuple(replace(d, signature=signature) if d.sender == 3 else d for d in DEAL.parcels)
        refused("other_context", dealt(Deal(DEAL.u1, parcels)), WHO[2])
    borrowed = tuple(replace(d, signature=DEAL.parcels[0].signature) for d in DEAL.parcels)
    refused("other_context", dealt(Deal(DEAL.u1, borrowed)), WHO[2])


def test_row_18_the_coordinator_shows_the_victim_another_model() -> None:
    """The victim's own context differs from everybody's: it refuses before its update leaves."""
    crafted, rostered = sha256_hex(b"crafted"), TRIP.state(c.Rostered)
    invited = replace(rostered, setup=replace(rostered.setup, model=crafted))
    state, _ = invited.share(crafted, SITE.key, entropy_of("x")).after(lambda data: None)
    refused("other_context", dealt(DEAL, state), WHO[1])


def test_row_15_another_model_than_that_of_the_invitation() -> None:
    """Row 5 was checked for the one of the invitation; the other may be one that was released from."""
    rostered, crafted = TRIP.state(c.Rostered), sha256_hex(b"crafted")
    refused("second_context", lambda: rostered.share(crafted, SITE.key, entropy_of("x")))
    refused("other_context", lambda: rostered.abandon(Closing(crafted), SITE.key))


def test_row_19_share_unreadable() -> None:
    theirs = TRIP.said(Share, WHO[2]).parcels  # site 3's parcels, for 1, 2, 4, 5
    for_another = tuple(Dealt(3, theirs[1], d.signature) if d.sender == 3 else d for d in DEAL.parcels)
    refused("share_unreadable", dealt(Deal(DEAL.u1, for_another)), WHO[2])
    original = next(d.parcel for d in DEAL.parcels if d.sender == 3)
    altered = bytes([original.box[0] ^ 1]) + original.box[1:]
    refused("share_unreadable", dealt(with_parcel(3, box=altered)), WHO[2])
    refused("share_unreadable", dealt(with_parcel(3, share_kem=theirs[1].share_kem)), WHO[2])
    refused("share_unreadable", dealt(with_parcel(3, mask_kem=theirs[1].mask_kem)), WHO[2])
    missing = Deal(DEAL.u1, tuple(d for d in DEAL.parcels if d.sender != 3))
    refused("share_unreadable", dealt(missing), WHO[2])


def test_row_19_is_told_to_the_coordinator() -> None:
    state = TRIP.state(c.Shared)
    altered = with_parcel(3, box=bytes(82))
    with pytest.raises(c.refusals.ShareUnreadable) as caught:
        state.receive_deal(altered)
    assert Complaint.decode(state.complaint(caught.value)) == Complaint(3)


# leg 2


def test_row_20_update_out_of_range_and_vector_changed() -> None:
    ready, digest = TRIP.state(c.Ready), sha256(SITE.vector)
    refused("update_out_of_range", lambda: ready.commit(digest, SITE.vector.nbytes - 8))
    committed, uploaded = TRIP.state(c.Committed), TRIP.state(c.Uploaded)
    refused("vector_changed", lambda: committed.commit(sha256(b"another"), SITE.vector.nbytes))
    refused("vector_changed", lambda: uploaded.commit(sha256(b"another"), SITE.vector.nbytes))
    refused("vector_changed", lambda: uploaded.uploaded(sha256(b"other bytes"), SITE.key))


# leg 3


def frozen(survivors: Survivors, state: c.State | None = None) -> Callable[[], object]:
    return lambda: (state or TRIP.state(c.Uploaded)).receive_survivors(survivors, SITE.key)


def test_row_21_not_a_survivor() -> None:
    members = SURVIVORS.members
    refused("not_a_survivor", frozen(Survivors(members[1:])))  # without the victim
    refused("not_a_survivor", frozen(Survivors((*members, members[-1]))))  # one twice
    refused("not_a_survivor", frozen(Survivors(members[::-1])))
    refused("not_a_survivor", frozen(Survivors((*members, replace(members[0], number=6)))))  # not in U1
    other = replace(members[0], digest=sha256(b"another upload"))
    refused("not_a_survivor", frozen(Survivors((other, *members[1:]))))  # other bytes than the victim's own


def test_row_21_before_the_own_upload() -> None:
    for kind in (c.Ready, c.Committed):
        refused("not_a_survivor", frozen(SURVIVORS, TRIP.states[kind]))


def test_row_21_too_few_survivors() -> None:
    refused("too_few_survivors", frozen(Survivors(SURVIVORS.members[:2])))


def signed_upload(number: int, ctx: bytes = CTX, u1: tuple[int, ...] = U1, length: int = 40) -> Survivor:
    """What a colluding site would sign for the coordinator."""
    digest = sha256(b"never uploaded")
    statement = statements.upload(ctx, u1, length, digest)
    return Survivor(number, digest, statement.sign(identity(name_of(number))))


def test_row_22_survivor_not_signed() -> None:
    members = SURVIVORS.members
    assert c.refusals.SurvivorNotSigned.stops_run
    for crafted in (
        signed_upload(4, u1=(1, 2, 3, 4)),  # another U1 was shown to it
        signed_upload(4, ctx=sha256(b"another context")),
        signed_upload(4, length=48),
        replace(signed_upload(4), signature=bytes(64)),
        replace(members[3], digest=sha256(b"not what it signed")),
        replace(signed_upload(5), number=4),  # signed by another
    ):
        refused("survivor_not_signed", frozen(Survivors((*members[:3], crafted))), WHO[3])
    never = replace(signed_upload(5), signature=members[0].signature)
    refused("survivor_not_signed", frozen(Survivors((*members, never))), WHO[4])


def test_row_23_two_survivor_sets() -> None:
    smaller = Survivors(SURVIVORS.members[:3])
    frozen(smaller)()  # a good set by itself
    for kind in (c.Agreed, c.Revealed):
        refused("second_survivor_set", frozen(smaller, TRIP.states[kind]))


def abandoned() -> c.State:
    state, _ = TRIP.state(c.Agreed).abandon(Closing(MODEL), SITE.key).after(lambda data: None)
    return state


def test_row_23_attempt_abandoned() -> None:
    refused("attempt_abandoned", frozen(SURVIVORS, abandoned()))
    refused("attempt_abandoned", lambda: abandoned().receive_quorum(QUORUM))
    refused("attempt_abandoned", lambda: abandoned().uploaded(bytes(32), SITE.key))


# leg 4


def asked(quorum: Quorum, state: c.State | None = None) -> Callable[[], object]:
    return lambda: (state or TRIP.state(c.Agreed)).receive_quorum(quorum)


def agreement(number: int, ctx: bytes = CTX, u1: tuple[int, ...] = U1, u2: statements.Tally = U2) -> bytes:
    return statements.agree(ctx, u1, u2).sign(identity(name_of(number)))


def test_row_24_no_quorum() -> None:
    assert c.refusals.NoQuorum.stops_run
    mine = QUORUM.signatures[:2]
    for signatures in (
        (),
        mine,  # one short of q = 3
        (*mine, mine[1]),  # one of them twice
        (*mine, (3, mine[1][1])),  # another's under a third number
        (*mine, (5, agreement(5))),  # of U1, not of U2
        (*mine, (3, agreement(3, u2=U2[:3]))),  # over another set
        (*mine, (3, agreement(3, u1=(1, 2, 3, 4)))),
        (*mine, (3, agreement(3, ctx=sha256(b"another")))),
        (*mine, (9, bytes(64)), (0, bytes(64))),
    ):
        refused("no_quorum", asked(replace(QUORUM, signatures=signatures)))
    asked(replace(QUORUM, signatures=(*mine, (3, agreement(3)))))()  # with the third it is one


def test_row_24_dead_and_alive() -> None:
    assert c.refusals.DeadAndAlive.stops_run
    for survivors, dropped in (
        ((1, 2, 3, 4), (4, 5)),  # both kinds for site 4
        ((1, 2, 3, 3), (5,)),
        ((1, 2, 3), (4, 5)),  # the other kind for site 4
        ((1, 2, 3, 4, 5), ()),
        ((1, 2, 3, 4), ()),
    ):
        refused("dead_and_alive", asked(replace(QUORUM, survivors=survivors, dropped=dropped)))


def test_row_24_already_revealed() -> None:
    revealed = TRIP.state(c.Revealed)
    refused("already_revealed", asked(replace(QUORUM, survivors=(1, 2, 3), dropped=(4, 5)), revealed))
    refused("dead_and_alive", asked(replace(QUORUM, dropped=(4, 5)), revealed))
    _, answer = revealed.receive_quorum(replace(QUORUM, signatures=QUORUM.signatures[::-1])).after(
        lambda data: None
    )
    assert answer == TRIP.up["answer", ME]  # whoever asks again for the same is told the same


def test_row_27_already_revealed() -> None:
    refused("already_revealed", lambda: TRIP.state(c.Revealed).abandon(Closing(MODEL), SITE.key))


def test_abandoning_is_of_the_own_context_only() -> None:
    request = Closing(sha256_hex(b"another model"))
    for kind in (c.Shared, c.Uploaded, c.Agreed):
        state = TRIP.states[kind]
        refused("other_context", lambda state=state: state.abandon(request, SITE.key))  # type: ignore[misc]
    refused("other_context", lambda: abandoned().abandon(request, SITE.key))


def test_an_open_release_is_repeated_or_refused() -> None:
    """Row 5's other half: under a bound only the same vector, model, spec and set."""
    only = Bound(WHO[:4], sha256(SITE.vector), MODEL, ROSTER.spec.digest)
    refused("already_released", shown(ROSTER, policy(only=replace(only, spec=bytes(32)))))
    bound = policy(only=only)
    rostered = replace(TRIP.state(c.Rostered), setup=replace(bound, model=sha256_hex(b"x")))
    refused("already_released", lambda: rostered.share(sha256_hex(b"x"), SITE.key, entropy_of("x")))
    frame = replace(FRAME, setup=bound)
    ready = replace(TRIP.state(c.Ready), frame=frame)
    refused("vector_changed", lambda: ready.commit(sha256(b"another"), SITE.vector.nbytes))
    uploaded = replace(TRIP.state(c.Uploaded), frame=frame)
    refused("already_released", frozen(Survivors(SURVIVORS.members[:3]), uploaded))
    frozen(SURVIVORS, uploaded)()


def test_every_code_of_the_table_is_here_once() -> None:
    kinds = [k for k in vars(c.refusals).values() if isinstance(k, type) and issubclass(k, Refusal)]
    codes = [k.code for k in kinds]
    assert len(codes) == len(set(codes)) == 36
    assert {k.code for k in kinds if k.stops_run} == {
        "own_keys_changed",
        "survivor_not_signed",
        "no_quorum",
        "dead_and_alive",
    }


def test_an_upload_statement_is_of_the_masked_bytes() -> None:
    said, agreed = TRIP.said(Upload, ME), TRIP.said(Agree, ME)
    assert SITE.upload is not None
    assert said.digest == sha256(SITE.upload) != sha256(SITE.vector)
    assert agreed.signature == agreement(1)
