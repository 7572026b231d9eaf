"""The client's half of the conversation: what follows from what happened."""

from dataclasses import replace

from unisono.base.errors import Fault
from unisono.base.ids import RunId

from . import legs
from .backoff import LONGEST, delay
from .events import (
    Busy,
    Done,
    Event,
    Failed,
    Greeted,
    Instructed,
    LeaveAsked,
    Lost,
    Refused,
    Rejected,
    Rests,
    Trained,
)
from .orders import Consider, Idle, Known, Secure, SendModel, Update, Work
from .states import (
    Active,
    Answering,
    BackingOff,
    Declines,
    Downloading,
    Fails,
    Greeting,
    Leaving,
    Left,
    Looks,
    Masking,
    Polling,
    Preparing,
    Renewing,
    Replying,
    Sending,
    SendingModel,
    State,
    Takes,
    Training,
    Uploading,
)

FINAL = frozenset({"not_enrolled", "bad_credentials"})  # no later try can help: a person has to act


def advance(state: State, event: Event, now: float, longest: float = LONGEST) -> State:
    """Return the next state.  Raises Fault, and nothing has changed, if `event` cannot come of `state`."""
    if isinstance(state, Left):
        raise Fault(f"{type(event).__name__} after the session ended")
    if isinstance(state, Leaving):
        return Left()  # a goodbye that nobody hears is a goodbye
    if isinstance(event, LeaveAsked):
        return Leaving()
    if isinstance(state, BackingOff):
        if isinstance(event, Done):
            return state.then
        raise _impossible(state, event)
    return _active(state, event, now, longest)


def _active(state: Active, event: Event, now: float, longest: float) -> State:
    match state, event:
        case _, Lost() | Busy():
            return _back_off(state, event, now, longest)
        case _, Rests(seconds=seconds):  # cursor 0: what is to be done is told again, and so is what is not
            return BackingOff(now + seconds, Polling())
        case Renewing(), Refused() | Rejected():  # the old certificate still serves; the next poll asks again
            return _follow(state.cursor, state.instruction, state.known)
        case _, Refused(code=code, reason=reason):
            return _refused(state, code, reason, now)
        case _, Rejected(code=code, reason=reason):
            return _rejected(state, code, reason, now)
    return legs.onward(state, event) or _onward(state, event)


def _onward(state: Active, event: Event) -> State:
    """Return what follows when the work went as it should, or failed on this site."""
    match state, event:
        case Greeting(tries=tries, renewed=renewed), Greeted():
            return Polling(tries=tries, renewed=renewed)
        case Polling(), Instructed():
            return _instructed(state, event)
        case Renewing(), Done():
            return Greeting(renewed=True)
        case Preparing(cursor=cursor, run=run, send=model), Done():
            return SendingModel(cursor, run, model) if model else Answering(cursor, Takes(run))
        case Preparing(cursor=cursor, run=run), Failed(code=code, text=text):
            return Answering(cursor, Declines(run, code, text))
        case Downloading(cursor=cursor, work=work), Done():
            return Training(cursor, work)
        case Training(cursor=cursor, work=Work() as work), Trained(update=Update() as update) if (
            update.key == work.key
        ):
            return Uploading(cursor, work, update)
        case Training(cursor=cursor, work=work), Failed(code=code, text=text):
            return Answering(cursor, Fails(work.attempt, code, text))
        case Answering(cursor=cursor) | Uploading(cursor=cursor) | SendingModel(cursor=cursor), Done():
            return Polling(cursor)
    raise _impossible(state, event)


def _instructed(state: Polling, event: Instructed) -> State:
    if event.renew and not state.renewed:
        return Renewing(event.cursor, event.instruction, event.known)
    return _follow(event.cursor, event.instruction, event.known, renewed=event.renew)


def _follow(cursor: int, instruction: object, known: Known, *, renewed: bool = False) -> State:
    """Return how to do what was asked, or how to say that it will not be done."""
    match instruction:
        case Idle():
            return Polling(cursor, renewed=renewed)
        case Consider(run=run):
            return _consider(cursor, run, known)
        case SendModel(run=run, model=model):
            if known.objection:
                return Answering(cursor, Declines(run, known.objection.code, known.objection.reason))
            return SendingModel(cursor, run, model) if known.cached else Preparing(cursor, run, model)
        case Work(attempt=attempt):
            if known.objection:
                return Answering(cursor, Fails(attempt, known.objection.code, known.objection.reason))
            if known.finished:
                return Uploading(cursor, instruction, known.finished)
            return Training(cursor, instruction) if known.cached else Downloading(cursor, instruction)
        case Secure():
            return legs.begin(cursor, instruction, known)
    raise Fault(f"no instruction: {type(instruction).__name__}")


def _consider(cursor: int, run: RunId, known: Known) -> State:
    if known.objection:
        return Answering(cursor, Declines(run, known.objection.code, known.objection.reason))
    if known.looking:
        return Answering(cursor, Looks(run))
    return Answering(cursor, Takes(run)) if known.prepared else Preparing(cursor, run)


def _back_off(state: Active, event: Lost | Busy, now: float, longest: float) -> State:
    tries = state.tries if isinstance(state, Greeting | Polling) else 0
    match event:
        case Busy(retry_after=seconds, roll=roll):
            return BackingOff(
                now + delay(tries, roll, longest=longest, at_least=seconds), _again(state, tries)
            )
        case Lost(roll=roll, at_least=seconds):
            return BackingOff(
                now + delay(tries, roll, longest=longest, at_least=seconds), Greeting(tries + 1)
            )


def _again(state: Active, tries: int) -> Active:
    """Return what is tried again, on the same connection: a busy coordinator has no time for new ones."""
    match state:
        case Greeting() | Polling():
            return replace(state, tries=tries + 1)
    return state


def _refused(state: Active, code: str, reason: str, now: float) -> State:
    """Return where a refusal leads: to the next instruction, unless nothing could ever be accepted."""
    if code in FINAL:
        return Left(code, reason)
    match state:
        case Greeting():
            return Left(code, reason)  # no common protocol version: a person has to act
        case Polling(tries=tries):
            return BackingOff(now + delay(tries, 0.5), Greeting(tries + 1))
        case Leaving():
            return Left()
    return Greeting() if code == "hello_first" else Polling(state.cursor)


def _rejected(state: Active, code: str, reason: str, now: float) -> State:
    match state:
        case Uploading(cursor=cursor, work=work, update=update):
            return Answering(cursor, Fails(work.attempt, code, reason, forget=update.key))
        case Downloading() | Training() | Replying() | Masking() | Sending():
            return Answering(state.cursor, Fails(state.work.attempt, code, reason))
        case SendingModel(cursor=cursor, run=run) | Preparing(cursor=cursor, run=run):
            return Answering(cursor, Declines(run, code, reason))
    return _refused(state, code, reason, now)


def _impossible(state: State, event: Event) -> Fault:
    return Fault(f"{type(event).__name__} cannot come of {type(state).__name__}")
