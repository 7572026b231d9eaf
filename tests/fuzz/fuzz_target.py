"""What a fuzz target is: a parser of outside bytes, what it may raise, and what must hold of what it takes.

`check` is handed any bytes.  It returns if they are refused by one of `errors` or taken and every property
holds; anything else that it raises is a finding.  The same function runs under atheris (`make fuzz`), over
the committed corpus and under Hypothesis (`make test`), so a finding is a file in `corpus/TARGET`.
"""

import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from unisono.base.errors import Error

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 2.0  # for one input, on a busy machine
FIXED, FACTOR = 4 << 20, 400  # bytes that one input may cost: so many, and so many for each of its own


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    errors: tuple[type[Exception], ...]  # a refusal; of our own families only
    longest: int = 4096  # bytes of an input that atheris makes

    def __call__(self, data: bytes) -> None:
        """Try one input.  Raises whatever is no refusal."""
        try:
            self.check(data)
        except self.errors as error:
            refused(error)

    def measured(self, data: bytes) -> None:
        """As a call; and hold time and memory to their bounds."""
        tracemalloc.start()
        began = perf_counter()
        try:
            self(data)
            took, peak = perf_counter() - began, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert took < SECONDS, f"{self.name}: {took:.1f} s for {len(data)} bytes"
        most = FIXED + FACTOR * len(data)
        assert peak < most, f"{self.name}: {peak} bytes of memory for {len(data)} bytes, {most} allowed"

    def corpus(self) -> list[tuple[str, bytes]]:
        """Return what was found once, by name."""
        folder = CORPUS / self.name
        return [(path.name, path.read_bytes()) for path in sorted(folder.glob("*"))]


def refused(error: Exception) -> None:
    """Hold a refusal to what people are promised: our family, a message, of a length for a terminal."""
    assert isinstance(error, Error), error
    text = str(error)
    assert text, "an error without a word"
    assert len(text) < 2500, f"{len(text)} characters of error"
    hidden = [c for c in text if not c.isprintable() and c != "\n"]
    assert not hidden, f"an error that steers the terminal: {text[:200]!r}"


def same(first: object, second: object) -> None:
    """Raise unless both are equal."""
    assert first == second, f"{first!r:.300} became {second!r:.300}"
