"""An id that is created again before the sweep has seen that its first job has expired."""

import pytest
from redis.asyncio import ConnectionPool

from service.domain.errors import StoreCorrupt
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.partition import RUNNING_STATES, STATUS_OF_STATE
from tests.helpers.consistency import doctor_issues, inconsistencies
from tests.helpers.partitions import PARTITIONS, job_key
from tests.helpers.store_operations import Store, make_foreign


async def recreate(store: Store, old: str, new: str, queue: str) -> None:
    """Let a job `a` of `q` expire in state `old`, and create it again in state `new`; `other` stays."""
    await store.redis.flushdb()
    store.tokens.clear()
    await store.bring_to("cancelled", "other", queue="q")
    await store.bring_to(old, "a", queue="q")
    await store.expire("a")
    await store.bring_to(new, "a", queue=queue)


async def assert_counted_and_listed_once(store: Store, state: str, queue: str) -> None:
    stats, expected = await store.jobs.get_stats(), dict.fromkeys(Status, 0)
    expected[Status.CANCELLED] += 1
    expected[STATUS_OF_STATE[state]] += 1
    assert stats.statuses == expected
    assert {name: sum(counts.values()) for name, counts in stats.queues.items()} == (
        {"q": 2} if queue == "q" else {"q": 1, queue: 1}
    )
    assert stats.delayed == (state == "delayed")
    assert (stats.running.leased, stats.running.unleased) == (state == "running", state == "unleased")
    assert await store.jobs.get_running_job_count() == (state in RUNNING_STATES)
    for filters in (JobFilter(), JobFilter(slate_id="s"), JobFilter(correlation_id="c")):
        assert [job.job_id for job in (await store.jobs.list_jobs(filters)).items] == ["a", "other"], filters
    listed = (await store.jobs.list_jobs(JobFilter(queue=queue, status=STATUS_OF_STATE[state]))).items
    assert [job.job_id for job in listed if job.job_id == "a"] == ["a"]


@pytest.mark.parametrize("queue", ["q", "r"])
@pytest.mark.parametrize("old", STATUS_OF_STATE)
async def test_a_job_with_the_id_of_an_expired_one_keeps_all_its_entries(
    old: str, queue: str, store: Store, pool: ConnectionPool
) -> None:
    for new in STATUS_OF_STATE:
        await recreate(store, old, new, queue)
        created = (await store.redis.hget(job_key("a"), "created_at") or b"").decode()

        await assert_counted_and_listed_once(store, new, queue)
        assert await doctor_issues(pool) == []

        assert await store.jobs.sweep() == 1
        assert await inconsistencies(store.redis) == [], new
        await assert_counted_and_listed_once(store, new, queue)
        [(_, event)] = await store.redis.xrevrange(PARTITIONS.of("a").events, count=1)
        assert (event[b"event"], event[b"job_id"], event[b"queue"]) == (b"expired", b"a", b"q")

        assert await store.jobs.sweep() == 0
        job = await store.jobs.get_job("a")
        assert job is not None
        assert (job.created_at, job.status) == (created, STATUS_OF_STATE[new])
        if new == "running":
            await store.leases.heartbeat("a", store.tokens["a"])


@pytest.mark.parametrize("old", STATUS_OF_STATE)
async def test_the_next_changes_of_such_a_job_are_right_before_the_sweep(old: str, store: Store) -> None:
    for new in ("pending", "running"):
        await recreate(store, old, new, "q")

        if new == "running":
            await store.leases.release_job("a", store.tokens["a"], delay_seconds=60)
            await assert_counted_and_listed_once(store, "delayed", "q")
        await store.jobs.cancel_job("a")
        await store.jobs.delete_job("a")

        stats = await store.jobs.get_stats()
        assert sum(stats.statuses.values()) == 1
        await store.jobs.sweep()
        assert await inconsistencies(store.redis) == []


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("old", STATUS_OF_STATE)
async def test_a_creation_that_is_taken_back_leaves_what_the_sweep_can_remove(
    old: str, store: Store, pool: ConnectionPool
) -> None:
    await store.bring_to("cancelled", "other", queue="q")
    await store.bring_to(old, "a", queue="q")
    await store.expire("a")
    events = await store.redis.dump(PARTITIONS.of("a").events)
    await make_foreign(store.redis, PARTITIONS.of("a").events, "stream")

    for options in ({}, {"delay_seconds": 60}):
        with pytest.raises(StoreCorrupt):
            await store.create("a", queue="q", **options)

    await store.redis.restore(PARTITIONS.of("a").events, 0, events, replace=True)
    assert sum((await store.jobs.get_stats()).statuses.values()) == 1
    assert await store.jobs.sweep() == 1
    assert await inconsistencies(store.redis) == []


async def test_a_lease_of_an_expired_job_is_not_that_of_the_next_one(store: Store) -> None:
    """The next job of the id runs without a lease, in the place of the first one in the list."""
    await store.lease("a", queue="q")
    await store.expire("a")
    await store.bring_to("unleased", "a", queue="q")

    await store.jobs.sweep()

    assert await store.redis.zcard(PARTITIONS.of("a").leases) == 0
    assert await store.jobs.get_running_job_count(leased=False) == 1
