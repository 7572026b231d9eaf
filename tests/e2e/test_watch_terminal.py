"""`run watch` on a terminal, through a pty: the picture, and Ctrl-C that leaves the run alone."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

import pytest
from harness import CLIENTS, Federation, eventually, plan

pytestmark = pytest.mark.e2e
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a terminal of its own, and all that it drew."""

    def __init__(self, words: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "24"}
        self.popen = subprocess.Popen(  # noqa: S603
            words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self._drawn = bytearray()
        self._thread = Thread(target=self._read)
        self._thread.start()

    @property
    def text(self) -> str:
        return _CODES.sub("", self._drawn.decode(errors="replace"))

    def interrupt(self) -> int:
        self.popen.send_signal(signal.SIGINT)
        code = self.popen.wait(20)
        self._thread.join(10)
        return code

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._thread.join(10)
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # the other end is closed
            while data := os.read(self._ours, 4096):
                self._drawn += data


def test_the_live_view_and_ctrl_c(federation: Federation) -> None:
    federation.serve()
    for name in CLIENTS:
        federation.client(name)
    text = plan(
        4, 3, protection={"mode": "secagg", "max_colluding": 0}, parameters={"size": 2_000, "seconds": 2.0}
    )
    file = federation.root / "plan.toml"
    file.write_text(text)
    federation.ok("run", "start", file, "--dir", federation.operator)
    words = [sys.executable, "-m", "unisono.cli", "run", "watch", "--dir", str(federation.operator)]
    screen = Terminal(words)
    try:
        for wanted in (
            "r-0001 arrays · secagg · round",
            "advertising ✓   sharing ✓   uploading ▶",
            "training",
            "waiting for",
            " of 4 · ",
            " left",
        ):
            eventually(lambda wanted=wanted: wanted in screen.text, 40, lambda: screen.text[-3000:])  # type: ignore[misc]
        assert screen.interrupt() == 130
        assert "r-0001 goes on; watch it again: unisono run watch r-0001" in screen.text
    finally:
        screen.close()
    assert federation.operate("run", "show")["state"] == "running", "Ctrl-C leaves the run alone"
    piped = Watched(words)
    assert piped.ended, piped.text
    lines = piped.text.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]+Z r-0001 round=\d+ phase=\w+ event=\w+", x) for x in lines)
    assert "\x1b" not in piped.text
    assert any(re.search(r"event=uploaded client=anna .*digest=[0-9a-f]{64}", line) for line in lines)
    assert lines[-1].split(" model=")[0].endswith('event=ended state=finished reason="all 4 rounds are done"')


class Watched:
    """The same command in a pipe."""

    def __init__(self, words: list[str]) -> None:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
        self.text, self.ended = done.stdout, done.returncode == 0


def test_a_terminal_that_is_gone_ends_the_command(federation: Federation) -> None:
    """`run watch | head -1`: no traceback, and the run goes on."""
    federation.serve()
    federation.client("anna")
    watch = federation.run(plan(1, 1, cohort={"min_survivors": 1}, parameters={"size": 100}))
    watch.finished()
    command = f"{sys.executable} -m unisono.cli run watch --dir {federation.operator} | head -1"
    began = time.monotonic()
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603
    assert "Traceback" not in done.stderr
    assert "r-0001" in done.stdout
    assert time.monotonic() - began < 60
