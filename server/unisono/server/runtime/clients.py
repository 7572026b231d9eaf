"""What a client may say, and what it is told."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import structlog

from unisono.base.errors import BadMessage, BadUpdate, Error, Refused, Unavailable, WrongPhase
from unisono.base.ids import ClientName, Digest, RunId
from unisono.identity import signer_of
from unisono.secagg.server.faults import Blamed
from unisono.secagg.shared.messages import Upload
from unisono.secagg.shared.reading import Up, read_up
from unisono.server.rounds import (
    Aggregating,
    Collecting,
    Declined,
    Deferred,
    Ended,
    Faulted,
    InRound,
    Joined,
    Lost,
    Offered,
    Returned,
    Run,
    Said,
    Securing,
    TaskFailed,
    Waiting,
    expects,
)
from unisono.tensors import MAX_HEADER, Manifest, check_header

from .hall import Hall
from .instructions import Duty, Instruction
from .lineage import Lineage
from .presence import RESTING, Greeting, Session
from .receipts import MOST, Round, Told

POLL_LATER = 5.0  # seconds until a client asks again for which no question could be kept open
MOST_MODELS = 4  # that one client may announce for a run, one after another: each is kept

log = structlog.get_logger("unisono.clients")


class Clients:
    """Answers the calls of clients."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._polls, self._most_polls = 0, hall.config.max_concurrent_rpcs * 3 // 4

    async def hello(self, client: ClientName, greeting: Greeting) -> None:
        """Begin a session, and let the runs know."""
        self._hall.presence.spend(client)
        self._hall.presence.hello(client, greeting)
        await self._hall.workers.database(
            self._hall.store.seen, client, greeting.software, self._hall.clock.wall()
        )
        await self._arrived(client, self._hall.presence.seen(client))

    async def next_instruction(
        self, client: ClientName, cursor: int, wait: float, renew: bool, due: Collection[Round] = ()
    ) -> Instruction:
        """Answer when there is something that the client has not seen, at the latest after `wait` seconds.

        `due`: rounds that it has no receipt of; receipts make an answer, but no cursor of their own.
        """
        session = self._hall.presence.seen(client)
        await self._arrived(client, session)
        longest = self._hall.config.long_poll_seconds
        end = self._hall.clock.ticks() + (min(wait, longest) if wait > 0 else 0.0)  # not for NaN either
        while True:
            ticket = self._hall.bells.ticket(client)
            instruction = self._instruct(client, session, renew)
            receipts = await self._receipts(client, due)
            left = end - self._hall.clock.ticks()
            if instruction.cursor != cursor or receipts or left <= 0:
                return replace(instruction, receipts=receipts)
            await self._wait(ticket, left)
            session = self._hall.presence.seen(client)

    async def _receipts(self, client: ClientName, due: Collection[Round]) -> tuple[Told, ...]:
        """Return what there is for rounds that are over; the disk is not asked about one that goes on."""
        runs = self._hall.runs
        over = [at for at in islice(due, MOST) if not _goes_on(runs.get(at[0]), at[1])]
        if any(at[0] not in runs or runs[at[0]].run.round != at[1] for at in over):
            self._hall.presence.spend(client)  # an older round has to be read for this client alone
        try:
            return await self._hall.receipts.answer(client, over, self._hall.workers) if over else ()
        except Error as trouble:  # of the past; what is to be done now does not wait for it
            log.error("no_receipts", client=client, code=trouble.code, error=str(trouble))
            return ()

    async def _wait(self, ticket: asyncio.Event, seconds: float) -> None:
        """Keep a question open, unless so many are that none would be left for what is to be said."""
        if self._polls >= self._most_polls:
            raise Unavailable(f"{self._polls} clients wait for something to do already", POLL_LATER)
        self._polls += 1
        try:
            await self._hall.bells.wait(ticket, seconds)
        finally:
            self._polls -= 1

    async def joined(self, client: ClientName, run: RunId, manifest: bytes, model: Digest | None) -> None:
        """Take a client in, unless its model is another than the others'."""
        self._hall.presence.seen(client)
        self._hall.presence.spend(client)
        lineage = self._hall.active(run)
        if len(manifest) > MAX_HEADER:
            raise BadMessage(f"a manifest of {len(manifest)} bytes; at most {MAX_HEADER} are allowed")
        found = await self._hall.workers.file(Manifest.decode, manifest)
        agreed = lineage.run.manifest if _others(lineage.run, client) else None
        if agreed is not None and agreed != found.digest:
            difference = found.difference(lineage.manifests[agreed]) or "its manifest differs"
            reason = f"its model is another than the first client's: {difference}"
            await lineage.driver.handle(Declined(client, "model_differs", reason))
            raise Refused(reason)
        if agreed is None and lineage.run.model is not None:
            await self._check_fits(lineage, client, found, lineage.run.model)
        announced = lineage.announced.setdefault(client, set())
        if len(announced | {found.digest}) > MOST_MODELS:
            raise Refused(f"{client} has announced {MOST_MODELS} different models for run {run} already")
        announced.add(found.digest)
        lineage.manifests[found.digest] = found
        try:
            await self._hall.workers.database(self._hall.store.put_manifest, found.digest, manifest)
            secured = lineage.plan.protection.mode != "sealed"
            identity = await self._hall.workers.database(self._identity, client) if secured else ""
            await lineage.driver.handle(Joined(client, found.digest, model, identity, found), len(manifest))
        except asyncio.CancelledError:
            raise  # what was handed in is saved all the same, and may be what makes it the run's
        except BaseException:
            lineage.settle(found)
            raise
        lineage.settle(found)

    def _identity(self, client: ClientName) -> str:
        """Return the key that signs for a client, hex, as it was certified when it enrolled."""
        (found,) = self._hall.store.clients(client)
        ca, now = self._hall.authority.certificate_pem, self._hall.clock.wall()
        return signer_of(found.signing_certificate.encode(), ca, now).public.hex()

    async def _check_fits(self, lineage: Lineage, client: ClientName, found: Manifest, model: Digest) -> None:
        """Decline for a client whose task does not fit the operator's model: it would bind all others."""

        def check() -> None:
            with self._hall.blobs.open(model) as reader:
                check_header(reader.read(0, min(reader.size, MAX_HEADER)), found)

        try:
            await self._hall.workers.file(check)
        except BadUpdate as error:
            reason = f"its model is another than the operator's: {error}"
            await lineage.driver.handle(Declined(client, "model_differs", reason[:400]))
            raise Refused(reason) from error

    async def declined(self, client: ClientName, run: RunId, code: str, reason: str) -> None:
        """Note that a client does not take part."""
        self._hall.presence.seen(client)
        self._hall.presence.spend(client)
        await self._hall.active(run).driver.handle(Declined(client, code[:40], reason[:400]))

    async def looking(self, client: ClientName, run: RunId) -> None:
        """Note that somebody at the site has to look at the plan before it answers.  Said again: nothing."""
        self._hall.presence.seen(client)
        lineage = self._hall.active(run)
        if not _looks(lineage.run, client):
            self._hall.presence.spend(client)
            await lineage.driver.handle(Deferred(client))

    def progress(self, client: ClientName, at: tuple[RunId, int, int], moved: tuple[str, int, int]) -> None:
        """Note that work moves: (run, round, attempt), (stage, done, total).

        Raises WrongPhase when the attempt is over, so that the client stops it.
        """
        run, round_, attempt = at
        if moved[0] == RESTING:
            self._hall.presence.rests(client, run)
        else:
            self._hall.presence.moved(client, *moved)
        lineage = self._hall.runs.get(run)
        if lineage is None or (round_ and not _works(lineage.run, client, round_, attempt)):
            raise _over(run, round_, attempt)
        self._hall.watchers.ring((run,))

    async def task_failed(self, client: ClientName, failure: TaskFailed, run: RunId) -> None:
        """Note that a client's task could not do its work."""
        self._hall.presence.seen(client)
        self._hall.presence.spend(client)
        lineage = self._hall.active(run)
        if failure.round == 0:
            await lineage.driver.handle(Declined(client, failure.code, failure.text))
        else:
            await lineage.driver.handle(failure)

    async def said(self, client: ClientName, at: tuple[RunId, int, int], message: bytes) -> None:
        """Take a message of secure aggregation.  Who breaks the protocol is left out of the attempt."""
        self._hall.presence.seen(client)
        run, round_, attempt = at
        lineage = self._hall.active(run)
        event = await self._read(client, at, read_up(message))
        try:
            await lineage.driver.handle(event, len(message))
        except Blamed as fault:
            log.warning("secagg_fault", run=run, client=fault.client, code=fault.code, error=str(fault))
            with suppress(Refused):  # the attempt is over, or the client already out
                await lineage.driver.handle(Faulted(client, round_, attempt, fault.code, str(fault)[:400]))
            raise

    async def _read(self, client: ClientName, at: tuple[RunId, int, int], message: Up) -> Said:
        """Return the event, with what the spool holds of an upload."""
        run, round_, attempt = at
        if not isinstance(message, Upload):
            return Said(client, round_, attempt, message)
        digest = Digest(message.digest.hex())
        path = self._hall.spool.path(run, round_, attempt, client, digest)
        held = await self._hall.workers.file(_size, path)
        if held is None:
            raise WrongPhase("uploading, and what this client signed is not here", "an upload statement")
        return Said(client, round_, attempt, message, digest, held)

    async def leaving(self, client: ClientName) -> None:
        """Note that a client stops on purpose: nobody has to wait for it."""
        self._hall.presence.spend(client)
        self._hall.presence.left(client)
        await self.lost(client, "left")

    async def lost(self, client: ClientName, reason: str) -> None:
        """Tell every run that may wait for this client."""
        for lineage in list(self._hall.runs.values()):
            if client in lineage.members():
                await lineage.driver.handle(Lost(client, reason))

    async def _arrived(self, client: ClientName, session: Session) -> None:
        for lineage in list(self._hall.runs.values()):
            stage = lineage.run.stage
            if client in lineage.run.away:
                await lineage.driver.handle(Returned(client))
            elif lineage.plan.task not in session.greeting.tasks:
                continue
            elif isinstance(stage, Waiting) and client not in stage.offered:
                await lineage.driver.handle(Offered(client))

    def _instruct(self, client: ClientName, session: Session, renew: bool) -> Instruction:
        """Return the first duty that waits for this client; what waits for others stops no other run.

        Nor does what waits for the client's own hours.
        """
        last, done = None, None
        for lineage in self._hall.runs.values():
            last = lineage.outcome(client) or last
            what = self._duty(lineage, client, session)
            rests = self._hall.presence.rested(client, lineage.id) >= 0.0
            if what is not None and _pressing(lineage.run, client) and not rests:
                return Instruction(what, last or self._hall.ended.get(client), renew)
            done = done or what
        return Instruction(done, last or self._hall.ended.get(client), renew)

    @staticmethod
    def _duty(lineage: Lineage, client: ClientName, session: Session) -> Duty:
        if lineage.plan.task not in session.greeting.tasks and client not in lineage.run.roster:
            return None
        try:
            return lineage.instruct(client)
        except Error as error:  # this run has nothing for anybody; the client's other runs go on
            log.error("no_instruction", run=lineage.id, client=client, code=error.code, error=str(error))
            return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _others(run: Run, client: ClientName) -> bool:
    """Tell whether somebody else's model binds what `client` may join with."""
    stage = run.stage
    return not isinstance(stage, Waiting) or any(other != client for other, _ in stage.joined)


