"""The trainer's parent: every way a child can end or hang has its code, and no child is left behind."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unisono.base.system_clock import SystemClock
from unisono.client.runtime.halt import Halt, Halted
from unisono.client.runtime.trainer_process import Described, Moved, Opened, TaskFailure, TrainerProcess

ECHO = """
import json, os, sys, time
print("noise", file=sys.stderr)
count = 0
for line in sys.stdin:
    count += 1
    request = json.loads(line)
    do = request["do"]
    if do == "open":
        print(json.dumps({"opened": {"imports_rss_mb": float(count)}}), flush=True)
    elif do == "describe":
        for done in range(3):
            print(json.dumps({"progress": {"stage": "training", "done": done, "total": 3}}), flush=True)
        print(json.dumps({"described": {"manifest": "x" * 2_000_000, "model": "m", "bytes": 7}}), flush=True)
    elif do == "fail":
        failed = {"code": "not_finite", "text": "NaN", "detail": "patient 7"}
        print(json.dumps({"failed": failed}), flush=True)
    elif do == "exit":
        os._exit(3)
    elif do == "die":
        os.kill(os.getpid(), 9)
    elif do == "garbage":
        print("{this is not JSON", flush=True)
    elif do == "flood":
        sys.stdout.write("x" * 5_000_000); sys.stdout.flush(); time.sleep(60)
    elif do == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(60); os._exit(0)
        print(json.dumps({"opened": {"imports_rss_mb": float(child)}}), flush=True)
    else:
        time.sleep(60)
"""


@pytest.fixture
def halt() -> Iterator[Halt]:
    found = Halt()
    yield found
    found.close()


@pytest.fixture
def trainer(tmp_path: Path, halt: Halt) -> Iterator[TrainerProcess]:
    (tmp_path / "child.py").write_text(ECHO)
    command = (sys.executable, "-S", str(tmp_path / "child.py"))
    found = TrainerProcess(tmp_path / "trainer.log", 30.0, SystemClock(), halt, command)
    yield found
    found.stop()


def ask(trainer: TrainerProcess, do: str) -> object:
    return trainer.ask({"do": do}, lambda moved: None)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_it_stays_warm_between_requests(trainer: TrainerProcess) -> None:
    assert ask(trainer, "open") == Opened(imports_rss_mb=1.0)
    assert ask(trainer, "open") == Opened(imports_rss_mb=2.0)


def test_progress_comes_in_order_before_the_answer_however_long_it_is(trainer: TrainerProcess) -> None:
    moved: list[Moved] = []
    answer = trainer.ask({"do": "describe"}, moved.append)
    assert isinstance(answer, Described)
    assert len(answer.manifest) == 2_000_000
    assert [(m.stage, m.done, m.total) for m in moved] == [("training", n, 3) for n in range(3)]


def test_a_failure_keeps_our_text_and_the_users_words_apart_and_the_child_alive(
    trainer: TrainerProcess,
) -> None:
    ask(trainer, "open")
    with pytest.raises(TaskFailure) as caught:
        ask(trainer, "fail")
    assert (caught.value.failure, str(caught.value), caught.value.detail) == (
        "not_finite",
        "NaN",
        "patient 7",
    )
    assert ask(trainer, "open") == Opened(imports_rss_mb=3.0)


@pytest.mark.parametrize(
    ("do", "code", "words"),
    [
        ("die", "killed", "SIGKILL"),
        ("exit", "task_error", "exit code 3"),
        ("garbage", "trainer_fault", "protocol"),
        ("flood", "trainer_fault", "protocol"),
    ],
)
def test_a_child_that_ends_or_babbles_is_named_and_replaced(
    trainer: TrainerProcess, do: str, code: str, words: str
) -> None:
    with pytest.raises(TaskFailure, match=words) as caught:
        ask(trainer, do)
    assert caught.value.failure == code
    assert isinstance(ask(trainer, "open"), Opened)


def test_a_child_that_hangs_is_ended(tmp_path: Path, halt: Halt, trainer: TrainerProcess) -> None:
    hasty = TrainerProcess(
        tmp_path / "trainer.log", 0.2, SystemClock(), halt, (sys.executable, "-S", str(tmp_path / "child.py"))
    )
    with pytest.raises(TaskFailure, match=r"for 0\.2 s") as caught:
        ask(hasty, "hang")
    assert caught.value.failure == "no_progress"
    assert not hasty.alive


def test_a_refused_progress_ends_the_work(trainer: TrainerProcess) -> None:
    def refuse(moved: Moved) -> None:
        raise Halted("the attempt is over")

    with pytest.raises(Halted):
        trainer.ask({"do": "describe"}, refuse)
    assert not trainer.alive


def test_asking_to_end_interrupts_the_wait(trainer: TrainerProcess, halt: Halt) -> None:
    ask(trainer, "open")
    threading.Timer(0.05, halt.ask).start()
    with pytest.raises(Halted):
        ask(trainer, "hang")
    assert not trainer.alive


def test_what_the_child_started_ends_with_it(trainer: TrainerProcess) -> None:
    answer = ask(trainer, "fork")
    assert isinstance(answer, Opened)
    grandchild = int(answer.imports_rss_mb)
    assert alive(grandchild)
    trainer.stop()
    for _ in range(1000):
        if not alive(grandchild):
            return
        os.sched_yield()
        threading.Event().wait(0.002)
    pytest.fail("a data loader was left behind")


def test_what_the_task_prints_goes_to_the_log_only(trainer: TrainerProcess, tmp_path: Path) -> None:
    ask(trainer, "open")
    assert (tmp_path / "trainer.log").read_text() == "noise\n"
    assert (tmp_path / "trainer.log").stat().st_mode & 0o777 == 0o600
