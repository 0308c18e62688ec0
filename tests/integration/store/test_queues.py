"""Settings of queues, and drains."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain import errors
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, connect, key_names
from tests.integration.store.test_leases import claimed

#: The one whose settings count.
PARTITION = PARTITIONS.first

#: Values of a queue's field that no script writes.
UNREADABLE = ("yes", "2:5", "1", "0:x", "")


async def store_settings(redis: Redis, **settings: str | bytes) -> None:
    """Write the fields of queues in all partitions."""
    for partition in PARTITIONS:
        await redis.hset(partition.queues, mapping=dict(settings))


async def test_a_drain_that_is_too_short_is_rejected_by_field(queues: QueueManager) -> None:
    with pytest.raises(errors.InvalidValue) as error:
        await queues.start_drain(0)
    assert error.value.field == "seconds"


@pytest.mark.corrupts_keys
async def test_settings_and_drains_write_nothing_if_the_event_stream_has_another_type(
    queues: QueueManager, redis: Redis
) -> None:
    await redis.set(PARTITION.events, "foreign")
    for call in (queues.configure_queue("default", paused=True), queues.start_drain(60)):
        with pytest.raises(errors.StoreCorrupt, match=PARTITION.events):
            await call
    assert await key_names(redis) == {PARTITION.events}


async def test_a_paused_queue_gives_no_jobs(jobs: JobStateManager, leases: LeaseManager, queues: QueueManager) -> None:
    await jobs.create_job("p", 1, queue="paused")
    await jobs.create_job("o", 1, queue="open")
    assert (await queues.configure_queue("paused", paused=True)).paused
    assert (await claimed(leases, "paused", "open")).job.job_id == "o"
    assert await leases.claim_job(["paused", "open"], "w") is None
    await queues.configure_queue("paused", paused=False)
    assert (await claimed(leases, "paused")).job.job_id == "p"


async def test_a_queue_runs_at_most_max_running_jobs(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    for number in range(4):
        await jobs.create_job(f"j{number}", 1)
    await queues.configure_queue("default", max_running=2)
    claims = [await leases.claim_job(["default"], "w") for _ in range(4)]
    assert [claim is not None for claim in claims] == [True, True, False, False]
    assert claims[0]
    await leases.release_job("j0", claims[0].lease.token, delay_seconds=60)
    assert (await claimed(leases)).job.job_id == "j2"


async def test_an_expired_running_job_counts_towards_max_running_until_the_sweep(
    pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=20))
    await jobs.create_job("expired", 1)
    await short_lived.update_job_status("expired", "running")
    await jobs.create_job("live", 1)
    await queues.configure_queue("default", max_running=1)
    await asyncio.sleep(0.05)
    assert await leases.claim_job(["default"], "w") is None
    assert await jobs.sweep() == 1
    assert (await claimed(leases)).job.job_id == "live"


async def test_queues_are_listed_with_settings_and_counts(jobs: JobStateManager, queues: QueueManager) -> None:
    await jobs.create_job("j", 1, queue="b")
    await queues.configure_queue("a", max_running=3)
    await queues.configure_queue("b", paused=True)
    listed = [
        (queue.queue, queue.paused, queue.max_running, queue.statuses[Status.PENDING])
        for queue in await queues.get_queues()
    ]
    assert listed == [("a", False, 3, 0), ("b", True, None, 1)]
    await queues.configure_queue("a", max_running=None)
    assert [queue.queue for queue in await queues.get_queues()] == ["b"]


async def test_a_setting_that_is_left_out_keeps_its_value(queues: QueueManager) -> None:
    async def configured(**settings: Any) -> tuple[bool, int | None]:
        queue = await queues.configure_queue("q", **settings)
        assert [queue] == await queues.get_queues()
        return queue.paused, queue.max_running

    assert await configured(max_running=3) == (False, 3)
    assert await configured(paused=True) == (True, 3)
    assert await configured() == (True, 3)
    assert await configured(max_running=4) == (True, 4)
    assert await configured(paused=None) == (False, 4)
    assert await configured(paused=True) == (True, 4)
    assert await configured(max_running=None) == (True, None)
    assert await configured(paused=True, max_running=2) == (True, 2)


async def test_a_queue_with_default_settings_leaves_no_key(queues: QueueManager, redis: Redis) -> None:
    await queues.configure_queue("q", paused=True, max_running=3)
    queue = await queues.configure_queue("q", paused=None, max_running=None)

    assert (queue.paused, queue.max_running) == (False, None)
    assert await redis.exists(PARTITION.queues) == 0


@pytest.mark.parametrize("settings", [{}, {"paused": True}, {"max_running": 3}, {"paused": True, "max_running": 3}])
async def test_a_request_that_changes_no_setting_writes_nothing(
    queues: QueueManager, redis: Redis, settings: dict[str, Any]
) -> None:
    await queues.configure_queue("q", paused=True, max_running=3)
    events = await redis.xlen(PARTITION.events)

    queue = await queues.configure_queue("q", **settings)
    await queues.configure_queue("new")

    assert (queue.paused, queue.max_running) == (True, 3)
    assert await redis.xlen(PARTITION.events) == events
    assert await redis.hgetall(PARTITION.queues) == {b"q": b"1:3"}


async def test_concurrent_changes_of_different_settings_are_all_kept(queues: QueueManager) -> None:
    for number in range(50):
        name = f"q{number}"
        await asyncio.gather(
            queues.configure_queue(name, paused=True), queues.configure_queue(name, max_running=number + 1)
        )

    settings = {queue.queue: (queue.paused, queue.max_running) for queue in await queues.get_queues()}
    assert settings == {f"q{number}": (True, number + 1) for number in range(50)}


@pytest.mark.parametrize("stored", UNREADABLE)
async def test_unreadable_settings_keep_the_queue_paused_until_it_is_resumed(
    queues: QueueManager, redis: Redis, stored: str
) -> None:
    await store_settings(redis, q=stored, r=stored)

    queue = await queues.configure_queue("q", max_running=4)
    await queues.configure_queue("r")

    assert (queue.paused, queue.max_running) == (True, 4)
    assert [await redis.hgetall(one.queues) for one in PARTITIONS] == [{b"q": b"1:4", b"r": b"1:"}] * len(PARTITIONS)
    assert (await queues.configure_queue("r", paused=False)).paused is False
    assert [await redis.hgetall(one.queues) for one in PARTITIONS] == [{b"q": b"1:4"}] * len(PARTITIONS)


@pytest.mark.parametrize(
    ("stored", "max_running"),
    [
        *((value, 5 if value == "2:5" else None) for value in UNREADABLE),
        *(("0:0", None), ("1:", None), ("1:7", 7), ("9:7", 7), (b"\xff:", None), (b"\xff:1", None)),
    ],
)
async def test_a_queue_from_which_claims_get_nothing_is_listed_as_paused(
    jobs: JobStateManager,
    leases: LeaseManager,
    queues: QueueManager,
    redis: Redis,
    stored: str | bytes,
    max_running: int | None,
) -> None:
    await jobs.create_job("j", 1, queue="q")
    await store_settings(redis, q=stored)

    [queue] = await queues.get_queues()

    assert await leases.claim_job(["q"], "w") is None
    assert (queue.paused, queue.max_running, queue.statuses[Status.PENDING]) == (True, max_running, 1)
    await redis.delete(*(partition.queues for partition in PARTITIONS))


@pytest.mark.parametrize("claim_key", [None, "k"])
@pytest.mark.parametrize(("stored", "max_running"), [("0:", None), ("0:3", 3), ("0:" + "9" * 5000, None)])
async def test_a_queue_from_which_claims_get_jobs_is_not_listed_as_paused(
    jobs: JobStateManager,
    leases: LeaseManager,
    queues: QueueManager,
    redis: Redis,
    stored: str,
    max_running: int | None,
    claim_key: str | None,
) -> None:
    await jobs.create_job("j", 1, queue="q")
    await store_settings(redis, q=stored)

    [queue] = await queues.get_queues()

    assert await leases.claim_job(["q"], "w", claim_key=claim_key)
    assert (queue.paused, queue.max_running) == (False, max_running)


@pytest.mark.corrupts_keys
async def test_a_settings_key_of_another_type_is_not_overwritten(queues: QueueManager, redis: Redis) -> None:
    await redis.set(PARTITION.queues, "foreign")
    with pytest.raises(errors.StoreCorrupt, match=PARTITION.queues):
        await queues.configure_queue("q", paused=True)
    assert await key_names(redis) == {PARTITION.queues}


async def test_a_drain_stops_creations_and_claims_and_nothing_else(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    claim = await claimed(leases)

    drain = await queues.start_drain(60)

    assert (drain.draining, drain.running, drain.leased, drain.safe_to_stop) == (True, 1, 1, False)
    assert drain.oldest
    assert drain.oldest.job_id == "a"
    for call in (jobs.create_job("c", 1), leases.claim_job(["default"], "w")):
        with pytest.raises(errors.Draining) as draining:
            await call
        assert 0 < draining.value.retry_after <= 60
        assert str(draining.value).startswith("Jobs cannot be created or claimed during a drain.")
    assert (await jobs.create_job("b", 1)).replayed
    await leases.heartbeat("a", claim.lease.token)
    await jobs.update_job_status("a", "completed", lease_token=claim.lease.token)
    events = await redis.xlen(PARTITION.events)
    assert (await queues.get_drain()).safe_to_stop
    assert await redis.xlen(PARTITION.events) == events, "reading the drain writes no event"
    assert not (await queues.end_drain()).draining
    await jobs.create_job("c", 1)

    await queues.start_drain(1)
    await asyncio.sleep(1.05)
    assert not (await queues.get_drain()).draining, "it ends after its seconds"


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("end", ["odd", "", "-1"])
async def test_an_end_of_a_drain_that_is_no_number_is_no_drain(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis, end: str
) -> None:
    for partition in PARTITIONS:
        await redis.hset(partition.meta, "drain", end)
    assert not (await queues.get_drain()).draining
    await jobs.create_job("a", 1)
    assert await leases.claim_job(["default"], "w")
