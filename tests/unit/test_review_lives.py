"""Small windows: a call cut short, a renewal that met a revocation, a name that leads elsewhere."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation_world import until
from test_runtime_uploads import Site, cut

from unisono import plan as plans
from unisono.base.errors import BadConfiguration, BadMessage, Fault, NotEnrolled
from unisono.base.system_clock import SystemClock
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.link import _instruction
from unisono.client.runtime.status import error_named
from unisono.client.runtime.trainer_process import TaskFailure, TrainerProcess
from unisono.crypto import AtRest, SigningKey, TlsKey, system_entropy
from unisono.identity import Authority, peer_of, request
from unisono.plan import Plan
from unisono.server.blobs import LocalDir, Part, Reader
from unisono.server.enrolment import Ledger
from unisono.server.runtime.workers import Workers
from unisono.server.store import Store, open_store
from unisono.wire.v1 import round_pb2 as rounds
from unisono.wire.v1 import types_pb2 as types

NOW, DAY = 1_700_000_000.0, 86_400.0
AUTHORITY = Authority.create("hospitals", NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_a_renewal_that_meets_a_revocation_gives_nothing_away(store: Store) -> None:
    """The certificate would have counted again as soon as the name was enrolled anew, by another key."""
    ledger = Ledger(store)

    def enrol() -> None:
        certificate, _ = AUTHORITY.issue_bootstrap("a", NOW, DAY)
        ledger.create_token(certificate, "a", 1, "admin", NOW)
        signing, tls = SigningKey.generate(system_entropy), request(TlsKey.generate())
        ledger.enrol(peer_of(certificate).serial, AUTHORITY, tls, request(signing), "", NOW, DAY)

    enrol()
    late = peer_of(AUTHORITY.issue_tls(request(TlsKey.generate()), "client", "a", NOW, DAY))
    ledger.revoke("a", "laptop lost", "admin", NOW)
    with pytest.raises(NotEnrolled, match="laptop lost"):
        ledger.issued(late, NOW)
    enrol()
    with pytest.raises(NotEnrolled):
        ledger.allow(late)


def test_a_file_that_is_opened_for_nobody_is_closed(tmp_path: Path) -> None:
    """Whoever cancels downloads in this moment again and again would use up all file descriptors."""
    blobs = LocalDir(tmp_path / "blobs", AtRest(bytes(32)), system_entropy)
    blob = blobs.writer()
    blob.write(b"model")
    digest, go_on, opening = blob.commit(), threading.Event(), threading.Event()
    closed: list[Reader] = []

    def slow() -> Reader:
        opening.set()
        go_on.wait()
        return blobs.open(digest)

    def release(reader: Reader) -> None:
        reader.close()
        closed.append(reader)

    async def story() -> None:
        workers = Workers(1)
        task = asyncio.ensure_future(workers.open(slow, release))
        await asyncio.to_thread(opening.wait)
        task.cancel()
        await asyncio.wait((task,))
        go_on.set()
        await workers.file(lambda: None)
        await asyncio.sleep(0)
        assert len(closed) == 1
        with pytest.raises(Fault, match="Bad file descriptor"):
            closed[0].segment(0)
        with await workers.open(lambda: blobs.open(digest), release) as reader:
            assert reader.segment(0) == b"model"
        workers.close()

    asyncio.run(story())


def test_streams_that_are_opened_and_cancelled_keep_one_thread_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk after an interruption hashes all that came before: seconds, with a large model."""
    go_on, append, inside, most = threading.Event(), Part.append, [0], [0]

    def slow(part: Part, data: bytes) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        go_on.wait(10)
        append(part, data)
        inside[0] -= 1

    monkeypatch.setattr(Part, "append", slow)

    async def story() -> None:
        workers = Workers(4)
        site = Site.at(tmp_path, workers)
        stream = asyncio.ensure_future(site.send(cut()))
        await until(lambda: inside == [1])
        for _ in range(6):
            stream.cancel()
            stream = asyncio.ensure_future(site.send(cut(1000)))
            for _ in range(20):  # more than a second one would need to get there
                await workers.file(time.monotonic)
        assert most == [1]
        go_on.set()
        assert (await stream).complete
        workers.close()

    asyncio.run(story())


@pytest.mark.parametrize("run", ["../../tls", "r-1", "r-0001/x", "", "r-0001\n", "r-١٢٣٤"])
def test_no_coordinator_names_files_of_a_site(run: str) -> None:
    """A run's id is part of the name of an update's file."""
    attempt = types.Attempt(run=run, round=1, attempt=1)
    for reply in (
        rounds.Instruction(consider=rounds.Consider(run=run, plan=b"{}")),
        rounds.Instruction(send_model=rounds.SendModel(run=run, model_sha256=bytes(32))),
        rounds.Instruction(work=rounds.Work(attempt=attempt, kind=rounds.Work.TRAIN)),
    ):
        with pytest.raises(BadMessage, match="calls a run"):
            _instruction(reply)


def test_a_coordinators_words_cannot_drive_a_sites_terminal() -> None:
    assert str(error_named("refused", "no\x1b[2J\nbecause ä")) == "no?[2J\nbecause ä"


def test_parameters_that_no_strategy_has_start_no_run() -> None:
    """Every client's poll would have failed over them, also those for other runs."""
    plan = Plan.model_validate({"task": "x", "aggregation": {"strategy": "fedadam", "beta_1": "much"}})
    with pytest.raises(BadConfiguration, match="beta_1"):
        plans.check(plan)


def test_a_trainer_has_the_order_of_sets_fixed(tmp_path: Path) -> None:
    """Else a client that was killed trains to other bytes, and two equal runs to other models."""
    says = (
        "import json, os; print(json.dumps({'failed': {'code': 'x', 'text': os.environ['PYTHONHASHSEED']}}))"
    )
    halt = Halt()
    trainer = TrainerProcess(tmp_path / "log", 30.0, SystemClock(), halt, (sys.executable, "-S", "-c", says))
    try:
        with pytest.raises(TaskFailure, match=r"^0$"):
            trainer.ask({}, lambda moved: None)
    finally:
        trainer.stop()
        halt.close()
