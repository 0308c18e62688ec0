"""The metrics of the service in the formats of Prometheus."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, values
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from service import __version__
from service.domain.jobs import Stats
from service.domain.states import Status
from service.domain.store_health import StoreAvailability, StoreHealth
from service.domain.timestamps import parse_timestamp

#: Upper bounds (s) of the histograms. A Redis call takes up to its deadline of 3 s, a long poll up to 30 s.
CALL_BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.5, 10.0, 30.0)

#: The values of the label `change`.
JOB_CHANGES: Final = (
    *("created", *Status, "progress", "cancel-requested", "lease-expired", "run-timeout", "start-timeout"),
    *("deleted", "expired"),
)

_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of one process, or the sums over all processes after `configure` with a directory.

    No label has a value that a client chose: routes are templates, and methods are those that a route supports.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        directory = os.environ.get(_DIRECTORY)
        own: Any = {"registry": None if directory else self._registry}
        live: Any = {**own, "multiprocess_mode": "livesum"}
        requests = Histogram(
            "jobstate_http_request_duration_seconds",
            "Time from the header of a request to the end of its response, or until it becomes a waiting request",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS,
            **own,
        )
        self._requests_in_progress = Gauge(
            "jobstate_http_requests_in_progress", "Requests in progress that do not wait", **live
        )
        #: Counts a request that starts.
        self.request_started = self._requests_in_progress.inc
        waiting = Gauge(
            "jobstate_http_requests_waiting", "Waiting requests: long polls, event streams and claims", **live
        )
        #: Adds to the number of waiting requests; the change may be negative.
        self.add_waiting_requests = waiting.inc
        problems = Counter("jobstate_http_problems", "Requests answered with a problem, by type", ["type"], **own)
        changes = Counter("jobstate_job_changes", "Changes of jobs", ["change"], **own)
        for change in JOB_CHANGES:  # from 0 on, so that `increase()` counts the first change
            changes.labels(change)
        calls = Histogram(
            "jobstate_redis_command_duration_seconds",
            "Duration of a Redis call, including the wait for a connection and a retry",
            ["command", "outcome"],
            buckets=CALL_BUCKETS,
            **own,
        )
        text = "Redis calls that failed because too few replicas acknowledged their changes"
        #: Counts a call that failed because too few replicas acknowledged its change.
        self.on_replicas_missing = Counter("jobstate_redis_replicas_missing", text, **own).inc
        self._calls_in_progress = Gauge("jobstate_redis_commands_in_progress", "Redis calls in progress", **live)
        #: Counts a Redis call that starts.
        self.on_call_start = self._calls_in_progress.inc
        # The lookup of a child by its labels is the main cost. There are few children.
        self._requests, self._problems = cache(requests.labels), cache(problems.labels)
        self._changes, self._calls = cache(changes.labels), cache(calls.labels)
        #: Sets the maximum number of connections to Redis.
        self.set_pool_size = Gauge("jobstate_redis_pool_max_connections", "Maximum connections to Redis", **live).set
        partitions: Any = {**own, "multiprocess_mode": "livemax"}
        #: Sets the number of partitions.
        self.set_partitions = Gauge("jobstate_partitions", "Partitions of the data", **partitions).set
        if directory:
            self._registry.register(_FilesCollector(Path(directory)))
        else:
            ProcessCollector(registry=self._registry)

    def request_finished(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        """Count a request that ends; `problem` is the name of its problem type, if it was answered with one."""
        self._requests_in_progress.dec()
        self._requests(method, route, status).observe(seconds)
        if problem is not None:
            self.count_problem(problem)

    def init_problem_counter(self, problem: str) -> None:
        """Create the counter of a problem type at 0, so that `increase()` counts the first problem."""
        self._problems(problem)

    def count_problem(self, problem: str) -> None:
        """Count a problem of this type."""
        self._problems(problem).inc()

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Count a Redis call that ends."""
        self._calls_in_progress.dec()
        self._calls(call, outcome).observe(seconds)

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Count a change of `jobs` jobs."""
        self._changes(change).inc(jobs)

    def render(
        self,
        accept: str,
        *,
        availability: StoreAvailability | None,
        stats: Stats | None,
        health: Sequence[StoreHealth] | None,
    ) -> tuple[bytes, str]:
        """Return all metrics and their media type, which is OpenMetrics if `accept` requests it.

        `availability`, `stats` and `health`, of each node, are just read from Redis, or `None` if that failed.
        """
        encode, media_type = choose_encoder(accept)
        return encode(_ScrapeCollector(self._registry, availability, stats, health)), media_type


@dataclass
class _ScrapeCollector(Collector):
    """The metrics of the process, followed by those that are read from Redis."""

    registry: CollectorRegistry
    availability: StoreAvailability | None
    stats: Stats | None
    health: Sequence[StoreHealth] | None

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self.registry.collect()
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("jobstate_build", "Version of the service and of Python", build)
        is_up, is_known = self.availability is not None, self.health is not None
        yield _gauge("jobstate_redis_up", "Whether Redis serves all that the service needs", float(is_up))
        if is_up or is_known:
            text = "Whether Redis allows INFO, so that durability and eviction are known"
            yield _gauge("jobstate_redis_durability_known", text, float(is_known))
        if self.health:
            yield from _redis_metrics(self.health)
        if self.availability is not None:
            yield from _node_metrics(self.availability)
        if self.stats is not None:
            yield from _job_metrics(self.stats)


def _redis_metrics(nodes: Sequence[StoreHealth]) -> Iterator[Metric]:
    """Yield metrics of one Redis, or with the label `node` those of the nodes of a cluster."""
    versions = InfoMetricFamily("jobstate_redis", "Version of Redis", labels=["node"] if nodes[0].node else [])
    for one in nodes:
        versions.add_metric([one.node] if one.node else [], {"version": one.version})
    yield versions

    def gauge(name: str, text: str, value: Callable[[StoreHealth], float]) -> Metric:
        if not nodes[0].node:
            return _gauge(name, text, value(nodes[0]))
        return _gauge(name, text, {one.node: value(one) for one in nodes}, label="node")

    yield gauge("jobstate_redis_memory_bytes", "Memory used by Redis", lambda one: one.memory)
    text = "maxmemory of Redis; 0 for no limit"
    yield gauge("jobstate_redis_memory_limit_bytes", text, lambda one: one.memory_limit)
    text = "Number of settings and faults of Redis that put acknowledged jobs at risk"
    yield gauge("jobstate_redis_warnings", text, lambda one: len(one.warnings))


def _node_metrics(availability: StoreAvailability) -> Iterator[Metric]:
    yield _gauge("jobstate_redis_nodes", "Redis nodes that have partitions", availability.nodes)
    yield _gauge("jobstate_redis_nodes_away", "Redis nodes that do not accept changes", availability.nodes_away)
    text = "Partitions on Redis nodes that do not accept changes"
    yield _gauge("jobstate_redis_partitions_away", text, availability.partitions_away)


def _job_metrics(stats: Stats) -> Iterator[Metric]:
    yield _gauge("jobstate_jobs", "Jobs by status", stats.statuses, label="status")
    yield _gauge("jobstate_jobs_delayed", "Pending jobs whose delay has not elapsed", stats.delayed)
    running = {"live": stats.running.leased, "none": stats.running.unleased}
    text = "Running jobs with an active lease (live) and without one (none)"
    yield _gauge("jobstate_jobs_running", text, running, label="lease")
    oldest = stats.oldest_pending
    age = 0.0 if oldest is None else (parse_timestamp(stats.at) - parse_timestamp(oldest.created_at)) / 1e6
    yield _gauge("jobstate_oldest_pending_age_seconds", "Age of the oldest pending job", age)


def _gauge(name: str, text: str, value: float | Mapping[Any, float], label: str | None = None) -> Metric:
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(name, text, value)
    family = GaugeMetricFamily(name, text, labels=[label or ""])
    for key, number in value.items():
        family.add_metric([str(key)], number)
    return family


class _FilesCollector(Collector):
    """The metrics in the files of all processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return every metric; without the files that a process is creating: prometheus-client cannot read them."""
        files = [str(file) for file in self._directory.glob("*.db") if _is_written(file)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _is_written(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # its process is dead
        return False


def configure(directory: Path | None = None, worker: int = 0) -> None:
    """Set what prometheus-client keeps for a whole process. Call it once in each, before the first `Metrics`.

    With a `directory`, the metrics of this process are stored there, so that every process can serve the sums. A
    restarted process with the same `worker` number continues its counters.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # an extra series for each counter that nothing uses
    if directory is not None:
        os.environ[_DIRECTORY] = str(directory)
        # By default a file belongs to a process id, which differs after a restart.
        values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


def mark_worker_dead(directory: Path, worker: int) -> None:
    """Drop the gauges of a process that has exited; its counters still count."""
    mark_process_dead(worker, str(directory))  # type: ignore[no-untyped-call]
