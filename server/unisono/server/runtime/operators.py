"""What an operator may ask for.  Answers are documents: JSON objects of the shapes in design section 8."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version

from unisono import plan as plans
from unisono.base.errors import BadConfiguration, NotFound, WrongPhase
from unisono.base.ids import ClientName, Digest, RunId, is_name
from unisono.identity import JoinToken
from unisono.plan import Plan
from unisono.server.rounds import Step, StopAsked, begin
from unisono.server.store import LATEST, Client, Window

from .acceptance import Acceptance
from .coordinator import Coordinator
from .hall import Hall
from .presence import Session
from .views import audit_page, ended_status, status_of

Document = Mapping[str, object]
WATCH_PAUSE = 0.2  # seconds between two documents of a watched run
WATCH_BYTES = 64 << 10  # of rounds in each of them: the last ones, again and again
MAX_TTL = 30 * 86_400.0


class Operators:
    """Answers the calls of operators."""

    def __init__(self, hall: Hall, coordinator: Coordinator, acceptance: Acceptance) -> None:
        self._hall, self._coordinator, self._acceptance = hall, coordinator, acceptance

    async def start_run(
        self, plan_bytes: bytes, model: Digest | None, source: RunId | None, by: str
    ) -> RunId:
        """Begin a run of a plan.  Raises BadConfiguration, NotFound, BadUpdate."""
        plan = plans.from_canonical(plan_bytes)
        plans.check(plan)
        plan_bytes = plans.canonical(plan)  # what clients are shown has the digest that rounds name
        if source is not None:
            model = await self._last_model(source)
        if model is None and plan.model.init != "clients":
            raise BadConfiguration(f'[model] init = "{plan.model.init}": its file was not sent with the plan')
        files = () if model is None else (model,)
        async with self._hall.hold(*files):
            first = None if model is None else (model, await self._acceptance.norm_of(model))
            return await self._hall.whole(self._begin(plan, plan_bytes, begin(plan, 0.0, first), files, by))

    async def _begin(
        self, plan: Plan, plan_bytes: bytes, step: Step, files: tuple[Digest, ...], by: str
    ) -> RunId:
        """Write a run down and drive it: one without a driver would wait until the next start."""
        wall = self._hall.clock.wall()
        async with self._hall.hold(*files):  # who asked may let go of them
            run = await self._hall.workers.database(
                self._hall.store.create, plan_bytes, plans.digest(plan), step, 0.0, wall, by
            )
        await self._coordinator.start(run)
        return run

    async def stop_run(self, run: RunId, by: str) -> Document:
        """End a run now; its last model stays."""
        run = await self._known(run)
        if run in self._hall.runs:
            with suppress(WrongPhase):  # it has just ended by itself
                await self._hall.runs[run].driver.handle(StopAsked(by))
        return await self.show(run)

    async def show(self, run: RunId, window: Window = LATEST) -> Document:
        """Return `run show --json`, with the status of a run that is going on."""
        run = await self._known(run)
        document = await self._hall.workers.database(self._hall.store.show, run, window)
        return {**document, "status": self._status(run, document)}

    async def watch(self, run: RunId) -> AsyncIterator[Document]:
        """Yield the run now, and again whenever it changed, until it has ended."""
        run = await self._known(run)
        since = 0
        while True:
            ticket = self._hall.watchers.ticket(run)
            active = run in self._hall.runs
            events = await self._hall.workers.database(self._hall.store.events, run, since)
            since = max((int(str(event["seq"])) for event in events), default=since)
            yield {**await self.show(run, Window(most_bytes=WATCH_BYTES)), "events": events}
            if not active:
                return
            await self._hall.watchers.wait(ticket, 1.0)
            await self._coordinator.pause(WATCH_PAUSE)

    async def runs(self, before: int = 0) -> Document:
        """Return runs, the newest first, as many as fit; of those before number `before` if it is not 0."""
        return await self._hall.workers.database(self._hall.store.runs, before)

    async def models(self, run: RunId, before: int = 0) -> Document:
        """Return the models of a run that are kept: the last ones (before a round), as many as fit."""
        run = await self._known(run)
        return await self._hall.workers.database(self._hall.store.models, run, before)

    async def clients(self) -> Document:
        """Return the enrolled clients and how they are."""
        rows = await self._hall.workers.database(self._hall.store.clients)
        online = self._hall.presence.online()
        return {"clients": [_client(row, online.get(row.name)) for row in rows]}

    async def tokens(self) -> Document:
        """Return the join tokens that can still be used."""
        wall = self._hall.clock.wall()
        found = await self._hall.workers.database(self._hall.store.tokens)
        usable = (t for t in found if t.used < t.uses and t.not_after > wall and t.revoked is None)
        return {
            "tokens": [
                {"name": t.name, "uses": t.uses, "used": t.used, "not_after": t.not_after} for t in usable
            ]
        }

    async def audit(self, before: int = 0, limit: int = 100) -> Document:
        """Return a piece of the audit log, newest line first (see `views.audit_page`)."""
        return await self._hall.workers.database(audit_page, self._hall.store, before, limit)

    async def create_token(self, name: str, ttl: float, uses: int, by: str) -> tuple[str, float]:
        """Return a join token as text, and when it ends."""
        if not is_name(name):
            raise BadConfiguration(
                f'"{name}" cannot name a client; use lower-case letters, digits, ., _ and -'
            )
        if not 0 < ttl <= MAX_TTL:
            raise BadConfiguration(f"a token lives at most 30 days, not {ttl / 86_400:.1f}")
        now = self._hall.clock.wall()
        authority = self._hall.authority
        certificate, key = authority.issue_bootstrap(name, now, ttl)
        await self._hall.workers.database(self._hall.ledger.create_token, certificate, name, uses, by, now)
        token = JoinToken(authority.federation, authority.certificate_pem, certificate, key)
        return token.encode(), now + ttl

    async def revoke(self, name: ClientName, reason: str, by: str) -> Document:
        """Refuse a client from now on, in the middle of a call if need be."""
        await self._hall.whole(self._revoke(name, reason, by))
        return {"name": name, "revoked": True}

    async def _revoke(self, name: ClientName, reason: str, by: str) -> None:
        wall = self._hall.clock.wall()
        await self._hall.workers.database(self._hall.ledger.revoke, name, reason, by, wall)
        await self._coordinator.expel(name, reason)

    async def revoke_operator(self, name: str, reason: str, by: str, *, force: bool) -> Document:
        """Refuse an operator's certificates from now on, in the middle of a call if need be."""
        wall = self._hall.clock.wall()
        revoke = partial(self._hall.ledger.revoke_operator, force=force)
        certificates, tokens = await self._hall.workers.database(revoke, name, reason, by, wall)
        return {"operator": name, "revoked": True, "certificates": certificates, "tokens": tokens}

    async def check_plan(self, plan_bytes: bytes) -> Document:
        """Say which clients that are connected would take part in a plan, and why others would not."""
        plan = plans.from_canonical(plan_bytes)
        plans.check(plan)
        sizes = await self._hall.workers.database(self._hall.store.sizes_of_task, plan.task)
        rows = []
        for client, session in sorted(self._hall.presence.online().items()):
            reason = lacks(plan, session)
            rows.append({"name": client, "accepts": not reason, "reason": reason})
        return {"clients": rows, **sizes}

    async def health(self) -> Document:
        """Say how the coordinator is."""
        usage = shutil.disk_usage(self._hall.blobs.root)
        problems = list(self._hall.problems)
        if usage.free < self._hall.config.min_free_bytes:
            problems.append("the disk is nearly full")
        return {
            "status": "degraded" if problems else "ok",
            "federation": self._hall.authority.federation,
            "software": version("unisono"),
            "wall": self._hall.clock.wall(),
            "clients_online": len(self._hall.presence.online()),
            "clients_enrolled": self._hall.ledger.enrolled(),
            "runs_active": len(self._hall.runs),
            "disk_free_bytes": usage.free,
            "problems": problems,
        }

    async def _known(self, run: RunId) -> RunId:
        """Return the run meant: an empty id is the latest.  Raises NotFound."""
        return run or await self._hall.workers.database(self._hall.store.latest)

    async def _last_model(self, run: RunId) -> Digest:
        document = await self._hall.workers.database(self._hall.store.show, run, Window(most_bytes=0))
        model = document["model_sha256"]
        if not isinstance(model, str) or not model:
            raise NotFound(f"run {run} has no model to go on from")
        return Digest(model)

    def _status(self, run: RunId, document: Mapping[str, object]) -> Mapping[str, object]:
        lineage = self._hall.runs.get(run)
        if lineage is not None:
            return status_of(self._hall, lineage)
        return ended_status(document)


def _client(row: Client, session: Session | None) -> Document:
    return {
        "name": row.name,
        "number": row.number,
        "state": "revoked" if not row.enrolled else "online" if session else "offline",
        "last_seen": row.last_seen,
        "not_after": row.tls_not_after,
        "tasks": sorted(session.greeting.tasks) if session else [],
        "software": row.software,
        "signing_spki_sha256": row.signing_spki_sha256,
    }


def lacks(plan: Plan, session: Session) -> str:
    """Say what a client lacks for a plan, or nothing."""
    offers = session.greeting
    if plan.task not in offers.tasks:
        return f"offers no task '{plan.task}', only {', '.join(sorted(offers.tasks)) or 'none'}"
    if plan.protection.mode not in offers.protections:
        spoken = ", ".join(sorted(offers.protections))
        return f"speaks {spoken}; the plan asks for {plan.protection.mode}"
    if plan.aggregation.strategy not in offers.strategies:
        return f"has no strategy '{plan.aggregation.strategy}'"
    return ""
