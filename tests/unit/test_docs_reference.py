"""The reference tables of the documentation hold exactly the keys, defaults and columns of the code."""

import re
import sqlite3
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from unisono.base.system_clock import SystemClock
from unisono.client.config import Config as ClientConfig
from unisono.client.policy import Policy
from unisono.client.runtime.vault import Vault
from unisono.plan import Plan
from unisono.server.config import Config as ServerConfig
from unisono.server.store import schema
from unisono.strategies import known
from unisono.strategies import load as load_strategy

DOCS = Path(__file__).parents[2] / "docs"
PLANS, CONFIGURATION, DATA_MODEL = "PLANS.md", "CONFIGURATION.md", "DATA_MODEL.md"
SECTIONS = [name for name, field in Plan.model_fields.items() if isinstance(field.default, BaseModel)]


def rows(page: str, after: str) -> list[list[str]]:
    """Return the cells of the first table below a line that begins with `after`, its head left out."""
    text = (DOCS / page).read_text(encoding="utf-8")
    place = re.search(rf"^{re.escape(after)}.*$", text, re.MULTILINE)
    assert place is not None, f"{page} has no line {after!r}"
    table = re.search(r"(?:^\|.*\n)+", text[place.end() :], re.MULTILINE)
    assert table is not None, f"{page} has no table below {after!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def keys(page: str, after: str) -> dict[str, object]:
    """Return key -> default of a table; "none" is None, "required" is Ellipsis."""
    words: Mapping[str, object] = {"none": None, "required": ...}
    return {
        key.strip("`"): words[default]
        if default in words
        else tomllib.loads(f"x = {default.strip('`')}")["x"]
        for key, default, *_ in rows(page, after)
    }


def defaults(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> dict[str, object]:
    return {
        name: ...
        if field.is_required()
        else list(field.default)
        if isinstance(field.default, tuple)
        else field.default
        for name, field in model.model_fields.items()
        if name not in without
    }


def test_the_plans_own_keys() -> None:
    assert keys(PLANS, "## Top level") == defaults(Plan, without=(*SECTIONS, "task_parameters"))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_keys_of_a_plans_section(section: str) -> None:
    model = type(Plan.model_fields[section].default)
    assert keys(PLANS, f"## `[{section}]`") == defaults(model)


def test_every_section_has_its_heading_in_the_plans_order() -> None:
    headings = re.findall(r"^## `\[(\w+)\]`$", (DOCS / PLANS).read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [name for name in Plan.model_fields if name in {*SECTIONS, "task_parameters"}]


@pytest.mark.parametrize("strategy", ["fedavg", "fedsgd", "fedadam"])
def test_the_parameters_of_a_strategy(strategy: str) -> None:
    assert keys(PLANS, f'`strategy = "{strategy}"`') == defaults(load_strategy(strategy).Parameters)


def test_every_strategy_is_described() -> None:
    text = (DOCS / PLANS).read_text(encoding="utf-8")
    assert sorted(re.findall(r'^`strategy = "(\w+)"`', text, re.MULTILINE)) == known()


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## `policy.toml`", Policy),
        ("## `client.toml`", ClientConfig),
        ("## `coordinator.toml`", ServerConfig),
    ],
)
def test_the_keys_of_a_configuration(heading: str, model: type[BaseModel]) -> None:
    told = keys(CONFIGURATION, heading)
    read = model.model_validate({key: value for key, value in told.items() if value is not None})
    assert list(told) == list(model.model_fields)
    assert read == model()


def columns(heading: str) -> dict[str, list[str]]:
    return {table.strip("`"): re.findall(r"`(\w+)`", cells) for table, cells, *_ in rows(DATA_MODEL, heading)}


def test_the_coordinators_tables() -> None:
    wanted = {
        table.name: [column.name for column in table.columns] for table in schema.metadata.sorted_tables
    }
    assert columns("## The coordinator's tables") == wanted


def test_the_sites_tables(tmp_path: Path) -> None:

    Vault(tmp_path, SystemClock()).close()
    told = columns("## The site's tables")
    with sqlite3.connect(tmp_path / "state.db") as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in tables}
    db.close()
    assert told == found
