"""The state diagrams of docs/DATA_MODEL.md are drawn from the transition code: every event in every state.

`pytest tests/unit/test_docs_states.py --rewrite` draws them anew.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest
from unisono.crypto import sha256_hex
from unisono.plan import Plan, parse
from unisono.server.rounds import (
    Aggregated,
    Declined,
    Ended,
    Event,
    Failure,
    InRound,
    Joined,
    Lost,
    ModelReceived,
    Offered,
    Returned,
    Run,
    StopAsked,
    TaskFailed,
    Tick,
    Uploaded,
    begin,
    step,
)

PAGE = Path(__file__).parents[2] / "docs" / "DATA_MODEL.md"
CLIENTS = (ClientName("a"), ClientName("b"))
MUCH_LATER = 1e6


def digest(text: str) -> Digest:
    return sha256_hex(text.encode())


SEALED = '[protection]\nmode = "sealed"\n'
TWO_OF_EACH = "[rounds]\ncount = 2\nattempts = 2\n"
QUORUM = '[rounds]\ncount = 1\nattempts = 1\nwait = "quorum"\n'
PLANS = (  # small: every event is tried in every state
    f'task = "x"\n{SEALED}{TWO_OF_EACH}[cohort]\nsize = 2\nmin_survivors = 2\n',
    f'task = "x"\n{SEALED}{QUORUM}[cohort]\nsize = 2\nmin_survivors = 1\n',
    f'task = "x"\n{SEALED}{QUORUM}[cohort]\nmin_survivors = 1\n',
    f'task = "x"\n{SEALED}{TWO_OF_EACH}[cohort]\nsize = 1\n[stop]\nmetric = "unknown"\n',
)
GIVEN = (None, (digest("given"), 1.0))  # no first model, and one of the operator's
Arrows = dict[tuple[str, str], set[str]]


def possible(run: Run) -> Iterator[Event]:
    """Yield everything that could happen now, sensible or not."""
    stage = run.stage
    yield from (StopAsked(), Tick())
    for client in CLIENTS:
        yield from (Offered(client), Joined(client, digest("manifest"), digest("first")), Returned(client))
        yield from (
            Declined(client, "code", "no"),
            Lost(client, "gone"),
            ModelReceived(client, digest("first"), 1.0),
        )
        if isinstance(stage, InRound):
            at = (stage.round, stage.attempt)
            yield from (
                Uploaded(client, *at, digest(client), 8),
                TaskFailed(client, *at, "task_error", "it failed"),
            )
    if isinstance(stage, InRound):
        at, made = (stage.round, stage.attempt), digest(f"model {stage.round}")
        yield from (Aggregated(*at, made, (("loss", 1.0),), (1.0,)), Failure(*at, "a sum out of range"))


def explored(plan: Plan, first: Run) -> Iterator[tuple[Run, Event, Run]]:
    """Yield every transition that can be reached."""
    seen, waiting = {first}, deque([first])
    while waiting:
        run = waiting.popleft()
        for event in possible(run):
            try:
                after = step(plan, run, event, MUCH_LATER if isinstance(event, Tick) else 0.0).run
            except Refused:
                continue
            yield run, event, after
            if after not in seen:
                seen.add(after)
                waiting.append(after)


@cache
def transitions() -> tuple[tuple[Run, Event, Run], ...]:
    plans = [parse(text.encode()) for text in PLANS]
    starts = [(plan, begin(plan, 0.0, model).run) for plan in plans for model in GIVEN]
    return tuple(found for plan, first in starts for found in explored(plan, first))


def stage(run: Run) -> str:
    match run.stage:
        case Ended(state):
            return state
        case InRound("train"):
            return "rounds"
        case InRound():
            return "closing_evaluation"
        case other:
            return other.kind


def phase(run: Run) -> str:
    return run.stage.phase.kind if isinstance(run.stage, InRound) else ""


def of_the_run() -> Arrows:
    arrows: Arrows = defaultdict(set)
    for before, event, after in transitions():
        if stage(before) != stage(after):
            arrows[stage(before), stage(after)].add(type(event).__name__)
    return arrows


def of_a_round() -> Arrows:
    arrows: Arrows = defaultdict(set)
    for before, event, after in transitions():
        if phase(before) and phase(after) and phase(before) != phase(after):
            arrows[phase(before), phase(after)].add(type(event).__name__)
    return arrows


def drawn(arrows: Arrows, starts: list[str], ends: list[str]) -> str:
    lines = [
        *(f"    [*] --> {name}" for name in starts),
        *(f"    {a} --> {b} : {', '.join(sorted(events))}" for (a, b), events in sorted(arrows.items())),
        *(f"    {name} --> [*]" for name in ends),
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


DIAGRAMS = {
    "run": lambda: drawn(of_the_run(), ["waiting"], ["failed", "finished", "stopped"]),
    "round": lambda: drawn(of_a_round(), [], []),
}


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_diagram_is_what_the_code_does(name: str, pytestconfig: pytest.Config) -> None:
    text, wanted = PAGE.read_text(encoding="utf-8"), DIAGRAMS[name]()
    place = re.compile(rf"(<!-- {name} -->\n)(.*?)(\n?<!-- end -->)", re.DOTALL)
    if pytestconfig.getoption("--rewrite"):
        text = place.sub(lambda found: f"{found[1]}{wanted}\n<!-- end -->", text)
        PAGE.write_text(text, encoding="utf-8")
    found = place.search(text)
    assert found is not None
    assert found[2] == wanted


def test_what_has_ended_stays_as_it_is() -> None:
    assert all(after == before for before, _, after in transitions() if isinstance(before.stage, Ended))
