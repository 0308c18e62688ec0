"""Counts while many jobs have expired that no sweep has removed yet."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from benchmarks import expiry
from benchmarks.report import Report
from service.domain.errors import StoreReadOnly, StoreTimeout
from service.domain.states import Status
from service.store import job_counts, sweep
from service.store.job_counts import MAX_EXPIRED_COUNT
from service.store.partition import STATUS_OF_STATE
from service.store.pool import create_pool
from tests.helpers.consistency import inconsistencies
from tests.helpers.partitions import PARTITIONS
from tests.helpers.redis_servers import RedisServer
from tests.helpers.store_operations import Store

#: The states of jobs, in several queues.
PLACES = tuple(itertools.product(("q1", "q2", "q3"), STATUS_OF_STATE))


async def create_many(store: Store, prefix: str, count: int) -> list[str]:
    """Create jobs in all states and queues. All are in one partition, because each counts its expired jobs."""
    names = (f"{prefix}-{number}" for number in itertools.count())
    in_first = (name for name in names if PARTITIONS.of(name) is PARTITIONS.first)
    places = [(name, *place) for name, place in zip(itertools.islice(in_first, count), itertools.cycle(PLACES))]
    # A claim gets the oldest job of a queue.
    queues = [f"{queue}-{name}" if state == "running" else queue for name, queue, state in places]
    slots = asyncio.Semaphore(50)

    async def create(name: str, state: str, queue: str) -> None:
        async with slots:
            await store.bring_to(state, name, queue=queue)

    await asyncio.gather(*(create(name, state, queue) for (name, _, state), queue in zip(places, queues, strict=True)))
    return [name for name, _, _ in places]


async def count_records(redis: Redis) -> dict[Status, int]:
    """Return the counts that are right: those of the records."""
    names = [name async for name in redis.scan_iter(match="*job:*", count=1000)]
    counted = Counter([(await redis.hget(name, "status") or b"").decode() for name in names])
    return {status: counted[status] for status in Status}


async def expire_many(store: Store, names: list[str]) -> None:
    if names:
        await store.expire(*names)


@pytest.mark.parametrize("expired", [0, 1, MAX_EXPIRED_COUNT - 1, MAX_EXPIRED_COUNT, MAX_EXPIRED_COUNT + 1, 1200])
async def test_counts_are_exact_before_and_during_the_sweep(store: Store, expired: int) -> None:
    await create_many(store, "alive", len(PLACES))
    await expire_many(store, await create_many(store, "expired", expired))
    right, running = await count_records(store.redis), len(PLACES) * 2 // len(STATUS_OF_STATE)

    calls = [store.jobs.get_stats() for _ in range(10)]
    _, *several = await asyncio.gather(store.jobs.sweep() if expired > 1000 else asyncio.sleep(0), *calls)

    for stats in (*several, await store.jobs.get_stats()):
        assert stats.statuses == right
        assert (stats.running.leased, stats.running.unleased) == (running // 2, running // 2)
        assert stats.delayed == len(PLACES) // len(STATUS_OF_STATE)
    assert await store.jobs.get_running_job_count() == right[Status.RUNNING]
    assert (await store.queues.get_drain()).running == right[Status.RUNNING]
    unswept = await store.redis.zcount(PARTITIONS.first.by_expiry, "-inf", await store.now())
    assert unswept == (expired if expired <= MAX_EXPIRED_COUNT else 0), "a count sweeps only where it must"
    await store.jobs.sweep()
    assert await inconsistencies(store.redis) == []


@pytest.fixture
async def own_store(new_redis: Callable[..., RedisServer]) -> AsyncIterator[Store]:
    """A store on a Redis whose settings the test may change."""
    pool = create_pool(f"redis://127.0.0.1:{new_redis().port}/0")
    own_store = Store(pool, Redis(connection_pool=pool))
    yield own_store
    await own_store.client.aclose()
    await pool.disconnect()


async def refuse_writes_of_a_replica(redis: Redis, refuse: bool) -> None:
    await redis.replicaof(*(("127.0.0.1", "1") if refuse else ("NO", "ONE")))


async def refuse_writes_without_replicas(redis: Redis, refuse: bool) -> None:
    await redis.config_set("min-replicas-to-write", int(refuse))


@pytest.mark.parametrize("refuse_writes", [refuse_writes_of_a_replica, refuse_writes_without_replicas])
async def test_counts_answer_where_writes_are_refused(
    own_store: Store, refuse_writes: Callable[[Redis, bool], Awaitable[None]]
) -> None:
    redis = own_store.redis
    await create_many(own_store, "alive", len(PLACES))
    first, *others = await create_many(own_store, "expired", MAX_EXPIRED_COUNT + 1)
    await own_store.expire(*others)
    right = await count_records(redis)

    await refuse_writes(redis, True)
    assert (await own_store.jobs.get_stats()).statuses == right

    await refuse_writes(redis, False)
    await own_store.expire(first)
    right = await count_records(redis)
    await refuse_writes(redis, True)
    with pytest.raises(StoreReadOnly):
        await own_store.jobs.get_stats()

    await refuse_writes(redis, False)
    assert (await own_store.jobs.get_stats()).statuses == right


async def test_a_count_that_would_take_too_long_is_refused_and_not_wrong(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await expire_many(store, await create_many(store, "expired", MAX_EXPIRED_COUNT + 100))
    monkeypatch.setattr(sweep, "SWEEP_BATCH", 1)
    monkeypatch.setattr(job_counts, "REQUEST_TIMEOUT", 0.0)

    with pytest.raises(StoreTimeout, match="expired at once"):
        await store.jobs.get_stats()

    monkeypatch.undo()
    assert sum((await store.jobs.get_stats()).statuses.values()) == 0


def test_the_benchmark_sees_no_wrong_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # The commands inside scripts are logged too. All of them would fill the log and drop the sweeps, which are few.
    for name, value in {"EXPIRING": 150, "STAYING": 10, "BEFORE": 0.5, "AFTER": 1.5, "LOGGED": 20}.items():
        monkeypatch.setattr(expiry, name, value)
    report = Report()
    report.section("Expiry")

    expiry.measure(1, report)

    scripts, calls = report.tables
    assert {"sweep", "count", "create"} <= {row[0] for row in scripts.rows}
    assert calls.value("count", "p99 after") > 0
    assert "and 0 were wrong" in capsys.readouterr().out
