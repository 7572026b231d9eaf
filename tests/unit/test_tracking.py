"""Trackers: what they are told, and that none of them can hold a run up."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import AtRest, sha256_hex, system_entropy
from unisono.plan import Plan, digest
from unisono.server.blobs import LocalDir
from unisono.server.config import Config, Tracking
from unisono.server.rounds import Fact, MetricsKnown, ModelKept, RoundPublished, RunEnded, RunStarted
from unisono.server.tracking import Begin, Recorder, open_recorder
from unisono.server.tracking.recorder import Wanted

A, B = ClientName("a"), ClientName("b")
RUN = RunId("r-0001")
PLAN = Plan.model_validate({"task": "x", "training": {"learning_rate": 0.5}})
MODEL, LATER = sha256_hex(b"model"), sha256_hex(b"later")
FACTS: tuple[Fact, ...] = (
    RunStarted((A, B), Digest("ab" * 32)),
    ModelKept(0, MODEL),
    MetricsKnown(0, (("loss", 2.0),)),
    ModelKept(1, LATER),
    RoundPublished(1, 2, (A, B), (A,), 1.5, LATER),
    MetricsKnown(1, (("loss", 1.0), ("accuracy", 0.75))),
    RunEnded("finished", "all rounds are done"),
)


class Tape:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.begun: list[Begin] = []
        self.told: list[tuple[object, ...]] = []
        self.go = threading.Event()
        self.go.set()

    def begin(self, about: Begin) -> None:
        self.go.wait(10)
        self.begun.append(about)

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        self.told.append((round_, dict(values)))

    def model(self, run: RunId, round_: int, file: Path) -> None:
        self.told.append((round_, file.read_bytes()))

    def end(self, run: RunId, state: str, reason: str) -> None:
        self.told.append((state, reason))

    def close(self) -> None:
        self.told.append(("closed",))


class Broken(Tape):
    def begin(self, about: Begin) -> None:
        raise SystemExit("no licence")

    def metrics(self, run: RunId, round_: int, values: Mapping[str, float], wall: float) -> None:
        super().metrics(run, round_, values, wall)
        raise OSError("disk full")


def copy(model: Digest, file: Path) -> None:
    file.write_bytes({MODEL: b"model", LATER: b"later"}[model])


def recorded(
    tape: Tape, wanted: Wanted = "none", facts: tuple[Fact, ...] = FACTS
) -> list[tuple[object, ...]]:
    recorder = Recorder(tape, copy, wanted, ManualClock())
    recorder.take(RUN, PLAN, facts)
    recorder.close()
    return tape.told


def test_a_run_is_told_with_its_plan_and_its_rounds() -> None:
    tape = Tape()
    assert recorded(tape) == [
        (0, {"loss": 2.0}),
        (1, {"seconds": 1.5, "cohort": 2, "survivors": 1, "attempts": 2}),
        (1, {"loss": 1.0, "accuracy": 0.75}),
        ("finished", "all rounds are done"),
        ("closed",),
    ]
    (about,) = tape.begun
    assert (about.run, about.task, about.plan_sha256) == (RUN, "x", digest(PLAN))
    assert about.parameters["training.learning_rate"] == "0.5"
    assert about.parameters["protection.mode"] == "secagg"


@pytest.mark.parametrize(
    ("wanted", "models"),
    [("none", []), ("last", [(1, b"later")]), ("all", [(0, b"model"), (1, b"later")])],
)
def test_models_only_when_asked(wanted: Wanted, models: list[tuple[int, bytes]]) -> None:
    told = recorded(Tape(), wanted)
    assert [entry for entry in told if isinstance(entry[-1], bytes)] == models


def test_a_coordinator_that_starts_again_begins_the_run_again() -> None:
    first, second = Tape(), Tape()
    recorded(first, facts=FACTS[:4])
    recorded(second, facts=FACTS[4:])
    assert [about.run for about in first.begun] == [about.run for about in second.begun] == [RUN]


def test_the_last_model_is_kept_though_it_was_made_before_a_restart() -> None:
    """The closing evaluation comes after it: there is time for a coordinator to die in."""
    tape = Tape()
    recorder = Recorder(tape, copy, "last", ManualClock())
    recorder.take(RUN, PLAN, (), (1, LATER))
    recorder.take(RUN, PLAN, FACTS[-1:], (1, LATER))
    recorder.close()
    assert tape.told == [(1, b"later"), ("finished", "all rounds are done"), ("closed",)]


def test_a_tracker_that_fails_is_logged_once_and_goes_on_with_the_rest() -> None:
    with capture_logs() as logs:
        told = recorded(Broken())
    assert [entry[0] for entry in told] == [0, 1, 1, "finished", "closed"]
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("tracking_failed", "SystemExit: no licence")
    ]


def test_a_tracker_that_hangs_makes_nobody_wait() -> None:
    tape = Tape()
    tape.go.clear()
    recorder = Recorder(tape, copy, "none", ManualClock(), most=3)
    with capture_logs() as logs:
        for _ in range(50):
            recorder.take(RUN, PLAN, FACTS[:3])
    assert [line["event"] for line in logs] == ["tracking_too_slow"]
    tape.go.set()
    recorder.close()
    assert 2 <= len(tape.told) <= 5
    assert tape.told[-1] == ("closed",)  # though the queue was full


@pytest.fixture
def blobs(tmp_path: Path) -> LocalDir:
    return LocalDir(tmp_path / "blobs", AtRest(bytes(32)), system_entropy)


def missing(name: str) -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec(name) is None


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_extra_is_a_line_to_install_it(kind: str, tmp_path: Path, blobs: LocalDir) -> None:
    if not missing(kind):
        pytest.skip(f"{kind} is installed here; make trackers tries it")
    wanted = Tracking.model_validate({"kind": kind})
    with pytest.raises(BadConfiguration, match=f"pip install 'unisono\\[{kind}\\]'"):
        open_recorder(wanted, tmp_path, blobs, ManualClock())


def test_no_tracker_is_no_thread(tmp_path: Path, blobs: LocalDir) -> None:
    assert open_recorder(Tracking(), tmp_path, blobs, ManualClock()) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tracking]\nkind = "comet"', "tracking"),
        ('[tracking]\nmodels = "best"', "models"),
        ('[tracking]\nproject = ""', "project"),
        ("[tracking]\nfolders = 1", "folder"),
    ],
)
def test_a_wrong_setting_is_named(text: str, words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        Config.load(text.encode())
