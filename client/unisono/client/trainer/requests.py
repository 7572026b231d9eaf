"""The requests that a trainer takes, one JSON object a line, and their checked form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unisono.base.errors import BadMessage

What = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class Open:
    """Load a task.  Everything later happens with it."""

    task: str
    name: str
    number: int
    data: Path | None
    plan: bytes
    device: str
    threads: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Describe:
    """Make the first model and say what it is."""

    out: Path


@dataclass(frozen=True, slots=True)
class Seal:
    """Write the update as it travels: sealed to this X25519 key, bound to this context."""

    public: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class Keep:
    """Write the update for this site only: at rest under its own key, to be masked later."""

    context: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """Take part in a round: evaluate the model received, train it, write the update."""

    what: What
    run: str
    round: int
    model: Path
    model_sha256: str
    spec: bytes
    out: Path
    form: Seal | Keep


Request = Open | Describe | Work


def parse(message: object) -> Request:
    """Return the request in one decoded line.  Raises BadMessage."""
    if not isinstance(message, dict):
        raise BadMessage("a request is not a JSON object")
    fields = _Fields(message)
    match message.get("do"):
        case "open":
            return _open(fields)
        case "describe":
            return Describe(Path(fields.text("out")))
        case "work":
            return _work(fields)
    raise BadMessage(f'"do" is {message.get("do")!r:.40}; known are open, describe, work')


def _open(fields: "_Fields") -> Open:
    site = _Fields(fields.table("site"))
    data = site.maybe_text("data")
    return Open(
        task=fields.text("task"),
        name=site.text("name"),
        number=site.whole("number"),
        data=Path(data) if data else None,
        plan=fields.text("plan").encode(),
        device=fields.text("device"),
        threads=fields.whole("threads"),
        key=fields.raw("key"),
    )


def _work(fields: "_Fields") -> Work:
    what = fields.text("what")
    if what not in ("train", "evaluate"):
        raise BadMessage(f'"what" is "{what:.40}"; known are train, evaluate')
    return Work(
        what="train" if what == "train" else "evaluate",
        run=fields.text("run"),
        round=fields.whole("round"),
        model=Path(fields.text("model")),
        model_sha256=fields.text("model_sha256"),
        spec=fields.text("spec").encode(),
        out=Path(fields.text("out")),
        form=_form(fields),
    )


def _form(fields: "_Fields") -> Seal | Keep:
    if fields.has("seal") == fields.has("keep"):
        raise BadMessage('work has "seal" or "keep", and not both')
    if fields.has("keep"):
        return Keep(_Fields(fields.table("keep")).raw("context"))
    seal = _Fields(fields.table("seal"))
    return Seal(seal.raw("public"), seal.raw("context"))


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed reads from a JSON object."""

    table_: Mapping[str, object]

    def has(self, key: str) -> bool:
        return self.table_.get(key) is not None

    def text(self, key: str) -> str:
        value = self.table_.get(key)
        if not isinstance(value, str):
            raise BadMessage(f'"{key}" is not a text')
        return value

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if self.has(key) else None

    def whole(self, key: str) -> int:
        value = self.table_.get(key)
        if type(value) is not int:
            raise BadMessage(f'"{key}" is not a whole number')
        return value

    def raw(self, key: str) -> bytes:
        try:
            return bytes.fromhex(self.text(key))
        except ValueError:
            raise BadMessage(f'"{key}" is not hexadecimal') from None

    def table(self, key: str) -> Mapping[str, object]:
        value = self.table_.get(key)
        if not isinstance(value, dict):
            raise BadMessage(f'"{key}" is not an object')
        return value
