"""What sixteen partitions promise where one promises more: counts, settings, and claims while jobs move."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.background.sweeper import SWEEP_INTERVAL, Sweeper
from service.domain import errors
from service.domain.jobs import Claim
from service.domain.states import Status
from service.store import scripts
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from service.store.scripts import Script
from tests.helpers.partitions import connect
from tests.integration.conftest import WEEK

pytestmark = pytest.mark.partitions(16)

PARTITIONS = Partitions(16)
JOBS = 48
Run = Callable[..., Awaitable[Any]]


@contextlib.asynccontextmanager
async def during(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Repeat `work` during the block, and raise its error."""
    has_ended = False

    async def repeat() -> None:
        while not has_ended:
            await work()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(repeat())
        try:
            yield
        finally:
            has_ended = True


@pytest.fixture
def intercept(store_client: StoreClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], Run]], None]:
    """A function that replaces how the managers run their scripts."""
    run: Run = store_client.run_script
    return lambda replace: monkeypatch.setattr(store_client, "run_script", replace(run))


# Counts


async def test_counts_have_each_job_once_while_jobs_move(
    jobs: JobStateManager, leases: LeaseManager, intercept: Callable[[Callable[[Run], Run]], None]
) -> None:
    """Between the counts of two partitions jobs are claimed and released everywhere."""
    for number in range(JOBS):
        await jobs.create_job(f"j{number}", 1, queue="ab"[number % 2])
    chance, held = random.Random(7), dict[str, str]()

    def slow(run: Run) -> Run:
        async def count_late(script: Script, partition: Partition, *args: Any) -> Any:
            if script is scripts.COUNT:
                await asyncio.sleep(chance.random() / 100)
            return await run(script, partition, *args)

        return count_late

    async def move() -> None:
        if len(held) < JOBS / 2:
            claim = await leases.claim_job(["a", "b"], "w")
            assert claim is not None
            held[claim.job.job_id] = claim.lease.token
        else:
            job_id = chance.choice([*held])
            await leases.release_job(job_id, held.pop(job_id))

    intercept(slow)
    seen = set[int]()
    async with during(move):
        for _ in range(40):
            stats = await jobs.get_stats()
            assert sum(stats.statuses.values()) == JOBS
            assert stats.statuses[Status.PENDING] + stats.statuses[Status.RUNNING] == JOBS
            assert sum(itertools.chain(*(queue.values() for queue in stats.queues.values()))) == JOBS
            assert stats.running.leased + stats.running.unleased == stats.statuses[Status.RUNNING]
            seen.add(stats.statuses[Status.RUNNING])
    assert len(seen) > 1, "jobs moved"
    assert (await jobs.get_stats()).statuses[Status.RUNNING] == len(held)


async def test_a_job_that_finishes_during_a_count_is_counted_in_a_status_that_it_had(
    jobs: JobStateManager, intercept: Callable[[Callable[[Run], Run]], None]
) -> None:
    """The counts of the other partitions are of later: the jobs there have finished meanwhile."""
    ids = [f"j{number}" for number in range(JOBS)]
    for job_id in ids:
        await jobs.create_job(job_id, 1)
        await jobs.update_job_status(job_id, "running")
    counted, finished = asyncio.Event(), asyncio.Event()

    def in_two_steps(run: Run) -> Run:
        async def count(script: Script, partition: Partition, *args: Any) -> Any:
            if script is scripts.COUNT and partition.number >= 8:
                await finished.wait()
            reply = await run(script, partition, *args)
            if script is scripts.COUNT:
                counted.set()
            return reply

        return count

    intercept(in_two_steps)
    async with asyncio.timeout(20):
        counting = asyncio.create_task(jobs.get_stats())
        await counted.wait()
        await asyncio.gather(*(jobs.update_job_status(job_id, "completed") for job_id in ids))
        finished.set()
        stats = await counting
    assert stats.statuses[Status.RUNNING] + stats.statuses[Status.COMPLETED] == JOBS
    late = sum(PARTITIONS.of(job_id).number >= 8 for job_id in ids)
    assert stats.statuses[Status.COMPLETED] >= late > 0


# Settings and drains


