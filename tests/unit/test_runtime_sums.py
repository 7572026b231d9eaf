"""Running sums over real sealed files.  Client i sends the unit vector e_i, so each mistake shows itself:
a 2 is a double count, a 0 among the counted is a loss, anything else is noise.
"""

import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unisono.base.errors import BadUpdate, Corrupt, PeerFault
from unisono.base.ids import ClientName, RunId
from unisono.codec import Encoder, Spec, SpecPart, decode_head, decode_part, encode_head
from unisono.crypto import ENVELOPE, SEGMENT, SealingKey, seal_to, sha256_hex, system_entropy
from unisono.server.runtime.layout import seal_context, upload_bytes
from unisono.server.runtime.sums import Sealed, Sums

RUN, KEY = RunId("r-0001"), SealingKey.generate(system_entropy)
NAMES = [ClientName(f"c{i}") for i in range(4)]
SPEC = Spec(32, 4, (SpecPart("delta", 4, 1.0, weighted=False),), ("one", "weight", "loss.sum", "loss.count"))
LONG = Spec(32, 2, (SpecPart("delta", 2 * SEGMENT, 1.0, weighted=False),), ("one", "weight"))  # 8 MiB


def unit(spec: Spec, i: int) -> NDArray[np.uint64]:
    """The words of the update e_i with weight 1."""
    x = np.zeros(spec.parts[0].length, np.float32)
    x[i] = 1.0
    words = np.zeros(spec.words, np.uint64)
    Encoder(spec, spec.parts[0]).encode(x, np.full(x.size, 1 << 31, np.uint32), words[: spec.head_offset])
    head = {"one": 1.0, "weight": 1.0, "loss.sum": 0.5, "loss.count": 1.0}
    words[spec.head_offset :] = encode_head({name: head[name] for name in spec.head}, spec)
    return words


@dataclass
class Folder:
    path: Path

    def put(
        self, client: ClientName, words: NDArray[np.uint64], spec: Spec = SPEC, round_: int = 1
    ) -> Sealed:
        context = seal_context(RUN, round_, client, "0" * 64, spec)
        envelope, sealer = seal_to(KEY.public, context, system_entropy)
        plain = words.tobytes()
        cuts = range(0, len(plain), SEGMENT)
        body = [sealer.seal(plain[at : at + SEGMENT], last=at == cuts[-1]) for at in cuts]
        data = envelope + b"".join(body)
        assert len(data) == upload_bytes(spec)
        return self.raw(client, data, context)

    def raw(self, client: ClientName, data: bytes, context: bytes) -> Sealed:
        digest = sha256_hex(data)
        path = self.path / f"{client}-{digest}"
        path.write_bytes(data)
        return Sealed(client, digest, path, context)

    def unit(self, i: int, spec: Spec = SPEC, round_: int = 1) -> Sealed:
        return self.put(NAMES[i], unit(spec, i), spec, round_)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def total(
    sums: Sums, updates: Sequence[Sealed], spec: Spec = SPEC, at: tuple[int, int] = (1, 1)
) -> list[float]:
    words = sums.total(RUN, *at, spec, {update.client: update for update in updates})
    assert decode_head(words[spec.head_offset :], spec)["one"] == len(updates)
    out = np.empty(spec.parts[0].length, np.float64)
    decode_part(spec, spec.parts[0], words[: spec.head_offset], len(updates), out)
    return [round(float(v), 6) for v in out[:4]]


def fold(sums: Sums, update: Sealed, spec: Spec = SPEC, at: tuple[int, int] = (1, 1)) -> None:
    sums.fold(RUN, *at, spec, update)


def test_the_sum_is_of_each_once_in_any_order(folder: Folder) -> None:
    updates = [folder.unit(i) for i in range(4)]
    found = set()
    for order in permutations(updates):
        sums = Sums(KEY)
        for update in order:
            fold(sums, update)
            fold(sums, update)  # its reply was lost
        found.add(sums.total(RUN, 1, 1, SPEC, {u.client: u for u in updates}).tobytes())
        assert total(sums, updates) == [1, 1, 1, 1]
    assert len(found) == 1


def test_after_a_restart_the_sum_comes_from_the_spool(folder: Folder) -> None:
    updates = [folder.unit(i) for i in range(3)]
    sums = Sums(KEY)
    fold(sums, updates[1])
    assert total(sums, updates) == total(Sums(KEY), updates) == total(sums, updates) == [1, 1, 1, 0]


