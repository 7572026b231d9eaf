"""What people and scripts see: the `status` of a run that goes on, beside its rows, and the audit log."""

import json
from collections.abc import Mapping
from typing import TypedDict

from pydantic import JsonValue

from unisono.base.ids import ClientName
from unisono.server.rounds import (
    Announced,
    Collecting,
    Ended,
    Initialising,
    InRound,
    Phase,
    Run,
    Securing,
    Waiting,
    expects,
    waiting_sentence,
)
from unisono.server.store import Line, Store

from .hall import Hall
from .lineage import Lineage

MOST_LINES = 1000  # of the audit log, in one document
_BEFORE_UPLOAD = frozenset({"advertising", "sharing"})  # who is done with a leg goes on working


class ClientRow(TypedDict):
    """One client of a run, now."""

    name: str
    state: str  # invited, looking, working, uploaded, lost, failed, declined
    stage: str
    done: int
    total: int
    silent_seconds: float
    note: str  # how its own limits hold it up


class Status(TypedDict):
    """A run, now."""

    stage: str
    phase: str
    what: str
    round: int
    rounds: int
    attempt: int
    sentence: str
    clients: list[ClientRow]
    seconds: float
    task: str


class AuditLine(TypedDict):
    """One line of the audit log; `detail` has what its kind has."""

    seq: int
    wall: float
    what: str
    run: str
    client: str
    detail: Mapping[str, JsonValue]


class AuditPage(TypedDict):
    """A piece of the audit log, newest line first; `head` is the hash of the last line of all `count`."""

    head: str
    count: int
    lines: list[AuditLine]


def audit_page(store: Store, before: int = 0, limit: int = 100) -> AuditPage:
    """Return the audit lines below number `before` (0: the last ones): at most `limit`, and 1 MiB.

    The next page is that before the last line's `seq`; line 1 is the first of all.
    """
    count, head, lines = store.audit_page(max(0, before), max(1, min(limit, MOST_LINES)))
    return AuditPage(head=head, count=count, lines=[_audit_line(line) for line in lines])


def _audit_line(line: Line) -> AuditLine:
    entry = line.entry
    return AuditLine(
        seq=line.seq,
        wall=line.wall,
        what=entry.kind,
        run=entry.run,
        client=entry.subject,
        detail=json.loads(entry.body),
    )


def status_of(hall: Hall, lineage: Lineage) -> Status:
    """Return what is happening in an active run."""
    run, plan = lineage.run, lineage.plan
    now = lineage.driver.clock.now()
    silence = hall.presence.silence(lineage.id, expects(run))
    notes = {client: hall.presence.note(client, lineage.id) for client in silence}
    limit = plan.rounds.idle_seconds
    left = {c: max(0.0, limit - quiet) for c, quiet in silence.items() if not hall.presence.is_resting(c)}
    stage = run.stage
    round_ = stage if isinstance(stage, InRound) else None
    return Status(
        stage=stage.kind,
        phase=_phase(round_.phase) if round_ else "",
        what=round_.what if round_ else "",
        round=round_.round if round_ else run.round,
        rounds=plan.rounds.count,
        attempt=round_.attempt if round_ else 0,
        sentence=waiting_sentence(plan, run, now, left, notes),
        clients=[_row(hall, lineage, *state, silence) for state in sorted(_states(run).items())],
        seconds=round(now - run.began, 3),
        task=plan.task,
    )


def ended_status(document: Mapping[str, object]) -> Status:
    """Return the status of a run that is over, from its rows."""
    started, ended = document["started"], document["ended"]
    return Status(
        stage="ended",
        phase="",
        what="",
        round=int(str(document["rounds_published"])),
        rounds=int(str(document["round_count"])),
        attempt=0,
        sentence=str(document["reason"]),
        clients=[],
        seconds=round(ended - started, 3) if isinstance(started, float) and isinstance(ended, float) else 0.0,
        task=str(document["task"]),
    )


def _phase(phase: Phase) -> str:
    return phase.leg if isinstance(phase, Securing) else phase.kind


def _states(run: Run) -> dict[ClientName, str]:
    states: dict[ClientName, str] = dict.fromkeys((c for c, _ in run.declined), "declined")
    match run.stage:
        case Waiting(offered=offered, joined=joined, looking=looking):
            states |= dict.fromkeys(offered - states.keys(), "invited") | dict.fromkeys(looking, "looking")
            states |= dict.fromkeys((c for c, _ in joined), "working")
        case Initialising(source):
            states |= dict.fromkeys(run.roster, "invited") | {source: "working"}
        case InRound(phase=Announced()):
            states |= dict.fromkeys(run.roster, "invited")
        case InRound(phase=Securing(cohort, waiting, leg, updates, dropped)):
            states |= dict.fromkeys(cohort if leg in _BEFORE_UPLOAD else waiting, "working")
            states |= dict.fromkeys((c for c, _ in updates), "uploaded")
            states |= {c: "lost" if c in run.away else "failed" for c, _ in dropped}
        case InRound(phase=Collecting(_, waiting, updates, dropped)):
            states |= dict.fromkeys(waiting, "working") | dict.fromkeys((c for c, _ in updates), "uploaded")
            states |= {c: "lost" if c in run.away else "failed" for c, _ in dropped}
        case InRound(phase=phase) if not isinstance(phase, Announced):
            states |= dict.fromkeys((c for c, _ in phase.updates), "uploaded")
            states |= {c: "lost" if c in run.away else "failed" for c, _ in phase.dropped}
        case Ended():
            states |= dict.fromkeys(run.last[1], "uploaded")
        case _:
            states |= dict.fromkeys(run.roster, "invited")
    return states


def _row(
    hall: Hall, lineage: Lineage, client: ClientName, state: str, silence: Mapping[ClientName, float]
) -> ClientRow:
    session = hall.presence.get(client)
    busy = session if session is not None and state == "working" else None
    return ClientRow(
        name=client,
        state=state,
        stage=busy.stage if busy else "",
        done=busy.done if busy else 0,
        total=busy.total if busy else 0,
        silent_seconds=round(silence.get(client, 0.0), 1),
        note=hall.presence.note(client, lineage.id) if client in silence else "",
    )
