"""Strategies of other packages, through real entry points of a package in a temporary folder."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unisono.base.errors import BadConfiguration
from unisono.strategies import known, load

MODULE = """
from unisono.strategies.fedavg import FedAvg
class Mine(FedAvg):
    name = "mine"
class Half:
    name = "half"
    needs = None
def broken():
    raise TypeError("needs an argument")
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make distributions whose only content are entry points, and a module they point to."""

    def write(*points: str) -> None:
        for number, point in enumerate(points):
            info = tmp_path / f"theirs{number}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: theirs{number}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[unisono.strategies]\n{point}\n")

    (tmp_path / "theirs_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    sys.modules.pop("theirs_module", None)


def test_a_researchers_package_adds_a_strategy(install: Install) -> None:
    install("mine = theirs_module:Mine")
    assert "mine" in known()
    assert load("mine").name == "mine"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        BadConfiguration, match=r'"fedavgg"; did you mean "fedavg".*known: .*fedadam, fedavg, fedsgd'
    ):
        load("fedavgg")
    with pytest.raises(BadConfiguration, match=r'no strategy "zzz" \(known:'):
        load("zzz")


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ("bad = theirs_module:Half", "no strategy: it lacks Parameters, parts, state, init, apply"),
        ("bad = theirs_module:Nothing", "cannot be loaded"),
        ("bad = no_such_module:Nothing", "cannot be loaded"),
        ("bad = theirs_module:broken", "needs an argument"),
    ],
)
def test_a_broken_package_is_named(install: Install, point: str, words: str) -> None:
    install(point)
    with pytest.raises(BadConfiguration, match=words):
        load("bad")


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install("fedavg = theirs_module:Mine")
    with pytest.raises(BadConfiguration, match='two packages call a strategy "fedavg"'):
        load("fedavg")


def test_the_same_entry_point_twice_is_one_strategy(install: Install) -> None:
    install("mine = theirs_module:Mine", "mine = theirs_module:Mine")
    assert load("mine").name == "mine"
    assert known().count("mine") == 1
