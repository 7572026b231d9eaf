"""The trainer as a real child process, driven over its pipes as the client's runtime does."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unisono.client.trainer.asking import COMMAND, environment
from unisono.client.trainer.at_rest import SealedFile
from unisono.codec import Spec, SpecPart, decode_head, decode_part, head_names
from unisono.crypto import (
    ENVELOPE,
    SEGMENT,
    TAG,
    AtRest,
    SealingKey,
    layout,
    open_from,
    plain_length,
    sha256_hex,
)
from unisono.plan import Plan, canonical
from unisono.tensors import Manifest

KEY, CONTEXT = bytes(range(32)), b"update of a test"
RECIPIENT = SealingKey.from_bytes(bytes(range(1, 33)))
TASKS = '''
import os, sys, time
import numpy as np
from unisono.client import Task

class Plain(Task):
    """Plain arrays: adds a random step that depends on the seed only."""
    def model(self):
        return {"w": np.full((3, 1000), 2, np.float32), "steps": np.zeros(2, np.int64)}
    def train(self, model, context):
        model["w"] += np.random.standard_normal(model["w"].shape).astype(np.float32)
        model["steps"] += 1
        context.progress(1, 1)
        return 50
    def evaluate(self, model, context):
        return {"loss": (6.0, 3.0), "torch": ("torch" in sys.modules, 1)}

class Raises(Plain):
    def train(self, model, context):
        raise ValueError("patient Meyer is odd")

class Exits(Plain):
    def train(self, model, context):
        sys.exit(3)

class Noisy(Plain):
    def train(self, model, context):
        print('{"done": {}}', flush=True)
        print("half a line", end="")
        sys.stderr.write("complaint")
        os.write(1, b'{"done": "by hand"}\\n')
        os.system("echo from a child; cat")
        return super().train(model, context)

class Diverges(Plain):
    def train(self, model, context):
        model["w"][1, 7] = np.nan
        return 5

class Hungry(Plain):
    def train(self, model, context):
        raise MemoryError

class Empty(Plain):
    def train(self, model, context):
        return 0

class Grows(Plain):
    def train(self, model, context):
        model["more"] = np.zeros(1, np.float32)
        return 1

class Hangs(Plain):
    def train(self, model, context):
        context.progress(9, 9)
        time.sleep(600)

class Dies(Plain):
    def train(self, model, context):
        os.abort()

class Large(Plain):
    def model(self):
        return {"w": np.full(6_400_000, 0.5, np.float32)}
    def train(self, model, context):
        model["w"] += np.float32(1e-3)
        return 10
    def evaluate(self, model, context):
        return {}
'''


class Child:
    """A trainer and what the tests ask of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "tasks.py"
        self.file.write_text(TASKS)
        self.log = folder / "trainer.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment()
            )
        self.progress: list[tuple[str, int, int]] = []
        self.manifest = Manifest(())

    def say(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {}
        return found

    def ask(self, message: object) -> dict[str, Any]:
        self.say(message)
        while "progress" in (answer := self.hear()):
            p = answer["progress"]
            self.progress.append((p["stage"], p["done"], p["total"]))
        return answer

    def open(self, name: str) -> dict[str, Any]:
        plan = canonical(Plan(task="t", seed=5)).decode()
        site = {"name": "site-a", "number": 1, "data": None}
        return self.ask(
            {
                "do": "open",
                "task": f"{self.file}:{name}",
                "site": site,
                "plan": plan,
                "device": "cpu",
                "threads": 1,
                "key": KEY.hex(),
            }
        )

    def describe(self) -> dict[str, Any]:
        answer = self.ask({"do": "describe", "out": str(self.folder / "model")})
        described: dict[str, Any] = answer["described"]
        self.manifest = Manifest.decode(described["manifest"].encode())
        self.model = described["model"]
        return described

    def begin(self, name: str) -> None:
        assert "opened" in self.open(name)
        self.describe()

    @property
    def spec(self) -> Spec:
        parts = (SpecPart("delta", self.manifest.length, 10.0, weighted=True),)
        return Spec(32, 3, parts, head_names(self.manifest.metrics))

    def work(self, what: str = "train", round_number: int = 1) -> dict[str, object]:
        return {
            "do": "work",
            "what": what,
            "run": "r-0001",
            "round": round_number,
            "attempt": 1,
            "model": str(self.folder / "model"),
            "model_sha256": self.model,
            "spec": self.spec.encode().decode(),
            "out": str(self.folder / "update"),
            "seal": {"public": RECIPIENT.public.hex(), "context": CONTEXT.hex()},
            "state_in": None,
            "state_out": None,
        }

    def plain(self) -> bytes:
        """Return what the coordinator would see after opening the update."""
        sealed = (self.folder / "update").read_bytes()
        opener = open_from(RECIPIENT, sealed[:ENVELOPE], CONTEXT)
        body, parts = sealed[ENVELOPE:], []
        for index, start, stop, last in layout(plain_length(len(body))):
            begin = index * (SEGMENT + TAG)
            parts.append(opener.open(index, body[begin : begin + stop - start + TAG], last=last))
        return b"".join(parts)

    def decoded(self) -> tuple[NDArray[np.float64], dict[str, float]]:
        words = np.frombuffer(self.plain(), np.uint64)
        out = np.empty(self.manifest.length)
        decode_part(self.spec, self.spec.parts[0], words[: self.spec.head_offset], 1, out)
        return out, decode_head(words[self.spec.head_offset :], self.spec)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Child]]:
    children: list[Child] = []

    def started() -> Child:
        children.append(Child(tmp_path))
        return children[-1]

    yield started
    for child in children:
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout):
            assert pipe is not None
            pipe.close()


