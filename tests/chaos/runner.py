"""Runs rounds of faults under load. A seed determines the order of the faults and all random choices."""

import asyncio
import contextlib
import random
import re
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from redis.asyncio import Redis

from service.store.data_version import VERSION_KEYS
from tests.chaos.bulk_client import BulkClient
from tests.chaos.checker import check, count_lost
from tests.chaos.context import describe_job
from tests.chaos.environment import (
    OWN_CLOCKS,
    SINGLE_PROCESS,
    TWO_PROCESSES,
    Environment,
    OneRedis,
    Start,
    Topology,
    start_one_redis,
)
from tests.chaos.final_state import read_final_state
from tests.chaos.history import History, Outage, Outcome, Window, round_has_timeouts
from tests.chaos.http import TLS, open_client
from tests.chaos.nemesis import FAULTS, Fault
from tests.chaos.stream_reader import StreamReader
from tests.chaos.workload import WorkloadClient
from tests.helpers.partitions import PARTITIONS

#: Job ids of the clients.
JOB_ID: Final = re.compile(r"\br\d+(?:c\d+-j\d+|bulk-\d+-\d+)\b")
#: Limits for an idle process: descriptors beyond the connection pool, and bytes of memory.
SPARE_DESCRIPTORS: Final = 64
MAX_MEMORY: Final = 400 << 20
#: Seconds within which all time-outs end: they are short, but after an outage the reaper waits 10 s.
TIMEOUTS_END: Final = 30.0


@dataclass
class Scale:
    """The number of clients, and the seconds before, during and after each fault."""

    clients: int = 64
    before: float = 0.5
    fault_seconds: float = 1.0
    after: float = 0.5


@dataclass
class Round:
    """The result of a round."""

    number: int
    faults: tuple[str, ...]
    violations: list[str] = field(default_factory=list)
    #: Everything recorded about the jobs of the first violations.
    job_reports: list[str] = field(default_factory=list)
    requests: int = 0
    acknowledged: int = 0
    rejected: int = 0
    unknown: int = 0
    #: Acknowledged changes without an event.
    lost: int = 0
    #: For each fault, the seconds until `/ready` answered 200.
    recovery_times: list[float] = field(default_factory=list)
    #: Seconds until a 503 while Redis was unavailable, and until `/health` answered while no fault hit the service.
    unavailable_times: list[float] = field(default_factory=list)
    health_times: list[float] = field(default_factory=list)
    #: Seconds that requests for one job took: before a master was killed and in its outage, for jobs of other masters,
    #: and in the outage for its own jobs.
    times_before: list[float] = field(default_factory=list)
    times_of_others: list[float] = field(default_factory=list)
    times_of_hit: list[float] = field(default_factory=list)
    memory: int = 0
    descriptors: int = 0
    seconds: float = 0.0


class Block(NamedTuple):
    """Rounds that share an environment, and the faults of each."""

    topology: Topology
    rounds: list[tuple[Fault, ...]]


def shuffle(rng: random.Random, kinds: Sequence[Fault], faults_per_round: int = 1) -> list[Block]:
    """Return rounds with every fault once, in random order; about a quarter of them run on several processes."""
    faults = rng.sample(kinds, len(kinds))
    clocks = [fault for fault in faults if fault.sets_clocks]
    several = [fault for fault in faults if fault not in clocks and (fault.multi_process or rng.random() < 0.25)]
    single = [fault for fault in faults if fault not in several + clocks]
    return [
        Block(topology, [tuple(chosen[at : at + faults_per_round]) for at in range(0, len(chosen), faults_per_round)])
        for topology, chosen in ((SINGLE_PROCESS, single), (TWO_PROCESSES, several), (OWN_CLOCKS, clocks))
        if chosen
    ]


