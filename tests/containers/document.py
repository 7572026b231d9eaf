"""Commands as docs/DEPLOYING.md has them, so that the page cannot say what does not work."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from engine import ROOT, Engine, Said, command

PAGE = ROOT / "docs" / "DEPLOYING.md"


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Return the fenced blocks of a section, its subsections left out."""
    [section] = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)",
        outside_fences(PAGE.read_text(encoding="utf-8")),
        re.M | re.S,
    )
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", section.replace("\0", "#"), re.M | re.S)
    return [textwrap.dedent(block) for block in found]


def outside_fences(text: str) -> str:
    """Hide the `#` within fences: there they begin comments, not headings."""
    return re.sub(r"^ *```.*?^ *```$", lambda fence: fence[0].replace("#", "\0"), text, flags=re.M | re.S)


def replaced(text: str, substitutions: Mapping[str, str]) -> str:
    """Put a reader's names for the page's.  Each has to be there: a page that changed is noticed."""
    for old, new in substitutions.items():
        assert old in text, f"{old!r} is not in\n{text}"
        text = text.replace(old, new)
    return text


def shell(engine: Engine, line: str, folder: Path, *, functions: str = "", seconds: float = 300.0) -> Said:
    """Run a block as a person would paste it, in `folder`; the first command that fails ends it."""
    script = f'docker() {{ {engine.docker} "$@"; }}\nsudo() {{ "$@"; }}\n{functions}\ncd {folder}\n{line}'
    return command("bash", "-euo", "pipefail", "-c", script, seconds=seconds, environment=engine.environment)