def test_a_round_of_plain_arrays_imports_no_torch(start: Callable[[], Child]) -> None:
    child = start()
    assert child.open("Plain")["opened"]["imports_rss_mb"] > 10
    described = child.describe()
    assert described["bytes"] == child.manifest.file_bytes
    assert child.manifest.metrics == ("loss", "torch")
    assert child.manifest.length == 3000  # "steps" stays
    answer = child.ask(child.work())["done"]
    sealed = (child.folder / "update").read_bytes()
    assert (answer["sha256"], answer["bytes"]) == (sha256_hex(sealed), len(sealed))
    assert (child.folder / "update").stat().st_mode & 0o777 == 0o600
    change, head = child.decoded()
    assert head["torch.sum"] == 0
    assert head["torch.count"] == 1
    assert (head["one"], head["loss.sum"], head["loss.count"]) == (1, 6, 3)
    assert head["weight"] == pytest.approx(50 / 100_000, abs=2**-24)
    assert np.std(change / head["weight"]) == pytest.approx(1, abs=0.1)
    stages = [stage for stage, _, _ in child.progress]
    assert stages == sorted(stages, key=["evaluating", "training", "writing"].index)
    assert set(stages) == {"evaluating", "training", "writing"}


def test_work_done_again_after_a_kill_gives_the_same_bytes(start: Callable[[], Child]) -> None:
    warm = start()
    warm.begin("Plain")
    warm.ask(warm.work(round_number=1))
    warm.ask(warm.work(round_number=2))
    file, plain = (warm.folder / "update").read_bytes(), warm.plain()
    warm.process.send_signal(signal.SIGKILL)
    warm.process.wait()
    fresh = start()
    fresh.begin("Plain")
    fresh.ask(fresh.work(round_number=2))
    assert fresh.plain() == plain
    assert (fresh.folder / "update").read_bytes() != file  # another ephemeral key
    fresh.ask(fresh.work(round_number=3))
    assert fresh.plain() != plain


def test_a_vector_is_kept_at_rest_and_is_the_same_after_a_kill(start: Callable[[], Child]) -> None:
    warm = start()
    warm.begin("Plain")
    spec = replace(warm.spec, lanes=16, rotation="hadamard")
    form = {"spec": spec.encode().decode(), "seal": None, "keep": {"context": b"kept".hex()}}
    found = []
    for child in (warm, start()):
        child.begin("Plain")
        answer = child.ask(child.work() | form)["done"]
        with SealedFile(child.folder / "update", AtRest(KEY), b"kept") as file:
            plain = bytes(file.read(0, file.length))
        assert (answer["sha256"], answer["bytes"]) == (sha256_hex(plain), spec.bytes)
        found.append(plain)
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
    assert found[0] == found[1]
    head = decode_head(np.frombuffer(found[0], np.uint64)[spec.head_offset :], spec)
    assert (head["one"], head["loss.count"]) == (1, 3)
    assert {total for stage, _, total in warm.progress if stage != "writing"} == {100}


