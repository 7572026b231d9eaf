"""Words of a peer: what may be shown, and what may name something."""

from unisono.base.errors import BadMessage
from unisono.base.ids import RunId, is_run


def printable(text: str, most: int) -> str:
    """Return what of a peer's words may go to a terminal: escape sequences would be carried out there."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:most])


def run_of(text: str) -> RunId:
    """Read the id of a run.  Raises BadMessage; a refusal may then name the run, also in a log."""
    if not is_run(text):
        raise BadMessage(f"{printable(text, 40)!r} names no run: one is called r-0001")
    return RunId(text)
