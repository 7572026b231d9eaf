"""What a command prints: results to stdout, remarks to stderr.

With `--json` stdout carries JSON and nothing else, so everything that is not the result goes through `note`.
"""

import json
import sys
from collections.abc import Mapping


def print_json(document: Mapping[str, object]) -> None:
    """Write one object on one line, at once: a pipe that follows a run gets it when it happens."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False), flush=True)


def note(text: str) -> None:
    """Tell the person something that is not the result."""
    print(text, file=sys.stderr, flush=True)
