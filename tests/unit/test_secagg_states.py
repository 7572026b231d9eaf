"""Every state with every message, on both sides: what it takes, what it takes again, what it refuses."""

from collections.abc import Callable

import pytest
from secagg_world import MODEL, Journey, entropy_of, journey, name_of, spec_of

from unisono.base.errors import BadMessage, Error, Refused, WrongPhase
from unisono.crypto import sha256
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.messages import (
    Abandon,
    Agree,
    Answer,
    Closing,
    Complaint,
    Deal,
    Quorum,
    Share,
    Survivors,
    Upload,
)
from unisono.secagg.shared.roster import Entry, Roster
from unisono.secagg.shared.statements import abandon

TRIP = journey()
FIRST = name_of(1)
SITE = TRIP.world.sites[FIRST]
CLOSING = Closing(MODEL)
WRONG, AGAIN = "wrong_phase", "again"
Event = Callable[[c.State], "c.Move[c.State]"]
EVENTS: dict[str, Event] = {
    "roster": lambda state: state.receive_roster(TRIP.sent(Roster), SITE.spec_for),
    "share": lambda state: state.share(MODEL, SITE.key, entropy_of("again")),
    "deal": lambda state: state.receive_deal(TRIP.sent(Deal)),
    "commit": lambda state: state.commit(sha256(SITE.vector), SITE.vector.nbytes),
    "uploaded": lambda state: state.uploaded(TRIP.said(Upload, FIRST).digest, SITE.key),
    "survivors": lambda state: state.receive_survivors(TRIP.sent(Survivors), SITE.key),
    "quorum": lambda state: state.receive_quorum(TRIP.sent(Quorum)),
    "abandon": lambda state: state.abandon(CLOSING, SITE.key),
}
GONE = "attempt_abandoned"
CLIENT: dict[type[c.State], tuple[str, ...]] = {  # in the order of EVENTS; "again": no new state
    c.Advertised: ("Rostered", WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG),
    c.Rostered: (AGAIN, "Shared", WRONG, WRONG, WRONG, WRONG, WRONG, "Abandoned"),
    c.Shared: (AGAIN, AGAIN, "Ready", WRONG, WRONG, WRONG, WRONG, "Abandoned"),
    c.Ready: (AGAIN, WRONG, AGAIN, "Committed", WRONG, "not_a_survivor", WRONG, "Abandoned"),
    c.Committed: (AGAIN, WRONG, AGAIN, AGAIN, "Uploaded", "not_a_survivor", WRONG, "Abandoned"),
    c.Uploaded: (AGAIN, WRONG, AGAIN, AGAIN, AGAIN, "Agreed", WRONG, "Abandoned"),
    c.Agreed: (AGAIN, WRONG, AGAIN, WRONG, WRONG, AGAIN, "Revealed", "Abandoned"),
    c.Revealed: (AGAIN, WRONG, AGAIN, WRONG, WRONG, AGAIN, AGAIN, "already_revealed"),
    c.Abandoned: (GONE, GONE, GONE, GONE, GONE, GONE, GONE, AGAIN),
}
ANSWERS: dict[
    tuple[type[c.State], str], type[Coded]
] = {  # a repeated message is answered with the same bytes: what was lost is sent again
    (c.Shared, "roster"): Share,
    (c.Shared, "share"): Share,
    (c.Uploaded, "deal"): Upload,
    (c.Uploaded, "commit"): Upload,
    (c.Uploaded, "uploaded"): Upload,
    (c.Agreed, "survivors"): Agree,
    (c.Revealed, "survivors"): Agree,
    (c.Revealed, "quorum"): Answer,
}


def all_states() -> dict[type[c.State], c.State]:
    abandoned, _ = TRIP.state(c.Agreed).abandon(CLOSING, SITE.key).after(lambda data: None)
    return {**TRIP.states, c.Abandoned: abandoned}


def test_the_journey_met_every_state() -> None:
    assert set(all_states()) == set(CLIENT)
    assert set(TRIP.stages) == set(SERVER) - {s.Closing}


