"""The task API itself: light to import, precise about what it cannot load."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from unisono.base.errors import BadConfiguration
from unisono.client import Site, Task
from unisono.client.task import create, load


def test_the_api_imports_neither_torch_nor_numpy_nor_pydantic() -> None:
    heavy = "{'torch', 'numpy', 'pydantic', 'grpc'}"
    code = f"import sys; from unisono.client import Task; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "set()"


def test_a_file_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("WORD = 'here'")
    (tmp_path / "mine.py").write_text(
        "from unisono.client import Task\nimport neighbour\nclass Mine(Task):\n    word = neighbour.WORD\n"
    )
    found = load(f"{tmp_path / 'mine.py'}:Mine")
    assert issubclass(found, Task)
    assert vars(found)["word"] == "here"


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("nothing", "write module:Class"),
        ("module:", "write module:Class"),
        ("no.such.module:Class", 'there is no module "no.such.module"'),
        ("unisono.nothing:Class", 'there is no module "unisono.nothing"'),
        ("missing/file.py:Class", "there is no file missing/file.py"),
        ("unisono.client:Tsk", 'did you mean "Task"?'),
        ("pathlib:Path", "derive Path from unisono.client.Task"),
    ],
)
def test_what_cannot_be_loaded_is_named(spelled: str, words: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        load(spelled)
    assert words in str(refused.value)


def test_a_file_that_does_not_import_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import not_installed_here")
    with pytest.raises(BadConfiguration, match=r"bad\.py failed: ModuleNotFoundError: .*not_installed_here"):
        load(f"{tmp_path / 'bad.py'}:Bad")


class Parameters(BaseModel, extra="forbid"):
    parts: int = 3


class Checked(Task):
    Parameters = Parameters


def test_parameters_are_checked_by_the_tasks_own_model() -> None:
    site = Site("a", 2)
    assert create(Checked, site, {}).site.parameters == Parameters(parts=3)
    assert create(Checked, site, {"parts": 4}).site.parameters.parts == 4
    assert create(Task, site, {"parts": 4}).site.parameters == {"parts": 4}
    with pytest.raises(BadConfiguration, match=r"\[task_parameters\] part: .*; Checked knows parts"):
        create(Checked, site, {"part": 4})


def test_what_a_task_lacks_is_named() -> None:
    with pytest.raises(NotImplementedError, match="Checked has no loss"):
        Checked(Site("a")).loss(None, None)
