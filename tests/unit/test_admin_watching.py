"""Watching a run: lines for pipes, a picture for terminals, and a coordinator that restarts in between."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from rich.console import Console

from unisono.base.clock import ManualClock
from unisono.base.errors import BadMessage, Fault, Unreachable
from unisono.client.admin import watching
from unisono.client.admin.connection import Answer
from unisono.client.admin.documents import Run, read
from unisono.client.admin.events import EventLines
from unisono.client.admin.pace import Pace, Paces
from unisono.client.admin.view import closing, view

WALL = 1_795_255_451.0  # 2026-11-21T10:04:11Z
UPLOADED = {"wall": WALL, "event": "uploaded", "client": "hospital-a", "survivors": "1/4", "seq": 7}


def document(**changes: object) -> dict[str, object]:
    status = {
        "stage": "in_round", "phase": "collecting", "what": "train", "round": 4, "rounds": 20, "attempt": 2,
        "sentence": "waiting for 2 more clients (2 of 4; 3 needed), 41 s left", "seconds": 72.0,
        "task": "readmission",
        "clients": [
            {"name": "hospital-a", "state": "uploaded"},
            {"name": "hospital-b", "state": "working", "stage": "uploading", "done": 6200, "total": 10400},
            {"name": "clinic-c", "state": "working", "stage": "training", "done": 4, "total": 5},
            {"name": "hospital-d", "state": "working", "silent_seconds": 31.0},
        ],
    }  # fmt: skip
    both = ["hospital-a", "hospital-b"]
    rounds = [
        {"round": n, "cohort": both, "survivors": both, "seconds": 1.5, "metrics": {"accuracy": n / 5}}
        for n in (1, 2, 3)
    ]
    start = {
        "id": "r-0007",
        "state": "running",
        "protection": "sealed",
        "task": "readmission",
        "rounds": rounds,
    }
    return {**start, "status": status, "events": [], **changes}


def run(**changes: object) -> Run:
    return read(json.dumps(document(**changes)).encode(), Run)


def test_an_event_is_one_stable_line() -> None:
    lines = EventLines().take(run(events=[UPLOADED]), WALL)
    assert lines[0] == (
        "2026-11-21T10:04:11Z r-0007 round=4 phase=collecting event=uploaded client=hospital-a survivors=1/4"
    )
    assert lines[1].endswith('event=waits for="waiting for 2 more clients (2 of 4; 3 needed), 41 s left"')


def test_an_event_that_comes_again_is_told_once() -> None:
    lines = EventLines()
    assert len(lines.take(run(events=[UPLOADED]), WALL)) == 2
    assert lines.take(run(events=[UPLOADED]), WALL + 1) == []


def test_a_countdown_alone_is_no_news() -> None:
    lines = EventLines()
    assert len(lines.take(run(), WALL)) == 1
    status = {**_status(run()), "sentence": "waiting for 2 more clients (2 of 4; 3 needed), 12 s left"}
    assert lines.take(run(status=status), WALL) == []
    status["sentence"] = "waiting for 1 more client (3 of 4; 3 needed), 12 s left"
    assert len(lines.take(run(status=status), WALL)) == 1


def _status(one: Run) -> dict[str, object]:
    assert one.status is not None
    return one.status.model_dump(mode="json")


@pytest.mark.parametrize("value", ["two words", 'a "quote"', "line\nbreak", "k=v", ""])
def test_a_value_stays_one_field_on_one_line(value: str) -> None:
    line = EventLines().take(run(events=[{**UPLOADED, "reason": value}]), WALL)[0]
    assert "\n" not in line
    assert line.split(" reason=")[1] == json.dumps(value)


def test_the_end_is_a_line() -> None:
    lines = EventLines().take(run(state="failed", reason="too few", status=None), WALL)
    assert lines == [
        '2026-11-21T10:04:11Z r-0007 round=3 phase=failed event=ended state=failed reason="too few"'
    ]


def moved(done: int) -> Run:
    """Return the run with hospital-b so far in its upload."""
    status = json.loads(json.dumps(document()["status"]))
    status["clients"][1]["done"] = done
    return run(status=status)


def test_the_picture_says_what_for_whom_and_how_long() -> None:
    console = Console(width=100, no_color=True, force_terminal=False)
    with console.capture() as captured:
        paces = Paces()
        paces.take(moved(0), 0.0)
        console.print(view(run(), paces.take(moved(6200), 3.0)))
    shown = captured.get()
    for words in (
        "r-0007 readmission · sealed · round 4 of 20 · 1 m 12 s, about 26 s left",
        "accuracy 0.2 0.4 0.6",
        "round 4 (attempt 2)   announced ✓   collecting ▶   aggregating",
        "hospital-a  uploaded",
        "6.2 of 10.4 kB   2.1 kB/s   2.0 s left",
        "80 %",
        "silent for 31 s",
        "waiting for 2 more clients (2 of 4; 3 needed), 41 s left",
    ):
        assert words in shown, shown


def test_the_picture_survives_what_a_newer_coordinator_may_send() -> None:
    bare = {"stage": "dreaming", "sentence": None, "unknown": 1}
    console = Console(width=100)
    with console.capture() as captured:
        console.print(view(run(status=bare, rounds=[])))
    assert "dreaming" in captured.get()


def test_how_it_ended_and_what_to_do_next() -> None:
    assert closing(run(state="finished")).splitlines()[1].strip() == (
        "next: unisono model pull r-0007 -o model.safetensors"
    )
    failed = closing(run(state="failed", reason="2 of 4 survivors answered, 3 needed")).splitlines()
    assert failed[0] == "r-0007 failed: 2 of 4 survivors answered, 3 needed"
    assert "unisono model pull r-0007" in failed[1]
    assert "--from r-0007" in failed[2]
    assert len(closing(run(state="stopped", reason="by operator", rounds=[])).splitlines()) == 1


def test_a_document_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadMessage, match=r"state: Field required"):
        read(b'{"id": "r-0001"}', Run)


class Streams:
    """Gives one scripted stream per call: documents, then an error or the end."""

    def __init__(self, *scripts: Sequence[dict[str, object] | BaseException]) -> None:
        self.scripts, self.asked = list(scripts), list[str]()

    def watch_run(self, run: str) -> Iterator[Answer[Run]]:
        self.asked.append(run)
        for step in self.scripts.pop(0):
            if isinstance(step, BaseException):
                raise step
            yield answer(step)


def answer(raw: Mapping[str, object]) -> Answer[Run]:
    return Answer(raw, read(json.dumps(raw).encode(), Run))


def gone() -> Unreachable:
    return Unreachable("cannot reach localhost:1", 0.5)


def sleeping(clock: ManualClock) -> Callable[[float], None]:
    return clock.advance


def test_a_coordinator_that_restarts_is_waited_for() -> None:
    clock = ManualClock()
    streams = Streams([document(), gone()], [gone()], [document(), document(state="finished")])
    seen = list(watching.documents(streams, "", clock, sleeping(clock)))
    assert [one.value.state for one in seen] == ["running", "running", "finished"]
    assert streams.asked == ["", "r-0007", "r-0007"]  # the run is not changed for a newer one meanwhile


def test_a_coordinator_that_never_answered_is_not_waited_for() -> None:
    clock = ManualClock()
    with pytest.raises(Unreachable):
        list(watching.documents(Streams([gone()]), "", clock, sleeping(clock)))


def test_patience_ends() -> None:
    clock = ManualClock()
    streams = Streams([document(), gone()], *[[gone()]] * 1000)
    with pytest.raises(Unreachable):
        list(watching.documents(streams, "", clock, sleeping(clock)))
    assert 60 < clock.ticks() < 70


def test_a_stream_that_ends_before_the_run_is_opened_again() -> None:
    clock = ManualClock()
    streams = Streams([document()], [document(state="finished")])
    assert len(list(watching.documents(streams, "", clock, sleeping(clock)))) == 2
    assert clock.ticks() > 0


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(Fault, match="nothing about the run"):
        watching.follow(Streams([]), "r-0007", as_json=False)


def test_the_exit_code_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert watching.follow(Streams([document(state="finished")]), "", as_json=False) == 0
    shown = capsys.readouterr()
    assert "event=ended state=finished" in shown.out
    assert shown.err == ""
    assert watching.follow(Streams([document(state="failed", reason="too few")]), "", as_json=True) == 1
    shown = capsys.readouterr()
    assert [json.loads(line)["state"] for line in shown.out.splitlines()] == ["failed"]
    assert shown.err.startswith("r-0007 failed: too few\n")


def test_an_interrupt_leaves_the_run_alone_and_says_so() -> None:
    with pytest.raises(KeyboardInterrupt, match="r-0007 goes on; watch it again: unisono run watch r-0007"):
        watching.follow(Streams([document(), KeyboardInterrupt()]), "", as_json=True)


def drawn(one: Run, paces: Mapping[str, Pace] | None = None, width: int = 100) -> str:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(view(one, paces or {}))
    return captured.get()


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("advertising", "advertising ▶   sharing   uploading   agreeing   revealing   opening"),
        ("uploading", "advertising ✓   sharing ✓   uploading ▶   agreeing   revealing   opening"),
        ("opening", "revealing ✓   opening ▶"),
        ("closing", "closing ▶"),
        ("", "round 4"),
    ],
)
def test_the_legs_of_secure_aggregation_are_steps(phase: str, words: str) -> None:
    status = {**_status(run()), "phase": phase, "attempt": 1}
    assert words in drawn(run(status=status, protection="secagg"))


def test_of_very_many_those_are_shown_who_are_waited_for() -> None:
    clients: list[dict[str, object]] = [{"name": f"site-{n}", "state": "uploaded"} for n in range(95)]
    clients += [{"name": "slow", "state": "working", "stage": "training", "done": 1, "total": 9}]
    clients += [{"name": "mute", "state": "working", "silent_seconds": 44.0}]
    shown = drawn(run(status={**_status(run()), "clients": clients}))
    lines = [line.split() for line in shown.splitlines()]
    assert lines[2][0] == "mute"
    assert lines[3][:2] == ["slow", "training"]
    assert "and 82 others: 82 uploaded" in shown
    assert len(lines) < 24, "it fits a small terminal"


def test_a_sites_own_limits_are_said() -> None:
    client = {"name": "a", "state": "working", "note": "outside its hours until 20:00"}
    assert "outside its hours until 20:00" in drawn(run(status={**_status(run()), "clients": [client]}))


def test_a_pace_needs_time_and_begins_anew_with_each_step() -> None:
    paces = Paces()
    assert paces.take(moved(100), 0.0) == {}
    assert paces.take(moved(200), 0.2) == {}, "too soon to tell"
    assert paces.take(moved(1100), 1.0)["hospital-b"] == Pace(1000.0, 9.3)
    assert "hospital-b" not in paces.take(moved(50), 2.0), "another attempt"
    for second in range(3, 60):
        paces.take(moved(50 + (second - 2) * 10), float(second))
    assert paces.take(moved(650), 61.0)["hospital-b"].rate == pytest.approx(10.0, rel=0.2)


def test_a_narrow_terminal_loses_no_line() -> None:
    shown = drawn(run(), width=40)
    assert "accuracy" in shown
    assert "hospital-d" in shown


def test_metrics_are_fields_of_their_line() -> None:
    event = {
        "wall": WALL,
        "event": "aggregated",
        "round": 3,
        "metrics": [["loss", 0.54321987], ["auc", None]],
    }
    assert EventLines().take(run(events=[event]), WALL)[0].endswith("event=aggregated loss=0.54322")


def test_what_another_line_says_already_is_not_said_again() -> None:
    twice = [
        {"wall": WALL, "event": name, "seq": seq} for seq, name in enumerate(("metrics_known", "model_kept"))
    ]
    assert len(EventLines().take(run(events=[UPLOADED, *twice]), WALL)) == 2