def _looks(run: Run, client: ClientName) -> bool:
    """Tell whether it is known that somebody at this site has to look at the plan."""
    return isinstance(run.stage, Waiting) and client in run.stage.looking


def _pressing(run: Run, client: ClientName) -> bool:
    """Tell whether the run waits for this client's answer to its instruction.

    One that is answered stays the same until the next: a plan that somebody there looks at, and a leg of
    secure aggregation that waits for others.
    """
    match run.stage:
        case InRound(phase=Securing()):
            return client in expects(run)
        case _:
            return not _looks(run, client)


def _works(run: Run, client: ClientName, round_: int, attempt: int) -> bool:
    """Tell whether an update of this attempt is still wanted from `client`, or has just been counted."""
    stage = run.stage
    if not isinstance(stage, InRound) or (stage.round, stage.attempt) != (round_, attempt):
        return False
    match stage.phase:
        case Collecting(waiting=waiting, updates=updates):
            return client in waiting or client in dict(updates)
        case Aggregating(updates=updates):
            return client in dict(updates)
        case Securing(cohort=cohort, dropped=dropped):
            return client in cohort and client not in dict(dropped)
        case _:
            return False


def _goes_on(lineage: Lineage | None, round_: int) -> bool:
    """Tell whether a round may still be published."""
    return lineage is not None and not isinstance(lineage.run.stage, Ended) and lineage.run.round < round_


def _over(run: RunId, round_: int, attempt: int) -> WrongPhase:
    return WrongPhase(f"past attempt {attempt} of round {round_} of run {run}", "progress")
