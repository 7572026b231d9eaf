"""Receipts: the tree, what is signed, and folders of the version before, which signed none."""

import asyncio
import json
import math
import shutil
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unisono import plan as plans
from unisono.audit import START, Counted, Published, Receipt, Tree, tree_of
from unisono.audit.tree import leads_to
from unisono.base.clock import ManualClock
from unisono.base.errors import BadCredentials, BadMessage
from unisono.base.ids import ClientName, Digest, RunId
from unisono.base.system_clock import SystemClock
from unisono.client.runtime.receipts import sent_by
from unisono.client.runtime.vault import Vault
from unisono.client.session import Update, UpdateKey
from unisono.crypto import SigningKey, sha256, sha256_hex, system_entropy
from unisono.identity import Authority, receipts_public
from unisono.plan import Plan
from unisono.server.config import Config
from unisono.server.enrolment.receipts_key import audit_key
from unisono.server.folder import Folder
from unisono.server.process import open_hall
from unisono.server.rounds import RoundPublished, Run, Uploaded, begin
from unisono.server.runtime.receipts import LEFT_OUT, MOST_MADE, NEVER, Nothing, Receipts
from unisono.server.runtime.workers import Workers
from unisono.server.store import Change, Store, open_store

A, B, C = ClientName("a"), ClientName("b"), ClientName("c")
RUN = RunId("r-0001")
PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


def oracle(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + oracle(leaves[:k]) + oracle(leaves[k:]))


@given(LEAVES)
def test_the_tree_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert Tree.over(leaves).root == oracle(leaves)


