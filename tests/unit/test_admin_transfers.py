"""Model files in both directions: resumed where they stopped, verified, whole or absent."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono import tensors
from unisono.base.errors import BadConfiguration, Corrupt, Unavailable, Unreachable
from unisono.base.ids import Digest
from unisono.client.admin.transfers import PlainModel, receive, send
from unisono.crypto import sha256_hex

MIB = 1 << 20


def nothing(_: int) -> None:
    return None


def model_bytes(values: int = 400_000) -> bytes:
    return tensors.write({"weight": np.arange(values, dtype=np.float32), "bias": np.ones(3, np.float32)})


class Coordinator:
    """Holds one blob; the connection breaks `breaks` times: after `budget` bytes, then after `grows`."""

    def __init__(self, blob: bytes = b"", budget: int = 0, breaks: int = 0, grows: int = MIB // 2) -> None:
        self.blob, self.received, self.budget, self.breaks = blob, bytearray(), budget, breaks
        self.grows, self.broken = grows, False
        self.offsets: list[int] = []

    def begin(self, sha256: Digest, size: int) -> tuple[int, bool]:
        return len(self.received), self._whole(sha256, size)

    def upload(self, sha256: Digest, size: int, offset: int, chunks: Iterator[bytes]) -> tuple[int, bool]:
        assert offset == len(self.received)
        self.offsets.append(offset)
        for data in chunks:
            assert len(data) <= MIB
            self.received += data[: self._spend(len(data))]
            self._break()
        return len(self.received), self._whole(sha256, size)

    def download(self, sha256: Digest, offset: int) -> Iterator[tuple[int, bytes]]:
        del sha256
        self.offsets.append(offset)
        while offset < len(self.blob):
            data = self.blob[offset : offset + MIB]
            data = data[: self._spend(len(data))]
            yield offset, data
            offset += len(data)
            self._break()

    def _whole(self, sha256: Digest, size: int) -> bool:
        return len(self.received) == size and sha256_hex(self.received) == sha256

    def _spend(self, wanted: int) -> int:
        """Return how many bytes get through."""
        if not self.breaks:
            return wanted
        through = min(wanted, self.budget)
        self.budget, self.broken = self.budget - through, through < wanted
        return through

    def _break(self) -> None:
        if self.broken:
            self.broken, self.breaks, self.budget = False, self.breaks - 1, self.grows
            raise Unreachable("the connection broke", 0.0)


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@settings(max_examples=25)
@given(budget=st.integers(0, 2 * MIB), breaks=st.integers(0, 4))
def test_an_upload_arrives_whole_whatever_breaks(
    tmp_path_factory: pytest.TempPathFactory, budget: int, breaks: int
) -> None:
    data = model_bytes()
    model = PlainModel.of(save(tmp_path_factory.mktemp("up") / "m.safetensors", data))
    waits: list[float] = []
    coordinator = Coordinator(budget=budget, breaks=breaks)
    assert send(coordinator, model, nothing, waits.append) == sha256_hex(data)
    assert bytes(coordinator.received) == data
    assert sum(waits) <= 10 * len(waits)


@settings(max_examples=25)
@given(budget=st.integers(0, 2 * MIB), breaks=st.integers(0, 4))
def test_a_download_arrives_whole_whatever_breaks(
    tmp_path_factory: pytest.TempPathFactory, budget: int, breaks: int
) -> None:
    data, target = model_bytes(), tmp_path_factory.mktemp("down") / "m.safetensors"
    coordinator = Coordinator(data, budget, breaks)
    receive(coordinator, sha256_hex(data), target, nothing, lambda _: None)
    assert target.read_bytes() == data
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_later_pull_goes_on_where_an_earlier_one_stopped(tmp_path: Path) -> None:
    data, target = model_bytes(), tmp_path / "m.safetensors"
    broken = Coordinator(data, budget=MIB, breaks=1)
    with pytest.raises(KeyboardInterrupt):
        receive(broken, sha256_hex(data), target, nothing, _interrupt)
    assert not target.exists()
    whole = Coordinator(data)
    receive(whole, sha256_hex(data), target, nothing)
    assert whole.offsets == [MIB]
    assert target.read_bytes() == data


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


def test_wrong_bytes_never_get_the_name(tmp_path: Path) -> None:
    data, target = model_bytes(1000), tmp_path / "m.safetensors"
    target.write_bytes(b"an older model")
    with pytest.raises(Corrupt, match="have digest"):
        receive(Coordinator(data[:-1] + b"x"), sha256_hex(data), target, nothing)
    assert target.read_bytes() == b"an older model"
    assert len(list(tmp_path.iterdir())) == 1


def test_it_gives_up_when_tries_bring_nothing(tmp_path: Path) -> None:
    model = PlainModel.of(save(tmp_path / "m.safetensors", model_bytes(10)))
    coordinator = Coordinator(budget=0, breaks=10**6, grows=0)
    waits: list[float] = []
    with pytest.raises(Unavailable):
        send(coordinator, model, nothing, waits.append)
    assert waits == sorted(waits)
    assert len(waits) == 5


def test_metadata_and_order_of_a_file_do_not_change_the_model(tmp_path: Path) -> None:
    header = (
        b'{"__metadata__":{"by":"me"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    )
    raw = len(header).to_bytes(8, "little") + header + np.array([2, 1], np.float32).tobytes()
    same = tensors.write({"a": np.array([1], np.float32), "b": np.array([2], np.float32)})
    model = PlainModel.of(save(tmp_path / "m.safetensors", raw))
    assert b"".join(model.slices()) == same
    assert (model.size, model.digest(), model.travelling) == (len(same), sha256_hex(same), 2)
    assert b"".join(model.slices(len(same) - 5)) == same[-5:]


@pytest.mark.parametrize("data", [b"", b"12345678", b"\xff" * 64, model_bytes(10)[:-1]])
def test_what_is_no_model_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    file = save(tmp_path / "m.safetensors", data)
    with pytest.raises(BadConfiguration, match=r"m\.safetensors: not a model"):
        PlainModel.of(file)


def test_a_missing_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="No such file"):
        PlainModel.of(tmp_path / "m.safetensors")
