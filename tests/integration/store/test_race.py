"""Many processes compete for many jobs while some are killed or stopped; events show which one got which job."""

import asyncio
import multiprocessing
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from service.domain.errors import StoreUnavailable
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers import claim_racer, worker_racer
from tests.helpers.claim_racer import LEASE
from tests.helpers.partitions import PARTITIONS
from tests.helpers.service_process import Service

PROCESSES = 16
#: How many of the processes are killed, and how many are stopped for longer than a lease.
KILLED = 4
STOPPED = 4
TIMEOUT = 120

#: All racers are forks of one process, which has imported what they need.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([claim_racer.__name__, worker_racer.__name__])


class Racer(NamedTuple):
    name: str
    process: BaseProcess
    #: What it prints.
    printed: Path

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def start_racer(main: Callable[[str, str], None], url: str, name: str, folder: Path) -> Racer:
    printed = folder / name
    process = FORKS.Process(target=run_racer, args=(main, url, name, printed))
    process.start()
    return Racer(name, process, printed)


def run_racer(main: Callable[[str, str], None], url: str, name: str, printed: Path) -> None:
    with printed.open("w", buffering=1) as output, redirect_stdout(output):
        main(url, name)


async def test_sixteen_processes_get_each_of_5000_jobs_once_while_some_are_killed_or_stopped(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, store_url: str, tmp_path: Path
) -> None:
    lost = await race(claim_racer.main, store_url, 5000, jobs, leases, redis, tmp_path)
    assert lost, "a stopped worker got a lease-lost error"


async def test_sixteen_workers_over_http_run_each_of_500_jobs_once_while_some_are_killed_or_stopped(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, store_url: str, tmp_path: Path
) -> None:
    with Service(tmp_path, REDIS_URL=store_url) as service:
        logged = await race(worker_racer.main, service.url, 500, jobs, leases, redis, tmp_path)
    assert any("lease-lost" in line for line in logged), "a stopped worker got a lease-lost error"


async def race(
    main: Callable[[str, str], None],
    url: str,
    count: int,
    jobs: JobStateManager,
    leases: LeaseManager,
    redis: Redis,
    folder: Path,
) -> list[str]:
    """Have the racers finish `count` jobs, check the history of each, and return what the racers printed."""
    for start in range(0, count, 100):
        await asyncio.gather(*(jobs.create_job(f"j{n}", 1, max_attempts=5) for n in range(start, start + 100)))
    racers = [start_racer(main, url, f"w{number}", folder) for number in range(PROCESSES)]
    try:
        await run_race(racers, count, jobs, leases)
    finally:
        for racer in racers:
            racer.process.kill()
            racer.process.join()
    printed = [line for racer in racers for line in racer.printed.read_text().splitlines()]

    stats = await jobs.get_stats()
    assert stats.statuses == {**dict.fromkeys(Status, 0), Status.COMPLETED: count}
    histories = defaultdict(list)
    for partition in PARTITIONS:
        position = "-"
        while entries := await redis.xrange(partition.events, position, count=1000):
            position = f"({entries[-1][0].decode()}"
            for _, event in entries:
                histories[event[b"job_id"].decode()].append(event[b"status"].decode())
    assert len(histories) == count
    attempts = 0
    for history in histories.values():
        again = (len(history) - 3) // 2
        assert history == [*["pending", "running"] * (again + 1), "completed"]
        attempts += again + 1
    assert attempts > count, "some jobs were requeued"
    listed = (await jobs.list_jobs(JobFilter(), limit=200)).items
    assert all(job.attempt == histories[job.job_id].count("running") for job in listed)
    return printed


async def run_race(racers: list[Racer], count: int, jobs: JobStateManager, leases: LeaseManager) -> None:
    """Reap during the race, and kill some racers and stop others, each while it holds a lease."""
    victims = list(range(PROCESSES))
    random.Random(5).shuffle(victims)
    killed, stopped = victims[:KILLED], victims[KILLED : KILLED + STOPPED]
    await until(jobs, count // 10, leases)
    for number in stopped:
        await catch(racers[number], signal.SIGSTOP, jobs)
    for number in killed:
        await catch(racers[number], signal.SIGKILL, jobs)
    await until(jobs, count, leases, at_least=LEASE + 1)
    for number in stopped:
        racers[number].send_signal(signal.SIGCONT)
    for number, racer in enumerate(racers):
        if number not in killed:
            await asyncio.to_thread(racer.process.join, TIMEOUT)


async def until(jobs: JobStateManager, completed: int, leases: LeaseManager, at_least: float = 0.0) -> None:
    """Reap until this many jobs are completed, and for at least this many seconds."""
    started, done = time.monotonic(), 0
    while done < completed or time.monotonic() - started < at_least:
        assert time.monotonic() - started < TIMEOUT
        with suppress(StoreUnavailable):  # the racers may starve this process for seconds
            await leases.reap()
            done = (await jobs.get_stats()).statuses[Status.COMPLETED]
        await asyncio.sleep(0.05)


async def catch(racer: Racer, number: signal.Signals, jobs: JobStateManager) -> None:
    """Send a signal to a racer while it holds a lease."""
    while True:
        racer.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.02)
        with suppress(StoreUnavailable):
            running = (await jobs.list_jobs(JobFilter(status=Status.RUNNING), limit=200)).items
            if any(job.worker == racer.name for job in running):
                break
        racer.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.005)
    racer.send_signal(number)
