import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unisono.base.errors import Corrupt, Fault, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import HEADER, SEGMENT, TAG, AtRest, sha256_hex, system_entropy
from unisono.server.blobs import LocalDir, Reader, Spool

DATA = b"readable words " * 150_000  # a little over two segments


def local(root: Path, key: int = 1) -> LocalDir:
    return LocalDir(root, AtRest(bytes([key]) * 32), system_entropy)


def put(blobs: LocalDir, data: bytes = DATA) -> Digest:
    with blobs.writer() as blob:
        blob.write(data)
        return blob.commit()


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """Files may not grow beyond `at` bytes, which the system reports like a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, before)


def test_what_lies_on_the_disk_is_unreadable(tmp_path: Path) -> None:
    found = put(local(tmp_path))
    raw = (tmp_path / found).read_bytes()
    assert b"readable" not in raw
    assert len(raw) == HEADER + len(DATA) + 3 * TAG
    assert stat.S_IMODE((tmp_path / found).stat().st_mode) == 0o600
    with pytest.raises(Corrupt, match="does not open"):
        local(tmp_path, key=2).open(found)


@pytest.mark.parametrize("place", [3, 20, HEADER, HEADER + SEGMENT + TAG + 5, -1])
def test_a_flipped_bit_is_found(tmp_path: Path, place: int) -> None:
    blobs = local(tmp_path)
    found = put(blobs)
    raw = bytearray((tmp_path / found).read_bytes())
    raw[place] ^= 4
    (tmp_path / found).write_bytes(raw)
    with pytest.raises(Corrupt, match=found):
        blobs.open(found).digest()


@pytest.mark.parametrize("left", [0, 10, HEADER, HEADER + 5, HEADER + SEGMENT + TAG, -1])
def test_a_truncated_file_is_found(tmp_path: Path, left: int) -> None:
    blobs = local(tmp_path)
    found = put(blobs)
    raw = (tmp_path / found).read_bytes()
    (tmp_path / found).write_bytes(raw[:left])
    with pytest.raises(Corrupt, match=found):
        blobs.open(found).digest()


@pytest.mark.parametrize("again", [False, True], ids=["while it runs", "while it is down"])
def test_a_swapped_file_is_refused(tmp_path: Path, again: bool) -> None:
    """Each segment is authentic: only the digest of the whole tells."""
    blobs = local(tmp_path)
    one, two = put(blobs, b"one"), put(blobs, b"two")
    blobs.open(two).close()
    os.replace(tmp_path / one, tmp_path / two)
    with pytest.raises(Corrupt, match=rf"{two} holds another file, of digest {one[:12]}.*backup"):
        (local(tmp_path) if again else blobs).open(two)


def test_a_file_is_hashed_once_while_nobody_touches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, real, times = put(local(tmp_path)), Reader.digest, list[Digest]()

    def digest(reader: Reader) -> Digest:
        times.append(found)
        return real(reader)

    monkeypatch.setattr(Reader, "digest", digest)
    blobs = local(tmp_path)
    for _ in range(3):
        blobs.open(found).close()
    assert len(times) == 1
    (tmp_path / found).touch()
    blobs.open(found).close()
    assert len(times) == 2
    blobs.open(put(blobs, b"made by this process: known")).close()
    assert len(times) == 2


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    blobs = local(tmp_path)
    found = put(blobs)
    abandoned = blobs.writer()
    abandoned.write(DATA)
    assert len(list(tmp_path.iterdir())) == 2
    assert local(tmp_path).digests() == {found}
    assert [path.name for path in tmp_path.iterdir()] == [found]
    abandoned.abort()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    blobs = local(tmp_path)
    blob = blobs.writer()
    with full_disk(at=SEGMENT + 1000), pytest.raises(Unavailable, match="disk full") as error:
        blob.write(DATA)
    assert error.value.retry_after == 10.0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Fault, match="after its end"):
        blob.write(b"more")
    assert blobs.exists(put(blobs))


def test_an_upload_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    digest = sha256_hex(DATA)
    spool = Spool(tmp_path, 1 << 30)
    part = spool.part(RunId("r-0001"), 1, 1, ClientName("a"), digest, len(DATA))
    part.append(DATA[:1000])
    with full_disk(at=5000), pytest.raises(Unavailable, match="disk full"):
        part.append(DATA[1000:9000])
    assert part.offset == 1000
    again = spool.part(RunId("r-0001"), 1, 1, ClientName("a"), digest, len(DATA))
    assert again.offset == 1000  # half a chunk does not count
    part.append(DATA[1000:])
    part.finish()
    assert spool.path(RunId("r-0001"), 1, 1, ClientName("a"), digest).read_bytes() == DATA
