"""The next model in the making: what fails in the middle fails as itself and leaves nothing behind."""

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import test_aggregation_apply as rounds
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate, Unavailable
from unisono.base.ids import ClientName, Digest
from unisono.codec import Spec
from unisono.crypto import SEGMENT, AtRest, system_entropy
from unisono.plan import Plan
from unisono.server.blobs import LocalDir
from unisono.server.blobs.disk import write_at
from unisono.server.rounds import Aggregate
from unisono.server.runtime.publishing import Draft, draft_model
from unisono.strategies import load, spec_for
from unisono.tensors import Entry, Manifest

MANIFEST = Manifest((Entry("w", (7 * SEGMENT // 4,), "F32", True),), ("loss",))
PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})


@dataclass
class Desk:
    """A blob store with a model of some segments, and the sum of three updates to it."""

    root: Path
    blobs: LocalDir
    spec: Spec
    model: Digest
    total: NDArray[np.uint64]

    def draft(self) -> Draft:
        names = tuple((ClientName(name), Digest("0" * 64)) for name in "abc")
        effect = Aggregate(1, 1, "train", 5, names, self.model, (1.0,), ())
        return draft_model(self.blobs, PLAN, MANIFEST, self.spec, effect, self.total)

    def left(self) -> list[str]:
        return [path.name for path in self.root.iterdir() if path.name != self.model]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    rng, strategy = np.random.default_rng(5), load("fedavg")
    parts = strategy.parts(strategy.Parameters(), MANIFEST)
    spec = spec_for(parts, {parts[0].name: 1.0}, MANIFEST.metrics, lanes=32, clients=5)
    words = rounds.upload(spec, rng.uniform(-0.1, 0.1, MANIFEST.length).astype(np.float32), 100, rng)
    blobs = LocalDir(tmp_path, AtRest(bytes(32)), system_entropy)
    with blobs.writer() as blob:
        blob.write(rounds.random_file(MANIFEST, rng))
        model = blob.commit()
    return Desk(tmp_path, blobs, spec, model, words * np.uint64(3))


def test_it_is_the_same_model_each_time(desk: Desk) -> None:
    first, second = desk.draft().commit(), desk.draft().commit()
    assert first.model == second.model != desk.model
    assert desk.left() == [first.model]


@pytest.mark.parametrize("write", [1, 4, 8])
def test_a_disk_that_is_full_in_the_middle(desk: Desk, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    writes = iter(range(100))

    def full(file: int, data: memoryview | bytes, offset: int) -> None:
        if next(writes) >= write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(file, data, offset)

    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("unisono.server.blobs.local.write_at", full)
    with pytest.raises(Unavailable):  # not that of a later segment, which finds the file given up
        desk.draft().commit()
    assert desk.left() == []
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_a_sum_that_breaks_off_in_the_middle(desk: Desk) -> None:
    """A lane above what three clients reach, in the fifth block."""
    desk.total[5 * SEGMENT // 8] = np.uint64(2**64 - 1)
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(BadUpdate, match="a lane of the sum"):
        desk.draft()
    assert desk.left() == []
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
