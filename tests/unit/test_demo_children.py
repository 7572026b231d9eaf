"""Folders and processes of a demo."""

import os
import select
import signal
from pathlib import Path

import pytest

from unisono.base.errors import BadConfiguration
from unisono.demo.children import Children, Failed, environment, unhurried
from unisono.demo.commands import interrupted_by
from unisono.demo.folder import Folder


def test_only_a_demo_s_folder_is_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "precious"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(BadConfiguration, match="was not made by a demo"):
        Folder.fresh(mine)
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_demo_begins_with_nothing_of_the_last(tmp_path: Path) -> None:
    first = Folder.fresh(tmp_path / "demo")
    first.model.write_bytes(b"old")
    second = Folder.fresh(tmp_path / "demo")
    assert not second.model.exists()
    assert second.logs.is_dir()


def test_an_empty_folder_will_do_and_a_file_will_not(tmp_path: Path) -> None:
    assert Folder.fresh(tmp_path).path == tmp_path.resolve()
    (tmp_path / "file").touch()
    with pytest.raises(BadConfiguration, match="give another folder"):
        Folder.fresh(tmp_path / "file")


def test_children_get_none_of_our_settings_and_one_thread_each() -> None:
    given = environment({"UNISONO_DIR": "/elsewhere", "HOME": "/root", "OMP_NUM_THREADS": "64"})
    assert "UNISONO_DIR" not in given
    assert given["HOME"] == "/root"
    assert given["OMP_NUM_THREADS"] == "1"


def test_a_child_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children, pytest.raises(Failed, match="init exited with 2") as caught:
        children.done(children.command("init", "init"))
    assert "unisono init" in str(caught.value)
    assert "missing argument" in caught.value.tail
    assert len(str(caught.value).splitlines()) <= 3


def test_leaving_ends_children_that_hang_and_their_own(tmp_path: Path) -> None:
    """The child ignores SIGTERM and has a child of its own, as a client has a trainer."""
    lines = (
        "import os, signal, time",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "pid = os.fork()",
        "if pid: print(pid, flush=True)",
        "time.sleep(600)",
    )
    with Children(tmp_path, patience=0.1) as children:
        child = children.module("stubborn", "timeit", "-n1", "-r1", *lines)
        assert child.process.stdout is not None
        grandchild = os.pidfd_open(int(child.process.stdout.readline()))
    assert child.process.returncode == -signal.SIGKILL
    assert select.select([grandchild], [], [], 5.0)[0], "the grandchild still runs"
    os.close(grandchild)


def test_a_signal_is_an_interruption_only_inside() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt, match="SIGHUP"), interrupted_by(signal.SIGHUP):
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_signal_is_held_back_while_a_child_is_started() -> None:
    """Else a child could run that nobody knows of."""
    after: list[str] = []

    def start() -> None:
        with unhurried():
            os.kill(os.getpid(), signal.SIGHUP)
            after.append("known")
        after.append("lost")

    with pytest.raises(KeyboardInterrupt), interrupted_by(signal.SIGHUP):
        start()
    assert after == ["known"]


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unhurried():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