def schedule(seed: int, rounds: int, kinds: Sequence[Fault] = FAULTS) -> list[Block]:
    """Return the rounds of a seed: all faults in random order, again and again."""
    rng, blocks = random.Random(seed), list[Block]()
    while (left := rounds - sum(len(block.rounds) for block in blocks)) > 0:
        for block in shuffle(rng, kinds):
            blocks.append(Block(block.topology, block.rounds[:left]))
            left -= len(blocks[-1].rounds)
    return [block for block in blocks if block.rounds]


async def run(
    seed: int,
    blocks: Sequence[Block],
    scale: Scale,
    folder: Path,
    source: Path | None = None,
    report: Callable[[str], None] = print,
    start: Start = start_one_redis,
) -> AsyncGenerator[Round]:
    """Run all rounds and yield each result. The seed and the number of a round determine its random choices."""
    number = 0
    for at, block in enumerate(blocks):
        async with start(folder / f"environment-{at}", block.topology, source) as environment:
            if at == 0 and isinstance(environment, OneRedis):
                report(f"disk of Redis: {environment.disk}")
            for faults in block.rounds:
                number += 1
                yield await run_round(environment, number, faults, random.Random(f"{seed}/{number}"), scale)


async def run_round(
    environment: Environment, number: int, faults: tuple[Fault, ...], rng: random.Random, scale: Scale
) -> Round:
    """Run the workload, inject the faults, wait until all is quiet, and check the history."""
    started = time.monotonic()
    history = environment.history = History()
    environment.rng = rng
    result = Round(number, tuple(fault.name for fault in faults))
    async with environment.redis_client() as redis:
        origins = await _delete_jobs(redis)
    reader = StreamReader(environment.service.url, history.stream_messages)
    reading = asyncio.create_task(reader.run())
    stop = threading.Event()
    probe = asyncio.to_thread(_probe_health, environment.service.url, result.health_times, history, stop)
    probing = asyncio.create_task(probe)
    try:
        await reader.wait_until_live()
        async with _run_clients(environment, number, scale):
            await asyncio.sleep(rng.uniform(0.2, 1) * scale.before)
            for fault in faults:
                await _inject(environment, fault, result, scale)
                await asyncio.sleep(scale.after)
        await environment.wait_until_ready()
        if round_has_timeouts(number):
            await _wait_for_timeouts(environment)
        async with (
            environment.redis_client() as redis,
            environment.open_pool() as pool,
            open_client(environment.service.url, timeout=10) as http,
        ):
            await read_final_state(history, redis, pool, http, origins)
        if history.events and not await reader.reaches(history.events):
            history.errors.append("the stream does not reach the last event")
    finally:
        reading.cancel()
        stop.set()
        await asyncio.gather(reading, probing, return_exceptions=True)
    _measure_resources(environment, result)
    result.violations = check(history)
    for job_id in dict.fromkeys(JOB_ID.findall(" ".join(result.violations[:3]))):
        result.job_reports += describe_job(history, job_id)
    _count_outcomes(history, result)
    result.seconds = time.monotonic() - started
    return result


async def _wait_for_timeouts(environment: Environment) -> None:
    """Wait until every time-out has ended its attempt or its job, so that nothing changes any more."""
    deadline = time.monotonic() + TIMEOUTS_END
    async with environment.redis_client() as redis:
        for partition in PARTITIONS:
            while await redis.zcard(partition.timers):
                if time.monotonic() > deadline:
                    raise TimeoutError("time-outs do not end")
                await asyncio.sleep(0.2)


async def _delete_jobs(redis: Redis) -> list[str]:
    """Delete all jobs but keep the events, as when jobs expire. Return where in each stream the round begins."""
    if names := [name async for name in redis.scan_iter(count=1000) if name not in _KEPT_KEYS]:
        await redis.unlink(*names)
    last = [await redis.xrevrange(partition.events, count=1) for partition in PARTITIONS]
    return [entries[0][0].decode() if entries else "0-0" for entries in last]


#: The version and the number of partitions are those of the data, also without jobs. No fault removes them alone.
_KEPT_KEYS: Final = {
    name.encode()
    for partition in PARTITIONS
    for name in (partition.events, partition.meta, partition.version, partition.partitions)
} | {VERSION_KEYS[0].encode()}