@given(LEAVES, st.data())
def test_every_leaf_is_proved_and_no_other_in_its_place(leaves: list[bytes], data: st.DataObject) -> None:
    tree, count = Tree.over(leaves), len(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = tree.path(index)
    assert leads_to(tree.root, leaves[index], index, count, path)
    assert not leads_to(tree.root, bytes(32), index, count, path) or leaves[index] == bytes(32)
    assert not leads_to(tree.root, leaves[index], index, count, (*path, bytes(32)))
    assert not leads_to(tree.root, leaves[index], count, count, path)
    if path:
        assert not leads_to(tree.root, leaves[index], index, count, path[:-1])
        flipped = bytes([path[0][0] ^ 1]) + path[0][1:]
        assert not leads_to(tree.root, leaves[index], index, count, (flipped, *path[1:]))


def receipt(key: SigningKey, client: ClientName = B) -> Receipt:
    updates = [(name, sha256_hex(name.encode())) for name in (A, B, C)]
    tree = tree_of(updates)
    published = Published(
        START, RUN, 3, 1, "train", 3, Digest(tree.root.hex()), Digest("ab" * 32), START, 12.5
    )
    index = (A, B, C).index(client)
    path = tuple(Digest(step.hex()) for step in tree.path(index))
    signature = published.statement().sign(key).hex()
    return Receipt(published, Counted(client, updates[index][1], index, path), signature)


KEY = SigningKey.from_bytes(bytes(range(32)))


def test_a_receipt_holds_alone_and_survives_its_journey() -> None:
    made = receipt(KEY)
    made.check(KEY.public)
    assert Receipt.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "change",
    [
        {"ca": Digest("1" * 64)},
        {"run": RunId("r-0002")},
        {"round": 4},
        {"attempt": 2},
        {"what": "evaluate"},
        {"count": 2},
        {"root": Digest("2" * 64)},
        {"model": Digest("3" * 64)},
        {"audit": Digest("4" * 64)},
        {"wall": 12.25},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_that_is_signed_can_be_changed(change: dict[str, object]) -> None:
    made = receipt(KEY)
    with pytest.raises(BadCredentials):
        replace(made, published=replace(made.published, **change)).check(KEY.public)  # type: ignore[arg-type]


@pytest.mark.parametrize("wall", [math.nan, math.inf, -1.0, -1e300, 1e300])
def test_a_time_that_no_calendar_has_is_refused(wall: float) -> None:
    """Signed or not: a check that ended with it would hide what is wrong with all other receipts."""
    with pytest.raises(BadMessage, match="where a time must be"):
        replace(receipt(KEY).published, wall=wall)
    text = receipt(KEY).to_json().replace('"wall":12.5', f'"wall":{json.dumps(wall)}')
    with pytest.raises(BadMessage):
        Receipt.from_json(text)


def test_another_client_or_update_is_not_in_the_tree() -> None:
    made = receipt(KEY)
    for wrong in ({"client": C}, {"sha256": Digest("5" * 64)}, {"index": 0}):
        with pytest.raises(BadMessage, match="is not among the 3"):
            replace(made, counted=replace(made.counted, **wrong)).check(KEY.public)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"published": {}}', receipt(KEY).to_json()[:-9] + '"}'])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        Receipt.from_json(text)


# the coordinator's rows


def with_a_round(folder: Path, survivors: tuple[ClientName, ...] = (A, B)) -> Store:
    """Publish round 1: A, B and C sent something, two of them count."""
    store = open_store(folder)
    step = begin(PLAN, 0.0)
    run = store.create(plans.canonical(PLAN), plans.digest(PLAN), step, 0.0, 1000.0, "operator")
    sent = tuple(Uploaded(client, 1, 1, sha256_hex(client.encode()), 9) for client in (A, B, C))
    later = replace(step.run, round=1, model=Digest("ab" * 32))
    published = RoundPublished(1, 1, (A, B, C), survivors, 1.0, Digest("ab" * 32), ((C, "silent"),))
    store.save(run, Change(later, 2.0, 1002.0, events=sent, facts=(published,)))
    return store


def answers(store: Store, client: ClientName, *due: tuple[RunId, int]) -> list[object]:
    receipts, workers = Receipts(START, KEY, b"", store), Workers(1)
    try:
        return list(asyncio.run(receipts.answer(client, due, workers)))
    finally:
        workers.close()


def test_what_counts_is_signed_for_and_what_does_not_is_said(tmp_path: Path) -> None:
    store = with_a_round(tmp_path)
    (found,) = answers(store, A, (RUN, 1))
    assert isinstance(found, Receipt)
    found.check(KEY.public)
    assert (found.published.count, found.published.model) == (2, "ab" * 32)
    assert found.published.audit == store.verify_audit()[1]
    assert answers(store, C, (RUN, 1)) == [Nothing(RUN, 1, LEFT_OUT)]
    assert answers(store, A, (RUN, 2)) == []  # it may still be published
    assert answers(store, A, (RunId("r-0099"), 1)) == [Nothing(RunId("r-0099"), 1, NEVER)]
    store.close()
    again = open_store(tmp_path)
    assert answers(again, A, (RUN, 1)) == [found]  # after a restart the same bytes
    again.close()


def test_the_past_is_read_a_piece_at_a_time_and_in_no_thread_that_others_wait_for(tmp_path: Path) -> None:
    """A tree over thousands takes a tenth of a second, and a client may ask for many."""
    store = with_a_round(tmp_path)
    assert len(answers(store, A, *[(RUN, 1)] * 32)) == MOST_MADE
    busy, free = threading.Event(), threading.Event()

    async def story() -> None:
        receipts, workers = Receipts(START, KEY, b"", store), Workers(1)

        def write() -> None:
            busy.set()
            assert free.wait(10.0)

        writing = asyncio.create_task(workers.database(write))
        await asyncio.to_thread(busy.wait, 10.0)
        assert len(await receipts.answer(A, [(RUN, 1)], workers)) == 1
        free.set()
        await writing
        workers.close()

    asyncio.run(story())
    store.close()


def test_rows_that_no_longer_fit_what_was_signed_are_no_receipt(tmp_path: Path) -> None:
    with_a_round(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("UPDATE updates SET sha256 = ? WHERE client = 'a'", ("0" * 64,))
    store = open_store(tmp_path)
    with pytest.raises(Exception, match="are not those that were signed for"):
        store.published([(RUN, 1)])
    assert answers(store, A, (RUN, 1), (RunId("r-0099"), 1)) == [Nothing(RunId("r-0099"), 1, NEVER)], (
        "it is no receipt, and keeps nobody from the rest"
    )
    store.close()


# folders of the version before


def test_a_database_of_the_schema_before_goes_on_without_receipts_for_its_past(tmp_path: Path) -> None:
    store = with_a_round(tmp_path)
    lines = store.verify_audit()
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("DROP TABLE published")
        db.execute("UPDATE alembic_version SET version_num = '0002'")
    store = open_store(tmp_path)
    assert store.verify_audit() == lines
    assert answers(store, A, (RUN, 1)) == [Nothing(RUN, 1, NEVER)]
    run: Run = store.load(RUN).run
    published = RoundPublished(2, 1, (A, B), (A, B), 1.0, Digest("cd" * 32))
    sent = tuple(Uploaded(client, 2, 1, sha256_hex(b"2" + client.encode()), 9) for client in (A, B))
    store.save(RUN, Change(replace(run, round=2), 3.0, 1003.0, events=sent, facts=(published,)))
    (found,) = answers(store, B, (RUN, 2))
    assert isinstance(found, Receipt)
    store.close()


def test_a_folder_of_the_version_before_gets_its_key_at_the_start(founded: Path, tmp_path: Path) -> None:
    path = tmp_path / "cardio"
    shutil.copytree(founded, path)
    folder = Folder.find(path)
    folder.receipts_key.unlink()
    folder.receipts.unlink()
    first = certificate(folder)
    assert folder.receipts_key.stat().st_mode & 0o777 == 0o600
    folder.receipts.unlink()  # a crash between the two files
    second = certificate(folder)
    ca, now = folder.ca.read_bytes(), SystemClock().wall()
    assert receipts_public(first, ca, now) == receipts_public(second, ca, now)
    assert audit(folder).count("receipts_key") == 1
    folder.receipts_key.unlink()
    assert receipts_public(certificate(folder), ca, now) != receipts_public(first, ca, now)
    assert audit(folder).count("receipts_key") == 2, "another key is told"


def test_a_key_is_told_in_the_transaction_that_knows_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    pem = Authority.create("cardio", 1000.0).issue_receipts(KEY.public, 1000.0)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="no"):
        audit_key(store, pem, 1000.0)
    assert store.audit() == (), "what is not known is not told either: it would be told again"
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("DROP TRIGGER no")
    for _ in range(2):
        audit_key(store, pem, 1000.0)
    assert [line.entry.kind for line in store.audit()] == ["receipts_key"]
    store.close()


def certificate(folder: Folder) -> bytes:
    hall = open_hall(folder, Config.load(folder.config.read_bytes()))
    hall.workers.close()
    hall.store.close()
    return hall.receipts.certificate


def audit(folder: Folder) -> list[str]:
    store = open_store(folder.path)
    try:
        return [line.entry.kind for line in store.audit()]
    finally:
        store.close()


def test_a_vault_of_the_schema_before_keeps_its_log_and_expects_receipts_from_now_on(tmp_path: Path) -> None:
    def update(round_: int) -> Update:
        digest = Digest(f"{round_}" * 64)
        return Update(UpdateKey(RUN, round_, digest, digest), "file", digest, 7)

    vault = Vault(tmp_path, ManualClock())
    vault.finish(update(1), "recipient")
    vault.release(update(1), "sealed")
    vault.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("DROP TABLE receipts")
        db.execute("DROP TABLE receipt_keys")
        db.execute("PRAGMA user_version = 2")
    vault = Vault(tmp_path, ManualClock())
    vault.finish(update(2), "recipient")
    vault.release(update(2), "sealed")
    vault.release(update(2), "sealed")  # begun again after a crash: once is enough
    assert [line.kind for line in vault.audit()] == ["released", "released"]
    assert [(sent.round, sent.state, sent.bytes) for sent in sent_by(tmp_path)] == [(2, "due", 7)]
    vault.close()


def test_a_folder_that_no_client_of_this_version_opened_has_none(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("CREATE TABLE audit (number INTEGER)")
    assert sent_by(tmp_path) == []


def test_entropy_makes_keys_that_differ() -> None:
    one, two = SigningKey.generate(system_entropy), SigningKey.generate(system_entropy)
    with pytest.raises(BadCredentials):
        receipt(one).check(two.public)