@pytest.mark.parametrize("form", [{"seal": None}, {"keep": {"context": ""}}, {"seal": None, "keep": {}}])
def test_work_says_how_its_result_is_written(start: Callable[[], Child], form: dict[str, object]) -> None:
    child = start()
    child.begin("Plain")
    assert child.ask(child.work() | form)["failed"]["code"] == "trainer_fault"


def test_an_evaluation_trains_nothing(start: Callable[[], Child]) -> None:
    child = start()
    child.begin("Raises")
    assert "done" in child.ask(child.work("evaluate"))
    change, head = child.decoded()
    assert not change.any()
    assert head["loss.sum"] == 6


WRONG = {
    "Raises": "task_error",
    "Exits": "task_error",
    "Diverges": "not_finite",
    "Hungry": "out_of_memory",
    "Empty": "no_data",
    "Grows": "model_differs",
}


def test_what_a_task_does_wrong_has_a_code_and_no_words_of_its_own(start: Callable[[], Child]) -> None:
    child = start()
    for name, code in WRONG.items():
        child.begin(name)
        failed = child.ask(child.work())["failed"]
        assert failed["code"] == code, name
        assert "Meyer" not in failed["text"]
        assert ("Meyer" in failed["detail"]) == (name == "Raises")
        assert not (child.folder / "update").exists()
        assert "done" in child.ask(child.work("evaluate")), name  # the process is none the worse for it
        (child.folder / "update").unlink()
    assert "Meyer" in child.log.read_text()


def test_nothing_that_a_task_writes_reaches_the_protocol(start: Callable[[], Child]) -> None:
    child = start()
    child.begin("Noisy")
    assert "done" in child.ask(child.work())
    log = child.log.read_text()
    assert "by hand" in log
    assert "half a line" in log
    assert "complaint" in log
    assert "from a child" in log
    _, head = child.decoded()
    assert head["one"] == 1


def test_a_trainer_dies_with_its_parent_even_while_training(start: Callable[[], Child]) -> None:
    child = start()
    child.begin("Hangs")
    child.say(child.work())
    while child.hear() != {"progress": {"stage": "training", "done": 100, "total": 100}}:
        pass
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(10) == 0


def test_a_task_that_kills_the_process_is_seen_as_its_signal(start: Callable[[], Child]) -> None:
    child = start()
    child.begin("Dies")
    assert child.ask(child.work()) == {}
    assert child.process.wait(10) == -signal.SIGABRT


def test_memory_is_the_model_and_little_more(start: Callable[[], Child]) -> None:
    """25.6 MB of plain arrays: at most 2.2 times that above what the imports took."""
    child = start()
    imports = child.open("Large")["opened"]["imports_rss_mb"]
    child.describe()
    for round_number in (1, 2):
        assert "done" in child.ask(child.work(round_number=round_number))
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    assert peak - imports <= 2.2 * 25.6


def test_a_damaged_or_other_model_is_refused(start: Callable[[], Child]) -> None:
    child = start()
    child.begin("Plain")
    other = child.work() | {"model_sha256": "0" * 64}
    assert child.ask(other)["failed"]["code"] == "bad_model"
    file = child.folder / "model"
    sealed = bytearray(file.read_bytes())
    sealed[-1] ^= 1
    file.write_bytes(sealed)
    assert child.ask(child.work())["failed"]["code"] == "bad_model"
    child.open("Large")
    large_model = child.describe()["model"]
    large = file.read_bytes()
    child.begin("Plain")
    file.write_bytes(large)
    assert child.ask(child.work())["failed"]["code"] == "bad_model"
    other = child.work() | {"model_sha256": large_model}
    assert child.ask(other)["failed"]["code"] == "model_differs"


def test_a_request_that_is_none_gets_an_answer(start: Callable[[], Child]) -> None:
    child = start()
    for message in (
        {"do": "dance"},
        [1],
        {"do": "work"},
        {"do": "open", "task": 3},
        {"do": "describe", "out": "x"},
    ):
        assert child.ask(message)["failed"]["code"] == "trainer_fault", message
    assert child.process.stdin is not None
    child.process.stdin.write(b"no json\n")
    assert child.ask({"do": "dance"})["failed"]["code"] == "trainer_fault"
    assert child.hear()["failed"]["code"] == "trainer_fault"
    assert "opened" in child.open("Plain")


def test_a_task_that_is_not_there_is_named(start: Callable[[], Child]) -> None:
    child = start()
    failed = child.open("Plian")["failed"]
    assert failed["code"] == "task_error"
    assert 'did you mean "Plain"?' in failed["detail"]
