"""What is not counted as it happens but looked up when somebody asks for metrics."""

import asyncio
import shutil
from importlib.metadata import version

from prometheus_client import generate_latest
from prometheus_client.process_collector import ProcessCollector

from unisono import telemetry as names
from unisono.identity import expiry
from unisono.server.rounds import InRound, expects
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.lineage import Lineage

from .health import Certificate


class Gauges:
    """Fills the gauges, and writes all metrics down."""

    def __init__(self, hall: Hall, certificate: Certificate) -> None:
        self._hall, self._certificate = hall, certificate
        self._turn = asyncio.Lock()
        ProcessCollector(registry=hall.meters.registry)
        hall.meters.set(names.BUILD, 1, version("unisono"))
        hall.meters.set(names.STARTED, hall.clock.wall())
        hall.meters.set(names.DISK_RESERVE, hall.config.min_free_bytes)

    async def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format.

        One after another: the gauges of runs are cleared before they are set, and whoever wrote them down in
        between would tell Prometheus that no run goes on.
        """
        async with self._turn:
            self._runs()
            online = len(self._hall.presence.online())
            return await self._hall.workers.file(self._written, online)

    def _runs(self) -> None:
        hall, meters = self._hall, self._hall.meters
        for metric in _OF_RUNS:
            meters.clear(metric)
        meters.set(names.RUNS_ACTIVE, len(hall.runs))
        for lineage in hall.runs.values():
            self._run(lineage)

    def _run(self, lineage: Lineage) -> None:
        hall, meters, run = self._hall, self._hall.meters, lineage.run
        waited = expects(run)
        phase, since = hall.phases.get(lineage.id, (run.stage.kind, hall.clock.ticks()))
        meters.set(names.RUN_ROUND, run.round, lineage.id)
        meters.set(names.RUN_ROUNDS, lineage.plan.rounds.count, lineage.id)
        meters.set(names.RUN_PHASE, 1, lineage.id, phase)
        meters.set(names.RUN_PHASE_SECONDS, hall.clock.ticks() - since, lineage.id)
        meters.set(names.RUN_WAITS_FOR, len(waited), lineage.id)
        if isinstance(run.stage, InRound):
            meters.set(names.RUN_ATTEMPT, run.stage.attempt, lineage.id)
        silence = hall.presence.silence(lineage.id, waited)
        if silence:
            left = lineage.plan.rounds.idle_seconds - max(silence.values())
            meters.set(names.RUN_SECONDS_LEFT, max(0.0, left), lineage.id)

    def _written(self, online: int) -> bytes:
        hall, meters = self._hall, self._hall.meters
        usage = shutil.disk_usage(hall.blobs.root)
        meters.set(names.DISK_FREE, usage.free)
        meters.set(names.DISK_SIZE, usage.total)
        meters.set(names.CERTIFICATE, expiry(hall.authority.certificate_pem), "ca")
        meters.set(names.CERTIFICATE, expiry(self._certificate.current()), "server")
        self._clients(online)
        return generate_latest(meters.registry)

    def _clients(self, online: int) -> None:
        meters = self._hall.meters
        enrolled, revoked, first = self._hall.store.client_figures()
        states = {"online": online, "offline": max(0, enrolled - online), "revoked": revoked}
        for state, count in states.items():
            meters.set(names.CLIENTS, count, state)
        if first is not None:
            meters.set(names.CERTIFICATE, first, "client")


_OF_RUNS = (
    names.RUN_ROUND,
    names.RUN_ROUNDS,
    names.RUN_PHASE,
    names.RUN_PHASE_SECONDS,
    names.RUN_WAITS_FOR,
    names.RUN_SECONDS_LEFT,
    names.RUN_ATTEMPT,
)