def cut_off(after: int) -> Callable[[Run], Run]:
    """Make changes of settings fail once `after` partitions have them."""
    done = 0

    def replace(run: Run) -> Run:
        async def cut(script: Script, partition: Partition, *args: Any) -> Any:
            nonlocal done
            if script in {scripts.CONFIGURE_QUEUE, scripts.DRAIN}:
                done += 1
                if done > after:
                    raise errors.StoreTimeout
            return await run(script, partition, *args)

        return cut

    return replace


async def held(redis: Redis) -> list[tuple[bytes | None, bool]]:
    """Return settings of the queue `q`, and whether there is a drain, in each partition."""
    return [(await redis.hget(one.queues, "q"), await redis.hget(one.meta, "drain") is not None) for one in PARTITIONS]


@pytest.mark.parametrize("after", [0, 1, 5, 16])
async def test_a_change_of_settings_that_is_answered_is_in_force_everywhere_and_one_that_is_cut_off_soon(
    after: int,
    queues: QueueManager,
    pool: BlockingConnectionPool,
    redis: Redis,
) -> None:
    """The sweeper of any process gives all partitions what the first one has."""
    other = connect(pool, partitions=16)
    sweeper = Sweeper(JobStateManager(other, ttl=WEEK), QueueManager(other))
    assert SWEEP_INTERVAL.total_seconds() <= 5
    for change in (
        lambda: queues.configure_queue("q", paused=True, max_running=3),
        lambda: queues.start_drain(60),
        lambda: queues.end_drain(),
    ):
        before = await held(redis)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queues._client, "run_script", cut_off(after)(queues._client.run_script))
            with contextlib.nullcontext() if after == 16 else pytest.raises(errors.StoreTimeout):
                await change()
        found = await held(redis)
        if after == 16:
            assert len({*found}) == 1
        if after == 0:
            assert found == before
        else:
            assert found[0] != before[0], "the first partition has it"
        await sweeper.run_once()
        assert await held(redis) == [found[0]] * 16


async def test_a_drain_that_is_answered_stops_creations_and_claims_of_other_processes_everywhere(
    jobs: JobStateManager, queues: QueueManager, pool: BlockingConnectionPool
) -> None:
    other = connect(pool, partitions=16)
    created, leases = JobStateManager(other, ttl=WEEK), LeaseManager(other, ttl=WEEK)
    numbers, is_on, accepted_late = itertools.count(), False, list[str]()

    async def work() -> None:
        started_late, job_id = is_on, f"j{next(numbers)}"
        with contextlib.suppress(errors.Draining):
            await created.create_job(job_id, 1)
            await leases.claim_job(["default"], "w")
            accepted_late.extend([job_id] * started_late)

    async with contextlib.AsyncExitStack() as workers:
        for _ in range(8):
            await workers.enter_async_context(during(work))
        for _ in range(5):
            await asyncio.sleep(0.02)
            await queues.start_drain(60)
            is_on = True
            await asyncio.sleep(0.02)
            is_on = False
            await queues.end_drain()
    assert next(numbers) > 50
    assert accepted_late == []


# Claims


async def test_batches_of_many_claims_at_once_have_jobs_near_the_oldest_each_oldest_first(
    jobs: JobStateManager, pool: BlockingConnectionPool
) -> None:
    """Claims of four processes meet at the same heads; what they took together is what is oldest, but for a few."""
    created = [f"j{number}" for number in range(600)]
    for job_id in created:
        await jobs.create_job(job_id, 1)
    processes = [LeaseManager(connect(pool, partitions=16), ttl=WEEK) for _ in range(4)]

    batches: list[list[Claim]] = await asyncio.gather(
        *(processes[number % 4].claim_jobs(["default"], f"w{number}", max_jobs=10) for number in range(16))
    )

    places = [[created.index(claim.job.job_id) for claim in batch] for batch in batches]
    assert all(batch == sorted(batch) for batch in places)
    taken = [*itertools.chain(*places)]
    assert (len(taken), len({*taken})) == (160, 160), "each got its ten jobs, and none was given twice"
    assert min(taken) == 0
    assert max(taken) < 2 * 160
