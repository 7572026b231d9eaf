"""The tasks in the documentation are complete: each passes `unisono task check`, with the plan beside it."""

import re
from pathlib import Path

import pytest
import torch

from unisono.client.task import Site, create, load
from unisono.client.trainer.checking import Examination
from unisono.plan import Plan, parse

PAGE = Path(__file__).parents[2] / "docs" / "TASKS.md"
TEXT = PAGE.read_text(encoding="utf-8")
TASKS = {
    re.findall(r"^class (\w+)\(Task\)", text, re.MULTILINE)[0]: text
    for text in re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
}
PLANS = [
    parse(text.encode())
    for text in re.findall(r"^```toml\n# plan.toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write what the first example reads from its site's disk."""
    for name, rows in (("train", 60), ("held_out", 20)):
        x = torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows))
        torch.save((x, (x[:, 0] > 0).float()), tmp_path / f"{name}.pt")
    return tmp_path


def plan_for(name: str) -> Plan:
    return next((plan for plan in PLANS if plan.task == name.lower()), Plan(task="check"))


@pytest.mark.parametrize("name", TASKS)
def test_the_task_passes_its_check(name: str, data: Path, tmp_path: Path) -> None:
    file = tmp_path / f"docs_{name.lower()}.py"
    file.write_text(TASKS[name], encoding="utf-8")
    kind, plan = load(f"{file}:{name}"), plan_for(name)
    site = Site("check", 1, data)
    found = list(Examination(lambda: create(kind, site, plan.task_parameters), plan, "cpu").findings())
    assert [(finding.step, finding.text) for finding in found if finding.state == "problem"] == []
    assert [finding.step for finding in found][-1] == "repeat"


def test_there_is_a_task_for_each_way() -> None:
    assert {"Readmission", "Loaders", "Sized", "OwnLoop", "Mean"} == set(TASKS)
