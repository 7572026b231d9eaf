"""Secure aggregation: what a client does for each leg, in order, and which of it is left to do."""

from dataclasses import replace

from .events import Done, Event, Failed, Trained, Wrapped
from .orders import Known, Leg, Secure
from .states import (
    Active,
    Answering,
    Downloading,
    Fails,
    Masking,
    Polling,
    Replying,
    Sending,
    Training,
)

Step = type[Replying] | type[Downloading] | type[Training] | type[Masking]

# What shares is said before training begins, so that the others need not wait for it; the model is there by
# then because the first bound follows from it.  `Sending` is between Masking and the reply to a deal.
STEPS: dict[Leg, tuple[Step, ...]] = {
    "invitation": (Replying, Downloading),
    "roster": (Downloading, Replying, Training),
    "deal": (Downloading, Training, Masking, Replying),
    "survivors": (Replying,),
    "quorum": (Replying,),
    "closing": (Replying,),
}


def begin(cursor: int, work: Secure, known: Known) -> Active:
    """Return the first thing to do."""
    if known.over:
        return Polling(cursor)
    if known.objection:
        return Answering(cursor, Fails(work.attempt, known.objection.code, known.objection.reason))
    return _first(STEPS[work.leg], cursor, work, known)


def onward(state: Active, event: Event) -> Active | None:
    """Return what follows in a secure attempt; None if this is none of its events."""
    if not isinstance(state, Replying | Downloading | Training | Masking | Sending):
        return None
    cursor, work, known = state.cursor, state.work, state.known
    if not isinstance(work, Secure):
        return None
    match state, event:
        case _, Failed():
            return _sit_out(cursor, work, event)
        case Replying(), Done():
            return _after(Replying, cursor, work, known)
        case Downloading(), Done():
            return _after(Downloading, cursor, work, known)
        case Training(), Trained(None):
            return _after(Training, cursor, work, known)
        case Masking(), Wrapped(masked=masked):
            return Sending(cursor, work, masked, known)
        case Masking(), Done():  # the vector on the disk was damaged: it is made again
            return _first(STEPS[work.leg], cursor, work, replace(known, stored=False))
        case Sending(), Done():
            return Replying(cursor, work, known)
    return None


def _sit_out(cursor: int, work: Secure, failed: Failed) -> Answering:
    return Answering(cursor, Fails(work.attempt, failed.code, failed.text, complaint=failed.complaint))


def _after(step: Step, cursor: int, work: Secure, known: Known) -> Active:
    steps = STEPS[work.leg]
    return _first(steps[steps.index(step) + 1 :], cursor, work, known)


def _first(steps: tuple[Step, ...], cursor: int, work: Secure, known: Known) -> Active:
    """Return the first of these steps that is not done yet."""
    done: set[Step] = {Training} if known.stored else set()
    if known.cached or (known.stored and work.leg == "deal"):
        done.add(Downloading)
    for step in steps:
        if step not in done:
            return step(cursor, work, known)
    return Polling(cursor)