@pytest.mark.parametrize("kind", CLIENT, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("event", EVENTS)
def test_client(kind: type[c.State], event: str) -> None:
    state, saved = all_states()[kind], list[bytes]()
    expected = CLIENT[kind][list(EVENTS).index(event)]
    if expected.islower() and expected != AGAIN:
        with pytest.raises(Refused) as caught:
            EVENTS[event](state)
        assert caught.value.code == expected
        return
    after, message = EVENTS[event](state).after(saved.append)
    assert saved == [after.encode()]
    if expected == AGAIN:
        assert after == state
        answer = ANSWERS.get((kind, event))
        own = abandon(_ctx()).sign(SITE.key) if kind is c.Abandoned else b""
        wanted = TRIP.up[answer.kind, FIRST] if answer else Abandon(own).encode() if own else None
        assert message == wanted
    else:
        assert type(after).__name__ == expected


def _ctx() -> bytes:
    return TRIP.state(c.Revealed).frame.ctx


def test_nothing_leaves_before_it_is_saved() -> None:
    """A disk that fails keeps the message: it cannot be had."""

    def full(data: bytes) -> None:
        raise OSError("no space left on device")

    for move in (
        TRIP.state(c.Rostered).share(MODEL, SITE.key, entropy_of("x")),
        TRIP.state(c.Committed).uploaded(TRIP.said(Upload, FIRST).digest, SITE.key),
        TRIP.state(c.Uploaded).receive_survivors(TRIP.sent(Survivors), SITE.key),
        TRIP.state(c.Agreed).receive_quorum(TRIP.sent(Quorum)),
    ):
        with pytest.raises(OSError, match="no space"):
            move.after(full)
    with pytest.raises(OSError, match="no space"):
        TRIP.stages[s.Uploading].freeze_survivors().after(full)


def test_what_is_no_longer_needed_is_forgotten() -> None:
    ready, uploaded = TRIP.state(c.Ready), TRIP.state(c.Uploaded)
    keys = TRIP.state(c.Shared).keys
    pairs = [secret for pair in TRIP.state(c.Shared).pairs for secret in (pair.c, pair.s, pair.mask)]
    for secret in (keys.c, keys.ec, keys.s, keys.es, TRIP.state(c.Shared).b, *pairs):
        assert secret in TRIP.state(c.Shared).encode()
        assert secret not in ready.encode()  # the mask keys are made; the private keys are gone
    agreed, revealed = TRIP.state(c.Agreed).encode(), TRIP.state(c.Revealed).encode()
    for mask in uploaded.masks:
        assert mask.key not in agreed
    survivors = TRIP.state(c.Revealed).survivors
    for held in uploaded.held:  # of the two shares of each client one may be told, and the other is deleted
        assert (held.b in revealed) == (held.owner in survivors)
        assert (held.v in revealed) == (held.owner not in survivors)
    abandoned = all_states()[c.Abandoned].encode()
    for held in uploaded.held:
        assert held.b not in abandoned
        assert held.v not in abandoned


# the coordinator


UPLOAD = TRIP.said(Upload, FIRST)
Verb = Callable[[s.Stage], s.Step]
VERBS: dict[str, Verb] = {
    "advertise": lambda stage: stage.advertise(FIRST, TRIP.said(Entry, FIRST)),
    "freeze_roster": lambda stage: stage.freeze_roster(spec_of(4, words=5), MODEL),
    "share": lambda stage: stage.share(FIRST, TRIP.said(Share, FIRST)),
    "freeze_shares": lambda stage: stage.freeze_shares(),
    "complain": lambda stage: stage.complain(FIRST, Complaint(2)),
    "upload": lambda stage: stage.upload(FIRST, UPLOAD, UPLOAD.length, UPLOAD.digest),
    "freeze_survivors": lambda stage: stage.freeze_survivors(),
    "agree": lambda stage: stage.agree(FIRST, TRIP.said(Agree, FIRST)),
    "certify": lambda stage: stage.certify(),
    "reveal": lambda stage: stage.reveal(FIRST, TRIP.said(Answer, FIRST)),
    "close": lambda stage: stage.close(),
    "abandon": lambda stage: stage.abandon(FIRST, Abandon(abandon(_ctx()).sign(SITE.key))),
}
W, A = WRONG, AGAIN
SERVER: dict[type[s.Stage], tuple[str, ...]] = {  # in the order of VERBS, all by or for site 1 once more
    s.Advertising: (A, "Sharing", W, W, W, W, W, W, W, W, W, W),
    s.Sharing: (A, W, A, "Uploading", W, W, W, W, W, W, "Closing", W),
    s.Uploading: (A, W, A, W, W, A, "Agreeing", W, W, W, "Closing", W),
    s.Agreeing: (A, W, A, W, W, A, W, A, "Revealing", W, "Closing", W),
    s.Revealing: (A, W, A, W, W, A, W, A, W, A, "Closing", W),
    s.Closing: (A, W, A, W, W, A, W, A, W, A, W, W),
}


def all_stages() -> dict[type[s.Stage], s.Stage]:
    closing = TRIP.stages[s.Revealing].close().after(lambda record: None)
    return {**TRIP.stages, s.Closing: closing}


@pytest.mark.parametrize("kind", SERVER, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("verb", VERBS)
def test_coordinator(kind: type[s.Stage], verb: str) -> None:
    stage, ledger = all_stages()[kind], list[bytes]()
    expected = SERVER[kind][list(VERBS).index(verb)]
    if expected == WRONG:
        with pytest.raises(Refused) as caught:
            VERBS[verb](stage)
        assert caught.value.code == WRONG
        return
    after = VERBS[verb](stage).after(ledger.append)
    if expected == AGAIN:
        assert after == stage
        assert ledger == []
    else:
        assert type(after).__name__ == expected
        assert [s.Record.decode(record).verb for record in ledger] == [verb]


def test_the_ledger_is_the_stage() -> None:
    ledger = TRIP.world.coordinator.ledger
    assert s.restore(TRIP.world.coordinator.setup, ledger) == TRIP.world.coordinator.stage
    with pytest.raises(Error, match="newer version"):
        s.restore(TRIP.world.coordinator.setup, [s.Record("dance").encode()])


def other(value: Coded) -> Coded:
    """Return a message that differs from this one in what its sender chose."""
    match value:
        case Entry():
            return TRIP.said(Entry, name_of(2))
        case Share():
            return TRIP.said(Share, name_of(2))
        case Upload():
            return Upload(value.length, sha256(b"other"), value.signature)
        case Agree():
            return Agree(bytes(64))
        case Answer():
            return Answer(value.vaults, value.selves)
    raise AssertionError(value)


@pytest.mark.parametrize("kind", [Entry, Share, Upload, Agree, Answer], ids=lambda kind: kind.__name__)
def test_a_second_statement_is_a_fault_at_every_stage(kind: type[Coded]) -> None:
    message = other(TRIP.said(kind, FIRST))
    for stage in all_stages().values():
        coordinator = _at(stage)
        with pytest.raises((s.faults.SecondStatement, WrongPhase)):
            coordinator(message)


def _at(stage: s.Stage) -> Callable[[Coded], object]:
    def receive(message: Coded) -> object:
        match message:
            case Entry():
                return stage.advertise(FIRST, message)
            case Share():
                return stage.share(FIRST, message)
            case Upload():
                return stage.upload(FIRST, message, message.length, message.digest)
            case Agree():
                return stage.agree(FIRST, message)
            case Answer():
                return stage.reveal(FIRST, message)
        raise AssertionError(message)

    return receive


def test_states_of_another_journey_are_other_bytes() -> None:
    """Two attempts share no key, mask or share."""
    again: Journey = journey(5, 1)
    ours = {mask.key for mask in TRIP.state(c.Ready).masks}
    theirs = {mask.key for mask in again.state(c.Ready).masks}
    assert len(ours) == len(theirs) == 5
    assert not ours & theirs


def test_an_attempt_that_its_manifest_does_not_name_is_refused() -> None:
    setup = SITE.setup
    with pytest.raises(BadMessage, match="does not have the digest"):
        c.Setup(setup.name, setup.attempt, setup.pins[1:], 0, 0, None, MODEL)
    with pytest.raises(BadMessage, match="does not list"):
        c.begin(setup, TRIP.world.sites[name_of(2)].key, entropy_of("x"))
