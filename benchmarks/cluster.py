"""What a job costs the Redis servers, on one Redis and on a cluster of three masters, through the library.

The same callers create, claim and complete jobs. The figures are CPU time of all masters, and of the busiest one,
whose core is the limit of a deployment.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import redis

from benchmarks.fixtures import INPUT, WEEK, server
from benchmarks.http_throughput import PERSISTENCE
from benchmarks.report import Report, Table
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.opening import open_store
from tests.helpers.redis_cluster import Cluster

#: Jobs of a sample, and the callers that work on them at the same time.
JOBS, CALLERS = 4_000, 32


class Sample(NamedTuple):
    """CPU time of Redis in µs for each job."""

    total: float
    busiest: float
    #: The part of `total` that is user time: mostly commands and scripts, without the network.
    user: float


_COLUMNS: Final = ("all masters", "of it user time", "the busiest master", "× the first row")


@contextlib.contextmanager
def _one_redis() -> Iterator[tuple[str, list[str]]]:
    with server(*PERSISTENCE, tcp=True) as url:
        yield url, [url]


@contextlib.contextmanager
def _three_masters() -> Iterator[tuple[str, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), 3, 0, *PERSISTENCE)
        try:
            yield cluster.url, cluster.urls
        finally:
            cluster.remove()


#: The ways to run Redis: how to start it, which yields its URL and those of its masters, and its partitions.
DEPLOYMENTS: Final = {
    "one Redis, 1 partition": (_one_redis, 1),
    "one Redis, 16 partitions": (_one_redis, 16),
    "three masters, 16 partitions": (_three_masters, 16),
}


def _cpu(masters: list[str]) -> list[dict[str, float]]:
    return [redis.Redis.from_url(url).info("cpu") for url in masters]


async def _work(url: str, partitions: int) -> None:
    async with open_store(url, partitions=partitions) as client:
        jobs, leases = JobStateManager(client, ttl=WEEK), LeaseManager(client, ttl=WEEK)

        async def call(caller: int) -> None:
            for number in range(JOBS // CALLERS):
                await jobs.create_job(f"{caller}-{number}", INPUT)
                while (claim := await leases.claim_job(["default"], "bench")) is None:
                    pass
                token = claim.lease.token
                await jobs.update_job_status(claim.job.job_id, "completed", INPUT, lease_token=token)

        await asyncio.gather(*map(call, range(CALLERS)))


def _sample(name: str) -> Sample:
    start, partitions = DEPLOYMENTS[name]
    with start() as (url, masters):
        before = _cpu(masters)
        asyncio.run(_work(url, partitions))
        spent = [
            [(now[key] - then[key]) / JOBS * 1e6 for key in ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")]
            for now, then in zip(_cpu(masters), before, strict=True)
        ]
    return Sample(sum(map(sum, spent)), max(map(sum, spent)), sum(user for user, _ in spent))


def measure(rounds: int, report: Report) -> None:
    """Measure each deployment in turn, and add the medians of the rounds."""
    samples: dict[str, list[Sample]] = {name: [] for name in DEPLOYMENTS}
    for _ in range(rounds):
        for name, own in samples.items():
            own.append(_sample(name))
    [first, *_] = samples.values()
    table = Table(f"CPU time of Redis for each job, µs, {CALLERS} callers", ("", *_COLUMNS))
    for name, own in samples.items():
        total, busiest, user = (median(column) for column in zip(*own, strict=True))
        ratio = median(one.busiest / single.busiest for one, single in zip(own, first, strict=True))
        table.add_row(name, f"{total:.0f}", f"{user:.0f}", f"{busiest:.0f}", f"×{ratio:.2f}")
    report.add(table)
