from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono.base.errors import BadMessage, Corrupt, Unavailable
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import sha256_hex
from unisono.server.blobs import Part, Spool

RUN, A, B = RunId("r-0001"), ClientName("a"), ClientName("a-b")
DATA = bytes(range(256)) * 20
DIGEST = sha256_hex(DATA)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 10_000)


def begin(spool: Spool, client: ClientName = A, round_: int = 1, attempt: int = 1) -> Part:
    return spool.part(RUN, round_, attempt, client, DIGEST, len(DATA))


def whole(spool: Spool, client: ClientName = A, round_: int = 1, attempt: int = 1) -> Path:
    part = begin(spool, client, round_, attempt)
    part.append(DATA[part.offset :])
    part.finish()
    return spool.path(RUN, round_, attempt, client, DIGEST)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=5))
def test_an_upload_cut_anywhere_is_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    root = tmp_path_factory.mktemp("spool")
    for cut in [*sorted(cuts), len(DATA)]:
        part = Spool(root, 10_000).part(RUN, 1, 1, A, DIGEST, len(DATA))  # another process each time
        part.append(DATA[part.offset : cut])
        assert part.offset == max(cut, part.offset)
    assert not Spool(root, 10_000).path(RUN, 1, 1, A, DIGEST).exists()
    part.finish()
    assert Spool(root, 10_000).path(RUN, 1, 1, A, DIGEST).read_bytes() == DATA


def test_a_finished_upload_is_finished_for_ever(spool: Spool) -> None:
    whole(spool)
    again = begin(spool)
    assert (again.finished, again.offset) == (True, len(DATA))
    again.finish()
    with pytest.raises(BadMessage, match="of an upload of"):
        again.append(b"x")


def test_an_empty_upload(spool: Spool) -> None:
    part = spool.part(RUN, 1, 1, A, sha256_hex(b""), 0)
    part.append(b"")
    part.finish()
    assert spool.path(RUN, 1, 1, A, sha256_hex(b"")).read_bytes() == b""


def test_another_digest_than_announced_starts_again_from_nothing(spool: Spool) -> None:
    part = begin(spool)
    part.append(bytes(len(DATA)))
    with pytest.raises(Corrupt, match=DIGEST):
        part.finish()
    assert begin(spool).offset == 0
    assert whole(spool).read_bytes() == DATA


def test_bytes_that_changed_on_the_disk_are_found(spool: Spool, tmp_path: Path) -> None:
    begin(spool).append(DATA[:100])
    (part,) = (tmp_path / "spool" / RUN).iterdir()
    part.write_bytes(bytes(100))
    again = begin(spool)
    again.append(DATA[100:])
    with pytest.raises(Unavailable, match="begin again"):  # zeros after a power failure: no client's fault
        again.finish()
    assert again.offset == begin(spool).offset == 0
    again.append(bytes(len(DATA)))
    with pytest.raises(Corrupt, match="as announced"):
        again.finish()


def test_limits(spool: Spool) -> None:
    with pytest.raises(BadMessage, match="10001 bytes; at most 10000"):
        spool.part(RUN, 1, 1, A, DIGEST, 10_001)
    part = begin(spool)
    with pytest.raises(BadMessage, match=f"upload of {len(DATA)} bytes"):
        part.append(DATA + b"x")
    assert part.offset == 0
    part.append(DATA[:7])
    with pytest.raises(BadMessage, match=f"byte 7 of {len(DATA)}"):
        part.finish()


@pytest.mark.parametrize(
    ("run", "client", "digest"),
    [
        ("../x", "a", DIGEST),
        ("r-1/..", "a", DIGEST),
        ("r-0001", "../a", DIGEST),
        ("r-0001", "a", "../" + DIGEST[3:]),
    ],
)
def test_names_that_lead_elsewhere(spool: Spool, run: str, client: str, digest: str) -> None:
    with pytest.raises(BadMessage, match="name"):
        spool.part(RunId(run), 1, 1, ClientName(client), Digest(digest), 5)


def test_a_newer_upload_of_a_client_replaces_its_unfinished_one_only(spool: Spool) -> None:
    old, neighbour = begin(spool, A), begin(spool, B)
    old.append(DATA[:10])
    neighbour.append(DATA[:10])
    finished = whole(spool, A, attempt=2)
    spool.part(RUN, 1, 1, A, sha256_hex(b"new"), 3).append(b"n")
    with pytest.raises(Unavailable, match="given up"):
        old.append(DATA[10:])
    assert begin(spool, B).offset == 10
    assert finished.exists()


def test_forgetting_spares_later_attempts(spool: Spool) -> None:
    kept = [whole(spool, A, 2, 3), whole(spool, A, 3, 1), whole(spool, A, 10, 1)]
    gone = [whole(spool, A, 1, 9), whole(spool, A, 2, 1), whole(spool, B, 2, 2)]
    begin(spool, B, 2, 1).append(DATA[:10])  # an unfinished one goes too
    spool.forget(RUN, 2, 2)
    spool.forget(RUN, 2, 2)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert begin(spool, B, 2, 1).offset == 0
    spool.forget(RUN, 3)
    assert [path.exists() for path in kept] == [False, False, True]


def test_forgetting_a_run(spool: Spool) -> None:
    whole(spool)
    assert spool.runs() == (RUN,)
    spool.forget_run(RUN)
    spool.forget_run(RUN)
    spool.forget(RUN, 1)
    assert spool.runs() == ()


def test_discarding_one(spool: Spool) -> None:
    one, two = whole(spool, A), whole(spool, B)
    spool.discard(RUN, 1, 1, A, DIGEST)
    spool.discard(RUN, 1, 1, A, DIGEST)
    assert (one.exists(), two.exists()) == (False, True)
