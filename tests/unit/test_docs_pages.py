"""What the documentation says can be done: commands exist, TOML blocks load, links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from unisono.cli.app import load
from unisono.cli.table import GROUPS, TABLE, Entry
from unisono.client.config import Config as ClientConfig
from unisono.client.policy import parse as parse_policy
from unisono.plan import parse as parse_plan
from unisono.server.config import Config as ServerConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docs/adr/*.md", "examples/*/*.md")
    for page in ROOT.glob(pattern)
)
PLANS = sorted(ROOT.glob("examples/*/*.toml"))
COMMANDS = {entry.words: entry for entry in TABLE}
LOADERS = {
    "plan.toml": parse_plan,
    "policy.toml": parse_policy,
    "client.toml": ClientConfig.load,
    "coordinator.toml": ServerConfig.load,
}


class Block(NamedTuple):
    """A fenced block: where, which language, what."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:60]}"


def blocks(*languages: str) -> list[Block]:
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = [
        Block(page, *match) for page in PAGES for match in fence.findall(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def typed() -> Iterator[tuple[str, str]]:
    """Yield (where, line) of each command in a block that a reader would copy."""
    for block in blocks("sh", "", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith("unisono "):
                yield f"{block.page.name}: {line}", line


def mentioned() -> Iterator[tuple[str, str]]:
    """Yield (where, line) of each command named in running text."""
    for page in PAGES:
        for text in re.findall(r"`(unisono [^`]+)`", prose(page)):
            if not text.startswith(("unisono -", "unisono.")):
                yield f"{page.name}: {text}", text


def command_of(words: list[str]) -> tuple[Entry, list[str]]:
    """Return the entry that a line's first words name, and the rest."""
    for length in (3, 2, 1):
        entry = COMMANDS.get(" ".join(words[:length]))
        if entry is not None:
            return entry, words[length:]
    raise AssertionError(f"there is no command {' '.join(words[:2])!r}")


@pytest.mark.parametrize(("where", "line"), [pytest.param(*one, id=one[0]) for one in typed()])
def test_a_command_to_copy_is_one_that_can_be_typed(where: str, line: str) -> None:
    """Parsed as the command line parses it: options, types, required ones, number of arguments."""
    entry, rest = command_of(shlex.split(line, comments=True)[1:])
    load(entry.target).make_context(f"unisono {entry.words}", rest)


@pytest.mark.parametrize(("where", "line"), [pytest.param(*one, id=one[0]) for one in mentioned()])
def test_a_command_named_in_the_text_exists(where: str, line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] in GROUPS and len(words) == 2 and words[1] == "--help":
        return
    entry, rest = command_of(words)
    known = {name for parameter in load(entry.target).params for name in parameter.opts} | {"--help", "-h"}
    used = {word.strip("[]").split("=")[0] for word in rest if word.strip("[").startswith("-")}
    assert used <= known, f"{entry.words} has no {', '.join(sorted(used - known))}"


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.name)
def test_a_toml_block_loads(block: Block) -> None:
    """Its first line says which file it is."""
    name = block.text.splitlines()[0].removeprefix("# ")
    assert name in LOADERS, f"the first line must name one of {', '.join(LOADERS)}"
    LOADERS[name](block.text.encode(), name)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: str(plan.relative_to(ROOT)))
def test_a_plan_of_the_examples_loads(plan: Path) -> None:
    parse_plan(plan.read_bytes(), str(plan))


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as they are made from their words."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is not there"
        assert ROOT in (there, *there.parents), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


def test_the_readme_is_short_and_shows_the_example_as_it_is() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    task = (ROOT / "examples" / "breast_cancer" / "task.py").read_text(encoding="utf-8")
    assert text.count("\n") < 200
    assert f"```python\n{task.rstrip()}\n```" in text
    assert task.count("\n") <= 30


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    assert pages == set(
        re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    )
    assert {page[:4] for page in pages} == {f"{number:04d}" for number in range(1, len(pages) + 1)}


def test_the_targets_of_make_are_those_of_the_makefile() -> None:
    makefile = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert listed | {"help"} == makefile


def test_the_benchmarks_that_the_readme_names_have_these_options() -> None:
    known = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "benchmarks" / "rounds.py").read_text(encoding="utf-8")))
    named = re.findall(r"`benchmarks/rounds.py (--[^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named
    assert {option for line in named for option in re.findall(r"--[a-z-]+", line)} <= known
