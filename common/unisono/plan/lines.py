"""Where a key stands in a TOML text: `tomllib` keeps no positions, and an error without a line is a search.

The text has already been accepted by `tomllib`, so this scanner need not judge it, only walk it.
"""

import re
from collections.abc import Iterator

Path = tuple[str, ...]

DEEPEST = 4  # nothing of ours nests deeper; a key of a hundred thousand dots may not cost their square
_TOKEN = re.compile(
    r"""
      (?P<text> \"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
    | (?P<comment> \#[^\n]*)
    | (?P<end> \n)
    | (?P<mark> [\[\]{}=,.])
    | (?P<bare> [^\s\[\]{}=,.#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[Path, int]:
    """Return the first line of every section and key, counted from 1.

    Keys inside inline tables are not listed: ask for the longest prefix that is.
    """
    scan = _Scan()
    for kind, word in _tokens(text):
        scan.take(kind, word)
    return scan.found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup and match.lastgroup != "comment":
            yield match.lastgroup, match[0]


class _Scan:
    """One statement at a time: a header `[a.b]`, or a key, "=" and a value that may span lines."""

    def __init__(self) -> None:
        self.found: dict[Path, int] = {}
        self._line, self._depth = 1, 0
        self._section: Path = ()
        self._parts: list[str] = []
        self._state = "start"  # start, header, key, value

    def take(self, kind: str, word: str) -> None:
        match self._state, kind:
            case "value", "mark":
                self._depth += (word in "[{") - (word in "]}")
            case (("start" | "header" | "key"), ("bare" | "text")):
                if len(self._parts) < DEEPEST:
                    self._parts.append(word.strip("\"'"))  # an escaped key is not worth decoding
                self._state = "key" if self._state == "start" else self._state
            case "start", "mark" if word == "[":
                self._state = "header"
            case "header", "mark" if word == "]":
                self._section = tuple(self._parts)
                self._record(self._section)
            case "key", "mark" if word == "=":
                self._record((*self._section, *self._parts))
        self._line += word.count("\n")
        if kind == "end" and self._depth <= 0:
            self._state, self._parts, self._depth = "start", [], 0

    def _record(self, path: Path) -> None:
        for length in range(1, min(len(path), DEEPEST) + 1):
            self.found.setdefault(path[:length], self._line)
        self._state = "value"
