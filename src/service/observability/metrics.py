"""What the service measures of itself, as Prometheus reads it."""

import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from service import __version__
from service.domain.jobs import Stats
from service.domain.states import Status
from service.domain.store_health import StoreHealth
from service.domain.timestamps import parse_timestamp

#: Upper bounds (s) of the histograms: a call of Redis takes 0.1 ms to the deadline of 3 s; a request may wait 30 s.
CALL_BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.5, 10.0, 30.0)

#: What can become of a job.
JOB_CHANGES: Final = ("created", *Status, "progress", "cancel-requested", "lease-expired", "deleted", "expired")

_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, of no use to our dashboard


class Metrics:
    """The instruments of one process, and the page on which they are read.

    No label holds what a client sent: routes are templates, methods those that a route takes, the rest our own words.
    Workers that share a directory (`share`) show the sums over all of them, whichever is asked.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        shared = os.environ.get(_DIRECTORY)
        own: Any = {"registry": None if shared else self._registry}
        live: Any = {**own, "multiprocess_mode": "livesum"}
        requests = Histogram(
            "jobstate_http_request_duration_seconds",
            "Time from a request's head to the end of its answer, or until it waits for something to happen",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS,
            **own,
        )
        self._requests_now = Gauge("jobstate_http_requests_in_progress", "Requests that are being answered", **live)
        self._waiting = Gauge("jobstate_http_requests_waiting", "Requests that wait for something to happen", **live)
        refusals = Counter(
            "jobstate_http_problems", "Requests that were answered with a problem, by type", ["type"], **own
        )
        changes = Counter(
            "jobstate_job_changes", "Jobs created, moved, given progress, deleted, expired", ["change"], **own
        )
        for change in JOB_CHANGES:  # so that the first of its kind is seen as a growth
            changes.labels(change)
        calls = Histogram(
            "jobstate_redis_command_duration_seconds",
            "Time that a call of Redis took, waiting for a connection and a second try included",
            ["command", "outcome"],
            buckets=CALL_BUCKETS,
            **own,
        )
        self._calls_now = Gauge(
            "jobstate_redis_commands_in_progress", "Calls of Redis that are not answered yet", **live
        )
        # To find the instrument of a set of labels is what costs most; there are few sets.
        self._requests, self._refusals = cache(requests.labels), cache(refusals.labels)
        self._changes, self._calls = cache(changes.labels), cache(calls.labels)
        self._pool_size = Gauge("jobstate_redis_pool_max_connections", "The most connections to Redis", **live)
        if shared:
            MultiProcessCollector(self._registry, shared)  # type: ignore[no-untyped-call]
        else:
            ProcessCollector(registry=self._registry)

    def request_started(self) -> None:
        """Note that a request has come in."""
        self._requests_now.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        """Note that a request has its answer; `problem` is the name of the one that it was refused with."""
        self._requests_now.dec()
        self._requests(method, route, status).observe(seconds)
        if problem is not None:
            self.count_problem(problem)

    def add_waiting_requests(self, change: int) -> None:
        """Note that so many more requests wait for something to happen."""
        self._waiting.inc(change)

    def init_problem_counter(self, problem: str) -> None:
        """Show a problem before the first of its name: else that one would not be seen as a growth."""
        self._refusals(problem)

    def count_problem(self, problem: str) -> None:
        """Note that a request was answered with a problem of this name."""
        self._refusals(problem).inc()

    def on_call_start(self) -> None:
        """Note that a call of Redis begins."""
        self._calls_now.inc()

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Note that a call of Redis has ended."""
        self._calls_now.dec()
        self._calls(call, outcome).observe(seconds)

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Note that jobs have changed."""
        self._changes(change).inc(jobs)

    def set_pool_size(self, limit: int) -> None:
        """Note how many connections to Redis this process may have."""
        self._pool_size.set(limit)

    def render(self, accept: str, *, is_up: bool, stats: Stats | None, health: StoreHealth | None) -> tuple[bytes, str]:
        """Return the page and its media type, OpenMetrics where `accept` asks for it.

        `is_up` says whether Redis has just served what the service needs. `stats` and `health` are what it has just
        said, `None` where it did not.
        """
        encode, media_type = choose_encoder(accept)
        return encode(_ScrapeCollector(self._registry, is_up, stats, health)), media_type


class _ScrapeCollector(Collector):
    """What a process has counted, and behind it what Redis says."""

    def __init__(
        self, registry: CollectorRegistry, is_up: bool, stats: Stats | None, health: StoreHealth | None
    ) -> None:
        self._registry = registry
        self._is_up = is_up
        self._stats = stats
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._registry.collect()
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("jobstate_build", "What is running", build)
        yield _gauge("jobstate_redis_up", "Whether Redis serves what the service needs", float(self._is_up))
        is_known = self._health is not None
        if self._is_up or is_known:
            text = "Whether Redis lets the service check durability and eviction (INFO)"
            yield _gauge("jobstate_redis_durability_known", text, float(is_known))
        if self._health is not None:
            yield from _redis_metrics(self._health)
        if self._stats is not None:
            yield from _job_metrics(self._stats)


def _redis_metrics(health: StoreHealth) -> Iterator[Metric]:
    yield InfoMetricFamily("jobstate_redis", "The Redis that holds the jobs", {"version": health.version})
    yield _gauge("jobstate_redis_memory_bytes", "Memory that Redis uses", health.memory)
    yield _gauge("jobstate_redis_memory_limit_bytes", "Its maxmemory; 0 where there is none", health.memory_limit)
    yield _gauge("jobstate_redis_warnings", "Settings and faults of Redis that put jobs at risk", len(health.warnings))


def _job_metrics(stats: Stats) -> Iterator[Metric]:
    yield _gauge("jobstate_jobs", "Jobs by status", stats.statuses, label="status")
    yield _gauge("jobstate_jobs_delayed", "Pending jobs whose delay is not over", stats.delayed)
    running = {"live": stats.running.leased, "none": stats.running.unleased}
    yield _gauge("jobstate_jobs_running", "Running jobs with a live lease and without one", running, label="lease")
    oldest = stats.oldest_pending
    age = 0.0 if oldest is None else (parse_timestamp(stats.at) - parse_timestamp(oldest.created_at)) / 1e6
    yield _gauge("jobstate_oldest_pending_age_seconds", "Age of the pending job that was created first", age)


def _gauge(name: str, text: str, value: float | Mapping[Any, float], label: str | None = None) -> Metric:
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(name, text, value)
    family = GaugeMetricFamily(name, text, labels=[label or ""])
    for key, one in value.items():
        family.add_metric([str(key)], one)
    return family


def enable_multiprocess(directory: Path, worker: int) -> None:
    """Keep what this process counts in files of `directory`, where the other workers read it too.

    To be called before the first `Metrics`. A worker that is started again under its number counts on from there.
    """
    os.environ[_DIRECTORY] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


def mark_worker_dead(directory: Path, worker: int) -> None:
    """Forget what a worker that has died was doing; what it has done still counts."""
    mark_process_dead(worker, str(directory))  # type: ignore[no-untyped-call]
