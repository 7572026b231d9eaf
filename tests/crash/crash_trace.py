"""Holds a trace of writes, syncs and renames against what was called durable, and against what left.

The disk of POSIX, read strictly: bytes are there after fsync of their file, names after that of their folder.
The rules are those of ARCHITECTURE.md, "save, then act", and of docs/SECURE_AGGREGATION.md for a site.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

# Keys under which nothing was said may go with a power failure, and then go with all that was done with them
# (vault.py, Attempts.apply); each other message leaves after the state that holds it is on the disk.
NEEDS_NO_STATE = {"Entry", "Advertise"}


@dataclass(slots=True)
class Trace:
    """What is known of the disk, line after line."""

    dirty: set[str] = field(default_factory=set)  # files with bytes that are not synced
    names: set[str] = field(default_factory=set)  # names whose folder is not synced
    kept: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)  # of attempts, durable
    because: dict[str, str] = field(default_factory=dict)  # message -> the state that holds it
    vectors: dict[str, str] = field(
        default_factory=dict
    )  # attempt -> the state that holds its vector's digest
    claims: dict[str, int] = field(default_factory=dict)  # what was checked, and how often
    wrong: list[str] = field(default_factory=list)
    _clean: dict[str, bool] = field(default_factory=dict)  # thread -> whether its last claim held

    def read(self, lines: Iterable[str]) -> "Trace":
        for line in lines:
            thread, _, rest = line.rstrip("\n").partition(" ")
            kind, *words = rest.split("\t")
            if kind == "mark":
                self._marked(thread, words[0])
            else:
                self._called(kind, words)
        return self

    def _called(self, kind: str, words: list[str]) -> None:
        path = words[0]
        match kind:
            case "write" | "cut":
                self.dirty.add(path)
            case "create" | "make":
                self.names.add(path)
            case "sync":
                self.dirty.discard(path)
                self.names = {name for name in self.names if name.rpartition("/")[0] != path}
            case "rename":
                other = words[1]
                self.dirty.discard(other)
                if path in self.dirty:
                    self.dirty.remove(path)
                    self.dirty.add(other)
                self.names.discard(path)
                self.names.add(other)
            case "unlink":
                self.dirty.discard(path)
                self.names.discard(path)

    def _marked(self, thread: str, text: str) -> None:
        kind, _, rest = text.partition(" ")
        self.claims[kind] = self.claims.get(kind, 0) + 1
        match kind:
            case "durable":
                self._clean[thread] = self._durable(rest)
            case "kept":
                self._keep(thread, rest)
            case "leaves":
                self._needs(rest in self.kept, f"{rest} left before it was on the disk")
            case "because":
                message, state = rest.split()
                self.because.setdefault(message, state)
            case "vector":
                attempt, _, state = rest.rpartition(" ")
                self.vectors[attempt] = state
            case "says":
                message, leg = rest.split()
                held = self.because.get(message) in self.states
                self._needs(held or leg in NEEDS_NO_STATE, f"{leg} left before its state was on the disk")
            case "sends":
                attempt, _, digest = rest.rpartition(" ")
                masked = self.vectors.get(attempt)
                held = masked in self.states if masked else f"release {digest}" in self.kept
                self._needs(held, f"bytes of {attempt} left before the disk knew of them")

    def _keep(self, thread: str, fact: str) -> None:
        if not self._clean.get(thread, True):
            return
        if fact.startswith("state "):
            self.states.add(fact.removeprefix("state "))
        else:
            self.kept.add(fact)

    def _durable(self, path: str) -> bool:
        missing = [path] if path in self.dirty else []
        missing += [name for name in self.names if path == name or path.startswith(f"{name}/")]
        self._needs(not missing, f"{path} was called durable; not synced: {', '.join(missing)}")
        return not missing

    def _needs(self, held: bool, otherwise: str) -> None:
        if not held:
            self.wrong.append(otherwise)