@contextlib.asynccontextmanager
async def _run_clients(environment: Environment, number: int, scale: Scale) -> AsyncIterator[None]:
    """Run the workload for the length of the block, then let each client finish its current action."""
    stop, known_jobs = asyncio.Event(), deque[str](maxlen=300)
    calls, rng = environment.history.calls, environment.rng
    clients = [
        WorkloadClient(f"r{number}c{at}", at, known_jobs, calls, random.Random(rng.random()))
        for at in range(scale.clients)
    ]
    async with asyncio.TaskGroup() as group:
        for client in (*clients, BulkClient(f"r{number}bulk", environment.history)):
            group.create_task(client.run(environment.service.url, stop))
        try:
            yield
        finally:
            stop.set()


async def _inject(environment: Environment, fault: Fault, result: Round, scale: Scale) -> None:
    """Inject a fault, and wait until the service has recovered."""
    await environment.set_fsync(fault.fsync or environment.rng.choice(["always", "everysec"]))
    environment.fault_seconds = scale.fault_seconds * environment.rng.uniform(0.7, 1.3)
    since, faults = time.time(), environment.history.faults
    window = Window(fault.name, since, float("inf"))
    faults.append(window)
    await fault.inject(environment)
    result.recovery_times.append(await environment.wait_until_ready())
    faults[faults.index(window)] = Window(fault.name, since, time.time())


def _probe_health(url: str, times: list[float], history: History, stop: threading.Event) -> None:
    """Measure `/health` ten times a second, in a thread so that the clients' event loop does not delay it."""
    hits_service = {fault.name for fault in FAULTS if fault.hits_service}
    with httpx.Client(base_url=url, timeout=5, verify=TLS) as http:
        while not stop.wait(0.1):
            started, wall = time.monotonic(), time.time()
            with contextlib.suppress(httpx.HTTPError):
                response = http.get("/health")
                now = time.time()
                if not any(one.name in hits_service and one.overlaps(wall - 1, now) for one in history.faults):
                    times.append(time.monotonic() - started)
                    if response.status_code != 200:
                        history.errors.append(f"/health answered {response.status_code}")


def _measure_resources(environment: Environment, result: Round) -> None:
    """Record the most descriptors and memory of an idle process."""
    for pid in environment.pids:
        with contextlib.suppress(OSError):
            result.descriptors = max(result.descriptors, len(list(Path(f"/proc/{pid}/fd").iterdir())))
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            result.memory = max(result.memory, pages * 4096)
    if result.descriptors > 64 + SPARE_DESCRIPTORS or result.memory > MAX_MEMORY:
        environment.history.errors.append(
            f"an idle process has {result.descriptors} descriptors and {result.memory >> 20} MiB"
        )


def _count_outcomes(history: History, result: Round) -> None:
    result.requests = len(history.calls)
    changes = [call for call in history.calls if call.is_change]
    result.acknowledged = sum(call.outcome is Outcome.OK for call in changes)
    result.rejected = sum(call.outcome is Outcome.FAIL for call in changes)
    result.unknown = sum(call.outcome is Outcome.INFO for call in changes)
    unavailable = [call for call in history.calls if call.problem.startswith("store-")]
    result.unavailable_times = [call.ended - call.started for call in unavailable]
    result.lost = count_lost(history)
    for outage in history.outages:
        _sort_times(history, outage, result)


def _sort_times(history: History, outage: Outage, result: Round) -> None:
    for call in history.calls:
        if not call.job_id:
            continue
        is_hit, seconds = PARTITIONS.of(call.job_id).number in outage.partitions, call.ended - call.started
        if outage.window.overlaps(call.started, call.ended):
            (result.times_of_hit if is_hit else result.times_of_others).append(seconds)
        elif call.ended < outage.window.since and not is_hit:
            result.times_before.append(seconds)
