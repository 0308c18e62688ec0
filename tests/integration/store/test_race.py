"""Many processes compete for many jobs while some are killed or stopped; events show which one got which job."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis

from service.domain.errors import StoreUnavailable
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.claim_racer import LEASE
from tests.helpers.partitions import PARTITIONS
from tests.helpers.service_process import Service

PROCESSES = 16
#: How many of the processes are killed, and how many are stopped for longer than a lease.
KILLED = 4
STOPPED = 4
TIMEOUT = 120

Racer = subprocess.Popen[bytes]


def start_racer(program: str, url: str, name: str) -> Racer:
    return subprocess.Popen([sys.executable, "-m", f"tests.helpers.{program}", url, name], stdout=subprocess.PIPE)


async def test_sixteen_processes_get_each_of_5000_jobs_once_while_some_are_killed_or_stopped(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, store_url: str
) -> None:
    lost = await race("claim_racer", store_url, 5000, jobs, leases, redis)
    assert lost, "a stopped worker got a lease-lost error"


async def test_sixteen_workers_over_http_run_each_of_500_jobs_once_while_some_are_killed_or_stopped(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, store_url: str, tmp_path: Path
) -> None:
    with Service(tmp_path, REDIS_URL=store_url) as service:
        logged = await race("worker_racer", service.url, 500, jobs, leases, redis)
    assert any(b"lease-lost" in line for line in logged), "a stopped worker got a lease-lost error"


async def race(
    program: str, url: str, count: int, jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> list[bytes]:
    """Have the racers finish `count` jobs, check the history of each, and return what the racers printed."""
    for start in range(0, count, 100):
        await asyncio.gather(*(jobs.create_job(f"j{n}", 1, max_attempts=5) for n in range(start, start + 100)))
    racers = [start_racer(program, url, f"w{number}") for number in range(PROCESSES)]
    try:
        await run_race(racers, count, jobs, leases)
    finally:
        for racer in racers:
            racer.kill()
        printed = [line for racer in racers for line in racer.communicate()[0].splitlines()]

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
        await catch(racers[number], f"w{number}", signal.SIGSTOP, jobs)
    for number in killed:
        await catch(racers[number], f"w{number}", signal.SIGKILL, jobs)
    await until(jobs, count, leases, at_least=LEASE + 1)
    for number in stopped:
        racers[number].send_signal(signal.SIGCONT)
    for number, racer in enumerate(racers):
        if number not in killed:
            await asyncio.to_thread(racer.wait, TIMEOUT)


async def until(jobs: JobStateManager, completed: int, leases: LeaseManager, at_least: float = 0.0) -> None:
    """Reap until this many jobs are completed, and for at least this many seconds."""
    started, done = time.monotonic(), 0
    while done < completed or time.monotonic() - started < at_least:
        assert time.monotonic() - started < TIMEOUT
        with suppress(StoreUnavailable):  # the racers may starve this process for seconds
            await leases.reap()
            done = (await jobs.get_stats()).statuses[Status.COMPLETED]
        await asyncio.sleep(0.05)


async def catch(racer: Racer, name: str, number: signal.Signals, jobs: JobStateManager) -> None:
    """Send a signal to a racer while it holds a lease."""
    while True:
        racer.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.02)
        with suppress(StoreUnavailable):
            running = (await jobs.list_jobs(JobFilter(status=Status.RUNNING), limit=200)).items
            if any(job.worker == name for job in running):
                break
        racer.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.005)
    racer.send_signal(number)
