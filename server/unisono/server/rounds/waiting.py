"""Waiting: clients that offer the task say whether they take part, until the roster can be frozen.

With `cohort.size` the first so many who join are the roster.  Without, everybody who offers the task is
asked, and the run starts when all have answered; `settled` lets those who come together arrive.

Where a policy says `approve = "ask"` somebody at the site has to look at the plan first.  A person is not as
quick as a process: `cohort.wait_seconds` stands still while anybody looks, for LOOK_SECONDS at most, and
begins anew when the last of them has answered or left.
"""

from dataclasses import replace

from unisono.base.errors import Fault, Refused
from unisono.base.ids import ClientName
from unisono.plan import Plan

from .attempts import open_round
from .endings import end
from .events import Declined, Deferred, Event, Joined, Lost, Offered, Returned, Tick
from .facts import RunStarted
from .inviting import fewest
from .phases import Initialising, Run, Waiting
from .result import Step, wrong_phase
from .wording import clients, listed, reasons, short

SETTLE_SECONDS = 1.0
LOOK_SECONDS = 24 * 3600.0  # from the first who has to look


def waiting(plan: Plan, run: Run, stage: Waiting, event: Event, now: float) -> Step:
    """Take an answer into account, then start the run, fail it, or wait on."""
    if isinstance(event, Offered | Joined | Declined | Deferred):
        run, stage = _offered(plan, run, stage, event.client, now)
    match event:
        case Joined():
            run, stage = _joined(plan, run, stage, event, now)
        case Declined(client, _, reason):
            run, stage = _declined(run, stage, client, reason)
        case Lost(client):
            stage = replace(_without(stage, client), offered=stage.offered - {client})
        case Deferred(client):
            run, stage = _deferred(run, stage, client, now)
        case Tick() if stage.settled is not None and now >= stage.settled:
            stage = replace(stage, settled=None)
        case Offered() | Tick() | Returned():
            pass
        case _:
            raise wrong_phase(run, event)
    stage = _looked(plan, run, stage, now)
    return _go_on(plan, replace(run, stage=stage), stage, now)


def enough(plan: Plan, joined: int) -> int:
    """Return how many must join before the run can start, given how many have."""
    return plan.cohort.size or max(1, fewest(plan, joined, joined))


def unanswered(run: Run, stage: Waiting) -> frozenset[ClientName]:
    """Return those who offer the task and have neither joined nor declined."""
    return stage.offered - {client for client, _ in (*stage.joined, *run.declined)}


def _offered(plan: Plan, run: Run, stage: Waiting, client: ClientName, now: float) -> tuple[Run, Waiting]:
    if client in stage.offered:
        return run, stage
    run = _undeclined(run, client)  # it came back: its policy may be another
    settled = None if plan.cohort.size else now + SETTLE_SECONDS
    return run, replace(stage, offered=stage.offered | {client}, settled=settled)


def _joined(plan: Plan, run: Run, stage: Waiting, event: Joined, now: float) -> tuple[Run, Waiting]:
    client, entry = event.client, (event.client, event.model)
    if entry in stage.joined and event.manifest == run.manifest:
        return run, stage  # repeated, because the reply was lost
    if run.model is None and event.model is None:
        raise Refused(f"{client} must name its initial model: the plan lets the clients make it")
    others = _without(stage, client).joined
    if others and event.manifest != run.manifest:
        mine, theirs = short(event.manifest), short(run.manifest)
        return _declined(
            run, stage, client, f"its model has manifest {mine}, that of {others[0][0]} has {theirs}"
        )
    run = replace(
        _undeclined(run, client),
        manifest=event.manifest,
        identities=(*(pair for pair in run.identities if pair[0] != client), (client, event.identity)),
        aside=replace(run.aside, layout=event.described),
    )
    return run, replace(stage, joined=(*others, entry), deadline=now + plan.cohort.wait_seconds)


def _declined(run: Run, stage: Waiting, client: ClientName, reason: str) -> tuple[Run, Waiting]:
    run = _undeclined(run, client)
    return replace(run, declined=(*run.declined, (client, reason))), _without(stage, client)


def _deferred(run: Run, stage: Waiting, client: ClientName, now: float) -> tuple[Run, Waiting]:
    if client in dict(stage.joined):
        return run, stage
    patience = now + LOOK_SECONDS if stage.patience is None else stage.patience
    return _undeclined(run, client), replace(stage, looking=stage.looking | {client}, patience=patience)


def _looked(plan: Plan, run: Run, stage: Waiting, now: float) -> Waiting:
    """Strike off who has answered or left; when nobody looks any more, the others' time begins anew."""
    looking = stage.looking & unanswered(run, stage)
    if looking or stage.patience is None:
        return replace(stage, looking=looking)
    return replace(
        stage, looking=looking, patience=None, deadline=max(stage.deadline, now + plan.cohort.wait_seconds)
    )


def _undeclined(run: Run, client: ClientName) -> Run:
    return replace(run, declined=tuple(why for why in run.declined if why[0] != client))


def _without(stage: Waiting, client: ClientName) -> Waiting:
    return replace(stage, joined=tuple(entry for entry in stage.joined if entry[0] != client))


def _go_on(plan: Plan, run: Run, stage: Waiting, now: float) -> Step:
    late = now >= stage.until
    complete = plan.cohort.size > 0 or (stage.settled is None and not unanswered(run, stage))
    if len(stage.joined) >= enough(plan, len(stage.joined)) and (complete or late):
        return _start(plan, run, stage, now)
    return end(run, "failed", _too_few(plan, run, stage)) if late else Step(run)


def _start(plan: Plan, run: Run, stage: Waiting, now: float) -> Step:
    """Freeze the roster; then the first round, or the initial model where the operator gave none."""
    joined = sorted(stage.joined)
    if run.manifest is None:
        raise Fault("a client joined without a manifest")
    started = (RunStarted(tuple(client for client, _ in joined), run.manifest),)
    run = replace(run, roster=started[0].roster, began=now)
    if run.model is not None:
        opened = open_round(plan, run, "train", now)
        return replace(opened, facts=(*started, *opened.facts))
    (source, model), *left = [(client, digest) for client, digest in joined if digest is not None]
    return Step(replace(run, stage=Initialising(source, model, tuple(left))), facts=started)


def _too_few(plan: Plan, run: Run, stage: Waiting) -> str:
    joined, wanted = len(stage.joined), enough(plan, len(stage.joined))
    text = f"{joined} of {clients(wanted)} that offer{'s' if wanted == 1 else ''} task '{plan.task}' joined"
    text += f" in {plan.cohort.wait_seconds:g} s" if stage.patience is None else " in a day"
    if run.declined:
        text += f"; declined: {reasons(run.declined)}"
    if stage.looking:
        text += f"; nobody looked at the plan at {listed(stage.looking)}"
    if silent := unanswered(run, stage) - stage.looking:
        text += f"; no answer from {listed(silent)}"
    return text if stage.offered else f"{text}; no client that offers it is connected"
