"""What many jobs that expire at one moment cost the other requests, and whether counts are right all the time."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.fixtures import INPUT, WEEK, fill, server
from benchmarks.report import Report, Table
from service.domain.errors import StoreUnavailable
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store import scripts
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import PARTITION
from service.store.pool import create_pool

#: How many jobs expire at once, and how many stay.
EXPIRING, STAYING = 100_000, 1_000
#: Seconds under load before that moment and after it.
BEFORE, AFTER = 4.0, 8.0
#: Seconds between two sweeps.
SWEEP_INTERVAL: Final = 1.0
#: µs: shorter runs of scripts are not in the table.
LOGGED: Final = 1000
#: Clients that create, claim and complete jobs, and clients that count.
WORKERS, COUNTERS = 8, 2
#: The queues of the jobs that expire, of those that stay, and of the workers.
_EXPIRING, _STAYING, _BUSY = "expiring", "staying", "busy"


class Load:
    """Clients of one process, and what they have seen."""

    def __init__(self, client: StoreClient, jobs: JobStateManager, moment: float) -> None:
        self._jobs, self._leases = jobs, LeaseManager(client, ttl=WEEK)
        self._moment, self._ends = moment, moment + AFTER
        #: Milliseconds of each call, by its name and whether it began after the moment.
        self.times: dict[tuple[str, bool], list[float]] = defaultdict(list)
        self.counts: dict[str, int] = dict.fromkeys(("right", "refused", "wrong"), 0)

    async def run(self) -> None:
        """Run all clients and the sweeper until the end."""
        workers = (self._work() for _ in range(WORKERS))
        counters = (self._count() for _ in range(COUNTERS))
        await asyncio.gather(*workers, *counters, self._sweep())

    async def _timed(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        started, is_after = time.perf_counter(), time.time() >= self._moment
        try:
            return await call()
        finally:
            self.times[name, is_after].append((time.perf_counter() - started) * 1000)

    async def _work(self) -> None:
        while time.time() < self._ends:
            await self._timed("create", lambda: self._jobs.create_job(str(uuid.uuid4()), INPUT, "c", queue=_BUSY))
            claim = await self._timed("claim", lambda: self._leases.claim_job([_BUSY], "bench"))
            if claim is not None:
                job_id, token = claim.job.job_id, claim.lease.token
                await self._timed("get", lambda job_id=job_id: self._jobs.get_job(job_id))
                await self._timed(
                    "complete",
                    lambda job_id=job_id, token=token: self._jobs.update_job_status(
                        job_id, "completed", lease_token=token
                    ),
                )

    async def _count(self) -> None:
        while time.time() < self._ends:
            try:
                stats = await self._timed("count", self._jobs.get_stats)
            except StoreUnavailable:
                self.counts["refused"] += 1
                continue
            found = {queue: sum(statuses.values()) for queue, statuses in stats.queues.items() if queue != _BUSY}
            is_over = parse_timestamp(stats.at) // 1000 > int(self._moment * 1000)
            right = {_STAYING: STAYING} if is_over else {_STAYING: STAYING, _EXPIRING: EXPIRING}
            self.counts["right" if found == right else "wrong"] += 1

    async def _sweep(self) -> None:
        while time.time() < self._ends:
            await self._jobs.sweep()
            await asyncio.sleep(SWEEP_INTERVAL)


async def _expire_at(redis: Redis, moment: float) -> None:
    """Make all jobs of the queue expire at `moment` (s since 1970)."""
    millis = int(moment * 1000)
    members = [
        member for member in await redis.zrange(PARTITION.by_expiry, 0, -1) if f"|{_EXPIRING}|".encode() in member
    ]
    for start in range(0, len(members), 1000):
        pipeline, some = redis.pipeline(transaction=False), members[start : start + 1000]
        for member in some:
            record = PARTITION.job(member.split(b"|")[0].decode())
            pipeline.hset(record, "expires_at", format_timestamp(millis * 1000))
            pipeline.pexpireat(record, millis)
        pipeline.zadd(PARTITION.by_expiry, dict.fromkeys(some, millis))
        await pipeline.execute()


async def _script_times(redis: Redis) -> dict[str, list[float]]:
    """Return the milliseconds of the longer runs of each script."""
    names, times = {script.sha.encode(): script.name for script in scripts.ALL}, defaultdict(list)
    for entry in await redis.slowlog_get(100_000):
        words = entry["command"].split(b" ")
        if words[0] == b"EVALSHA":
            times[names[words[1]]].append(entry["duration"] / 1000)
    return times


async def _measure(report: Report) -> None:
    with server("--maxmemory", "4gb", "--slowlog-max-len", "100000", "--latency-monitor-threshold", "5") as url:
        await fill(url, EXPIRING, queue=lambda _: _EXPIRING, slate_id=lambda number: f"slate-{number % 20}")
        pool = create_pool(url)
        redis, client = Redis.from_url(url, socket_timeout=60), StoreClient(pool)
        jobs = JobStateManager(client, ttl=WEEK)
        for number in range(STAYING):
            await jobs.create_job(f"staying-{number}", INPUT, queue=_STAYING)
        await _expire_at(redis, time.time() + 3600)  # the second time takes as long, and must be over before the moment
        started = time.time()
        await _expire_at(redis, started + 3600)
        moment = time.time() + (time.time() - started) * 1.5 + BEFORE
        await _expire_at(redis, moment)
        await redis.config_set("slowlog-log-slower-than", LOGGED)
        load = Load(client, jobs, moment)
        await load.run()
        await redis.config_set("slowlog-log-slower-than", -1)
        cycles = dict(await redis.latency_history("expire-cycle"))
        _report(report, load, await _script_times(redis), max(cycles.values(), default=0))
        await client.aclose()
        await redis.aclose()
        await pool.disconnect()


def _report(report: Report, load: Load, scripts_ms: dict[str, list[float]], expire_cycle: int) -> None:
    table = Table(
        f"{EXPIRING:,} jobs expire at one moment: scripts, in ms", ("", "runs over 1 ms", "median of these", "longest")
    )
    for name, times in sorted(scripts_ms.items()):
        table.add_row(name, f"{len(times):,}", f"{median(times):.1f}", f"{max(times):.1f}")
    report.add(table)
    table = Table(
        f"{EXPIRING:,} jobs expire at one moment: calls, in ms", ("", "p99 before", "p99 after", "longest after")
    )
    for name in ("create", "claim", "get", "complete", "count"):
        before, after = load.times[name, False], load.times[name, True]
        table.add_row(name, f"{_p99(before):.1f}", f"{_p99(after):.1f}", f"{max(after):.1f}")
    report.add(table)
    right, refused, wrong = (load.counts[name] for name in ("right", "refused", "wrong"))
    report.add_text(
        f"{right:,} counts were right, {refused:,} were refused with 503, and {wrong:,} were wrong. The longest step of"
        f" Redis's own expiry took {expire_cycle} ms."
    )


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]


def measure(_rounds: int, report: Report) -> None:
    """Add the tables of one run."""
    asyncio.run(_measure(report))
