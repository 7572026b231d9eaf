"""The operator: starts run after run of the digits example and follows each to its end, whatever happens.

It is a process of the command line like everybody else, so it loses its connection too; what it does then is
what a script would do: watch again, or look whether the run that it could not be sure of has started.
"""

import json
import subprocess
import time
from dataclasses import dataclass, field

from stage import Document, Stage, Trouble

ENDED = ("finished", "failed", "stopped")
PLAN = """\
task = "digits"
seed = {seed}

[rounds]
count = {rounds}
attempts = 50
wait = "all"
idle_seconds = 120

[cohort]
size = {clients}
min_survivors = {clients}
wait_seconds = 120

[training]
epochs = 1
batch_size = 32
optimizer = "sgd"
learning_rate = 0.1

[protection]
mode = "secagg"
"""


@dataclass(slots=True)
class Played:
    """A run that has ended, and every model that it made."""

    id: str
    seed: int
    document: Document

    @property
    def models(self) -> list[str]:
        return [row["model_sha256"] for row in self.document["rounds"]]

    @property
    def attempts(self) -> int:
        return sum(row["attempts"] - 1 for row in self.document["rounds"])


@dataclass(slots=True)
class Operator:
    """Plays runs of `rounds` rounds with seeds 1, 2, ..."""

    stage: Stage
    rounds: int
    played: list[Played] = field(default_factory=list)
    moved: float = 0.0  # when something new was last heard
    current: Document | None = None
    _process: "subprocess.Popen[bytes] | None" = None
    _read: int = 0
    _known: set[str] = field(default_factory=set)

    @property
    def busy(self) -> bool:
        return self._process is not None or self.current is not None

    def turn(self, *, more: bool) -> None:
        """Look once; start the next run if there is none and `more` is wanted."""
        self._listen()
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._process = None
            self._listen()
            self._left()
        elif more:
            self._watch("start", str(self._plan()), "--watch")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _left(self) -> None:
        """Go on after a command that has ended: with the next run, with the same one, or with a guess."""
        found = self.current
        if found is None:
            found = self._unsure()
        elif found["state"] in ENDED:
            self._ended(found)
            return
        if found is not None:
            self.stage.put("watched_again", run=found["id"])
            self._watch("watch", found["id"])

    def _unsure(self) -> Document | None:
        """Return the run that was started though we never heard of it, if it was."""
        done = self.stage.run("list", "--json", "--dir", str(self.stage.operator))
        if done.returncode:
            return None
        fresh = [row for row in json.loads(done.stdout)["runs"] if row["id"] not in self._known]
        return fresh[0] if fresh else None

    def _ended(self, found: Document) -> None:
        self.current = None
        self._known.add(found["id"])
        played = Played(found["id"], len(self.played) + 1, found)
        self.stage.put("run_ended", run=played.id, state=found["state"], attempts_lost=played.attempts)
        self.played.append(played)
        if found["state"] != "finished":
            raise Trouble(f"{played.id} {found['state']}: {found['reason']}")

    def _plan(self) -> str:
        file = self.stage.root / "plan.toml"
        values = {"seed": len(self.played) + 1, "rounds": self.rounds, "clients": len(self.stage.clients)}
        file.write_text(PLAN.format(**values))
        return str(file)

    def _watch(self, *words: str) -> None:
        out = self.stage.root / "documents.jsonl"
        self._process, self._read = self.stage.watch(out, *words), out.stat().st_size

    def _listen(self) -> None:
        """Take in what the command has said by now."""
        file = self.stage.root / "documents.jsonl"
        if self._process is None and self._read == 0:
            return
        with file.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._hear(json.loads(line))

    def _hear(self, document: Document) -> None:
        if document["id"] in self._known:
            return
        before = len(self.current["rounds"]) if self.current else 0
        if self.current is None or len(document["rounds"]) != before:
            sentence = (document.get("status") or {}).get("sentence")
            self.stage.put("heard", run=document["id"], rounds=len(document["rounds"]), sentence=sentence)
            self.moved = time.monotonic()
        self.current = document
