"""What the coordinator counts with: one typed object, handed in by the composition root.

Every method costs a few microseconds and may be called from any thread.  No global registry: two coordinators
in one process (tests) do not share a number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from unisono import telemetry as names

Direction = Literal["in", "out"]
disable_created_metrics()  # type: ignore[no-untyped-call]  # a time of birth a series: twice as many


class Meters:
    """All metrics of one coordinator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.gauges = {m.name: self._gauge(m) for m in names.METRICS if m.kind == "gauge"}
        self._runs_ended = self._counter(names.RUNS_ENDED)
        self._rounds = self._counter(names.ROUNDS)
        self._round_seconds = self._histogram(names.ROUND_SECONDS)
        self._attempts_failed = self._counter(names.ATTEMPTS_FAILED)
        self._phase_seconds = self._histogram(names.PHASE_SECONDS)
        self._updates = self._counter(names.UPDATES)
        self._resumes = self._counter(names.RESUMES)
        self._rpc_seconds = self._histogram(names.RPC_SECONDS)
        self._fold = self._histogram(names.FOLD_SECONDS)
        self._fsync = self._histogram(names.FSYNC_SECONDS)
        self._transaction = self._histogram(names.TRANSACTION_SECONDS)
        bytes_moved = self._counter(names.BYTES)
        self._bytes = {way: bytes_moved.labels(way) for way in ("in", "out")}

    def set(self, metric: names.Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        gauge = self.gauges[metric.name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def clear(self, metric: names.Metric) -> None:
        """Forget what a gauge said about labels that may be gone by now."""
        self.gauges[metric.name].clear()

    def run_ended(self, state: str) -> None:
        """Count the end of a run."""
        self._runs_ended.labels(state).inc()

    def round_published(self, seconds: float) -> None:
        """Count a round that gave a model."""
        self._rounds.inc()
        self._round_seconds.observe(seconds)

    def attempt_failed(self) -> None:
        """Count an attempt that came to nothing."""
        self._attempts_failed.inc()

    def phase_left(self, phase: str, seconds: float) -> None:
        """Note how long a run was in a phase."""
        self._phase_seconds.labels(phase).observe(seconds)

    def update(self, result: Literal["accepted", "refused", "left_out"], reason: str = "") -> None:
        """Count an update; `reason` is a code of ours, never words of a client's."""
        self._updates.labels(result, reason).inc()

    def moved(self, direction: Direction, count: int) -> None:
        """Count bytes."""
        self._bytes[direction].inc(count)

    def resumed(self, direction: Direction) -> None:
        """Count a transfer that did not begin at the first byte."""
        self._resumes.labels(direction).inc()

    def call(self, method: str, code: str, seconds: float) -> None:
        """Note a call that ended."""
        self._rpc_seconds.labels(method, code).observe(seconds)

    @contextmanager
    def folding(self) -> Iterator[None]:
        """Measure the adding of one update."""
        with _timed(self._fold):
            yield

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Measure how long the disk takes to make something durable."""
        with _timed(self._fsync):
            yield

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure a transaction that saves a step."""
        with _timed(self._transaction):
            yield

    def _gauge(self, metric: names.Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: names.Metric) -> Histogram:
        return Histogram(
            metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets
        )


@contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    began = perf_counter()
    try:
        yield
    finally:
        histogram.observe(perf_counter() - began)