def test_only_survivors_count_also_when_another_was_folded_in(folder: Folder) -> None:
    sums = Sums(KEY)
    for i in range(4):
        fold(sums, folder.unit(i))
    survivors = [folder.unit(i) for i in (0, 2)]  # sealed anew: other bytes than those folded in
    assert total(sums, survivors) == [1, 0, 1, 0]
    fold(sums, folder.unit(3))  # a moment too late
    assert total(sums, survivors) == [1, 0, 1, 0]


def test_other_bytes_of_the_same_client_replace_the_first(folder: Folder) -> None:
    sums, first, other = Sums(KEY), folder.unit(0), folder.unit(1)
    again = folder.unit(0)  # sealed anew, because the site lost its first file before that was acknowledged
    assert again.digest != first.digest
    for update in (first, other, again):
        fold(sums, update)
    assert total(sums, [again, other]) == [1, 1, 0, 0]


def test_attempts_and_rounds_do_not_mix(folder: Folder) -> None:
    sums, first, second = Sums(KEY), folder.unit(0), folder.unit(1)
    fold(sums, first)
    fold(sums, second, at=(1, 2))
    fold(sums, first)  # of the attempt before, still on its way
    assert total(sums, [second], at=(1, 2)) == [0, 1, 0, 0]
    sums.drop_until(RUN, 1, 1)
    assert sums._partials
    sums.drop_until(RUN, 1, 2)
    assert not sums._partials
    sums.drop(RUN)


def damaged(folder: Folder) -> list[Sealed]:
    good = folder.unit(1)
    data = good.path.read_bytes()
    bits = [bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]]) for at in (0, 9, ENVELOPE, len(data) - 1)]
    files = [*bits, data[:-1], data[:ENVELOPE], data[:7], b""]
    return [folder.raw(NAMES[1], bad, good.context) for bad in files]


def test_damaged_files_are_refused_and_leave_the_sum_as_it_was(folder: Folder) -> None:
    sums, first = Sums(KEY), folder.unit(0)
    fold(sums, first)
    for bad in damaged(folder):
        with pytest.raises(Corrupt):
            fold(sums, bad)
        assert total(sums, [first]) == [1, 0, 0, 0]
    moved = replace(folder.unit(1), context=seal_context(RUN, 2, NAMES[1], "0" * 64, SPEC))
    with pytest.raises(Corrupt):  # another round's, played again
        fold(sums, moved)
    with pytest.raises(Corrupt, match="update of c1 is not in the spool"):
        fold(sums, replace(moved, path=folder.path / "nowhere"))
    fold(sums, folder.unit(1))
    assert total(sums, [first, replace(folder.unit(1))]) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("word", "value", "words"),
    [
        (0, (1 << 32) - 1, "a lane of the sum is 4294967295"),
        (1, 2 * SPEC.levels + 1, "a lane of the sum is"),
        (2, 2 << 24, "counts 2.0 clients"),
        (2, 0, "counts 0.0 clients"),
        (3, 2 << 24, "weights of 1 clients sum to 2"),
        (5, (1 << 64) - (1 << 24), 'metric "loss" has the count -1'),
    ],
)
def test_what_no_honest_client_sends_is_refused(folder: Folder, word: int, value: int, words: str) -> None:
    sums, first = Sums(KEY), folder.unit(0)
    fold(sums, first)
    bad = unit(SPEC, 1)
    bad[word] = value
    with pytest.raises(BadUpdate, match=words):
        fold(sums, folder.put(NAMES[1], bad))
    assert total(sums, [first]) == [1, 0, 0, 0]


def test_an_error_halfway_begins_the_sum_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [folder.unit(i, LONG) for i in range(2)]
    sums = Sums(KEY)
    fold(sums, updates[0], LONG)
    reads, preadv = [0], os.preadv

    def breaking(file: int, buffers: list[memoryview], offset: int) -> int:
        reads[0] += 1
        if reads[0] == 3:  # two of 9 segments are in the sum already
            raise OSError(5, "Input/output error")
        return preadv(file, buffers, offset)

    monkeypatch.setattr(os, "preadv", breaking)
    with pytest.raises(OSError, match="Input/output"):
        fold(sums, updates[1], LONG)
    assert total(sums, updates, LONG) == [1, 1, 0, 0]


def test_memory_does_not_grow_with_an_update(folder: Folder) -> None:
    first, second = folder.unit(0, LONG), folder.unit(1, LONG)
    sums = Sums(KEY)
    fold(sums, first, LONG)  # the sum itself: 8 MiB, once
    tracemalloc.start()
    try:
        fold(sums, second, LONG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * SEGMENT


def test_file_descriptors_are_returned(folder: Folder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sums = Sums(KEY)
    for bad in damaged(folder):
        with pytest.raises(PeerFault):
            fold(sums, bad)
    fold(sums, folder.unit(0))
    assert len(os.listdir("/proc/self/fd")) == before
