"""What several partitions cost on one plain Redis: the same calls of the library with each number of them.

One process makes the calls one after another. Its CPU time is that of all its parts: the caller, and who is woken.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from statistics import median
from typing import Any, Final, NamedTuple

import redis

from benchmarks.fixtures import INPUT, WEEK, run_in_batches, server
from benchmarks.report import Report, Table
from service.domain.jobs import Claim, JobFilter
from service.domain.shutdown import Shutdown
from service.store import scripts
from service.store.client import StoreClient
from service.store.events.claim_waiter import ClaimWaiter, PendingClaim
from service.store.events.hub import EventHub, Subscription
from service.store.events.job_watcher import JobWatcher
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import NullObserver
from service.store.pool import create_pool

NUMBERS: Final = (1, 16, 64)
#: Jobs that are listed and counted, and how often each call is made.
JOBS, CALLS = 5_000, 200
#: Workers that wait for a job, and the seconds in which they get none.
WORKERS, IDLE_SECONDS = 1_000, 3.0
#: The queue of the workers.
_QUEUE: Final = "work"

#: The figures of one sample, by the row of the table.
Figures = dict[str, float]


class Reading(NamedTuple):
    """What a client and Redis have done so far."""

    scripts: float
    claims: float
    looks: float
    round_trips: float
    #: CPU time in µs: of the main thread of Redis, and of this process.
    redis: float
    process: float

    def since(self, before: "Reading", count: float) -> "Reading":
        """Return what came after another reading, divided by `count`."""
        return Reading(*((new - old) / count for new, old in zip(self, before, strict=True)))


class Meter(NullObserver):
    """Counts the calls of a client and its round trips: calls that begin while others are under way share theirs."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url)
        self._calls = Counter[str]()
        self._round_trips = self._under_way = 0

    def on_call_start(self) -> None:
        """Count a round trip if nothing is under way."""
        self._round_trips += not self._under_way
        self._under_way += 1

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Count the call."""
        self._under_way -= 1
        self._calls[call] += 1

    def read(self) -> Reading:
        """Return what has been counted."""
        cpu, calls = self._redis.info("cpu"), self._calls
        in_redis = cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]
        ran = sum(calls[script.name] for script in scripts.ALL)
        process = time.process_time() * 1e6
        return Reading(ran, calls["claim"], calls["look"], self._round_trips, in_redis * 1e6, process)


class Bench:
    """The calls on one database."""

    def __init__(self, client: StoreClient, meter: Meter) -> None:
        self._jobs, self._leases = JobStateManager(client, ttl=WEEK), LeaseManager(client, ttl=WEEK)
        self._meter = meter
        shutdown = Shutdown()
        self.hub = EventHub(client, shutdown)
        self._waiter = ClaimWaiter(self.hub, shutdown, self._leases.looker)
        self._watcher = JobWatcher(client, self.hub, shutdown)
        #: How often workers have tried to claim, set once each has, and when they got a job (s).
        self._tries, self._all_wait, self._claimed = 0, asyncio.Event(), asyncio.Queue[float]()

    async def run(self) -> Figures:
        """Return all figures."""
        await self._create(JOBS, lambda number: f"listed-{number}")
        figures = await self._repeated("page of 50", lambda: self._jobs.list_jobs(JobFilter()))
        figures |= await self._repeated("stats", self._jobs.get_stats)
        figures |= await self._claims()
        return figures | await self._changes()

    async def _create(self, count: int, name: Callable[[int], str]) -> None:
        await run_in_batches(count, lambda number: self._jobs.create_job(name(number), INPUT))

    async def _repeated(self, name: str, call: Callable[[], Awaitable[Any]]) -> Figures:
        before = self._meter.read()
        for _ in range(CALLS):
            await call()
        each = self._meter.read().since(before, CALLS)
        return {
            f"{name}: scripts": each.scripts,
            f"{name}: round trips": each.round_trips,
            f"{name}: CPU of Redis, µs": each.redis,
            f"{name}: CPU of the process, µs": each.process,
        }

    async def _claims(self) -> Figures:
        alone = await self._idle()
        async with _running(self._work() for _ in range(WORKERS)):
            await self._all_wait.wait()
            waiting = await self._idle()
            before, times = self._meter.read(), list[float]()
            for number in range(CALLS):
                started = time.perf_counter()
                await self._jobs.create_job(f"claimed-{number}", INPUT, queue=_QUEUE)
                times.append(await self._claimed.get() - started)
            each = self._meter.read().since(before, CALLS)
        return {
            "idle workers: looks per second": waiting.looks,
            "idle workers: CPU of Redis per second, ms": (waiting.redis - alone.redis) / 1000,
            "idle workers: CPU of the process per second, ms": (waiting.process - alone.process) / 1000,
            "create and claim: scripts of claims": each.claims,
            "create and claim: looks": each.looks,
            "create and claim: CPU of Redis, µs": each.redis,
            "create and claim: CPU of the process, µs": each.process,
            "create and claim: median, ms": median(times) * 1000,
        }

    async def _idle(self) -> Reading:
        """Return what happens in a second in which nothing is asked for."""
        before = self._meter.read()
        await asyncio.sleep(IDLE_SECONDS)
        return self._meter.read().since(before, IDLE_SECONDS)

    async def _work(self) -> None:
        while True:
            if await self._waiter.claim(PendingClaim([_QUEUE]), 60, self._try_claim):
                self._claimed.put_nowait(time.perf_counter())

    async def _try_claim(self) -> tuple[list[Claim], float | None]:
        try:
            return await self._leases.try_claim([_QUEUE], "bench", lease_seconds=600, claim_key=None)
        finally:
            self._tries += 1
            if self._tries == WORKERS:
                self._all_wait.set()

    async def _changes(self) -> Figures:
        """Measure changes of jobs that have one watcher each, while events of all partitions are read."""
        await self._create(CALLS, lambda number: f"watched-{number}")
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self.hub.subscribe(Subscription(("job", None))))
            watches = [await self._watch(f"watched-{number}", stack) for number in range(CALLS)]
            await self.hub.position()
            before, times = self._meter.read(), list[float]()
            for number, watch in enumerate(watches):
                started = time.perf_counter()
                await self._jobs.cancel_job(f"watched-{number}")
                times.append(await watch - started)
            each = self._meter.read().since(before, CALLS)
        return {
            "change to its watcher: CPU of Redis, µs": each.redis,
            "change to its watcher: CPU of the process, µs": each.process,
            "change to its watcher: median, ms": median(times) * 1000,
        }

    async def _watch(self, job_id: str, stack: contextlib.AsyncExitStack) -> asyncio.Task[float]:
        subscription = stack.enter_context(self._watcher.watch(job_id))
        job = await self._watcher.get_job(job_id)
        assert job is not None
        following = self._watcher.follow(subscription, job, job.version)
        stack.push_async_callback(following.aclose)
        return asyncio.create_task(_next_time(following))


async def _next_time(following: AsyncGenerator[Any]) -> float:
    await anext(following)
    return time.perf_counter()


@contextlib.asynccontextmanager
async def _running(work: Iterable[Any]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sample(partitions: int) -> Figures:
    with server() as url:
        pool, meter = create_pool(url), Meter(url)
        client = StoreClient(pool, meter, partitions=partitions)
        bench = Bench(client, meter)
        try:
            return await bench.run()
        finally:
            await bench.hub.aclose()
            await client.aclose()
            await pool.disconnect()


def measure(rounds: int, report: Report) -> None:
    """Measure each number of partitions in turn, and add the medians of the rounds."""
    samples: dict[int, list[Figures]] = {number: [] for number in NUMBERS}
    for _ in range(rounds):
        for number, own in samples.items():
            own.append(asyncio.run(_sample(number)))
    title = f"partitions of one Redis, {JOBS:,} jobs, {WORKERS:,} workers that wait"
    table = Table(title, ("", *(f"{number} partition{'s' if number > 1 else ''}" for number in NUMBERS)))
    for row in samples[NUMBERS[0]][0]:
        figures = [median(one[row] for one in samples[number]) for number in NUMBERS]
        table.add_row(row, *(f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in figures))
    report.add(table)
