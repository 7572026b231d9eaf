"""From "module:Class" or "path/file.py:Class" to a task."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from unisono.base.errors import BadConfiguration

from .base import Task
from .context import Site

EXAMPLE = "unisono.demo.task:BreastCancer or task.py:Readmission"


def load(spelled: str) -> type[Task]:
    """Return the class that `spelled` names.  Raises BadConfiguration, whatever is wrong with it."""
    place, _, name = spelled.rpartition(":")
    if not place or not name.isidentifier():
        raise BadConfiguration(f'"{spelled}" does not name a task; write module:Class, for example {EXAMPLE}')
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        tasks = [
            n for n, value in vars(module).items() if isinstance(value, type) and issubclass(value, Task)
        ]
        near = get_close_matches(name, tasks, 1) or [n for n in tasks if n != "Task"]
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise BadConfiguration(f'there is no class "{name}" in {place}{hint}')
    if not issubclass(found, Task):
        raise BadConfiguration(f'"{spelled}" is not a task: derive {name} from unisono.client.Task')
    return found


def create(kind: type[Task], site: Site, parameters: Mapping[str, object]) -> Task:
    """Return the task at `site`, its parameters checked by its own model.  Raises BadConfiguration."""
    if kind.Parameters is None:
        return kind(replace(site, parameters=dict(parameters)))
    from pydantic import ValidationError  # noqa: PLC0415 - only for tasks that have one

    try:
        checked = kind.Parameters.model_validate(dict(parameters))
    except ValidationError as wrong:
        first = wrong.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.Parameters.model_fields)
        raise BadConfiguration(
            f"[task_parameters] {key}: {first['msg']}; {kind.__name__} knows {known or 'none'}"
        ) from None
    return kind(replace(site, parameters=checked))


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and (name == missing.name or name.startswith(missing.name + ".")):
            raise BadConfiguration(
                f'there is no module "{name}" here; is it installed, or should it be a path ending in .py?'
            ) from None
        raise _broken(name, missing) from missing
    except Exception as raised:
        raise _broken(name, raised) from raised


def _from_file(path: Path) -> ModuleType:
    """Import one file under its own name, its folder first in the search path for its neighbours."""
    if not path.is_file():
        raise BadConfiguration(f"there is no file {path} (looked from {Path.cwd()})")
    name = path.stem if path.stem not in sys.modules else f"unisono_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise BadConfiguration(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module  # the workers of a DataLoader look its classes up by this name
    try:
        spec.loader.exec_module(module)
    except Exception as raised:
        del sys.modules[name]
        raise _broken(str(path), raised) from raised
    return module


def _broken(place: str, raised: Exception) -> BadConfiguration:
    return BadConfiguration(f"importing {place} failed: {type(raised).__name__}: {raised}")
