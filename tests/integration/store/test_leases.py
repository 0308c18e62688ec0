"""Claims, heartbeats, releases and the reaper."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import chain, count
from typing import Any

import msgspec
import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from structlog.testing import capture_logs

from service.domain import errors
from service.domain.jobs import Claim, Job, Progress
from service.domain.states import Status
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LEASE_EXPIRED, REAP_BATCH, LeaseManager
from service.store.observer import NullObserver
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, connect, job_key, only_one_partition
from tests.integration.store.test_random_histories import expire_lease


async def claimed(leases: LeaseManager, *queues: str, worker: str = "w") -> Claim:
    claim = await leases.claim_job(queues or ["default"], worker)
    assert claim
    return claim


async def record(jobs: JobStateManager, job_id: str) -> Job:
    job = await jobs.get_job(job_id)
    assert job
    return job


async def end_delay(redis: Redis, job_id: str, queue: str = "default") -> None:
    """Make the delay of a job be over since a second ago."""
    seconds, _ = await redis.time()
    past = (seconds - 1) * 1_000_000
    await redis.hset(job_key(job_id), "available_at", format_timestamp(past))
    await redis.zadd(PARTITIONS.of(job_id).delays, {f"{queue}:{job_id}": past})


async def count_events(redis: Redis) -> int:
    return sum([await redis.xlen(partition.events) for partition in PARTITIONS])


async def now(redis: Redis) -> str:
    seconds, micros = await redis.time()
    return format_timestamp(seconds * 1_000_000 + micros)


async def test_a_claim_gives_the_oldest_job_of_its_queues(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id, queue in (("x", "other"), ("b1", "b"), ("a1", "a"), ("b2", "b")):
        await jobs.create_job(job_id, 1, queue=queue)

    claimed_ids = [(await claimed(leases, "a", "b")).job.job_id for _ in range(3)]

    assert claimed_ids == ["b1", "a1", "b2"]
    assert await leases.claim_job(["a", "b", "none"], "w") is None


async def test_a_claimed_job_is_running_under_a_lease(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    created = (await jobs.create_job("j", {"a": 1}, "c", slate_id="s")).job
    before = await now(redis)
    claim = await leases.claim_job(["default"], "w-1", lease_seconds=60)
    assert claim
    job = claim.job
    assert (job.status, job.attempt, job.revision, job.worker, job.lease_seconds) == (Status.RUNNING, 1, 2, "w-1", 60)
    assert (job.correlation_id, job.input_params, job.created_at) == ("c", created.input_params, created.created_at)
    assert job.lease_expires_at == claim.lease.expires_at > before
    assert job == await record(jobs, "j")
    assert await jobs.get_running_job_count(leased=True) == 1


async def test_a_delayed_job_is_claimed_once_its_delay_is_over(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("later", 1, delay_seconds=1)
    await jobs.create_job("now", 1)
    assert (await claimed(leases)).job.job_id == "now"
    assert await leases.claim_job(["default"], "w") is None
    await asyncio.sleep(1.1)
    assert (await claimed(leases)).job.job_id == "later"


async def test_claims_skip_expired_jobs(
    pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=20))
    for number in range(7):
        await short_lived.create_job(f"expired-{number}", 1)
    await short_lived.create_job("expired-later", 1, delay_seconds=1)
    await jobs.create_job("there", 1)
    await asyncio.sleep(1.1)
    assert (await claimed(leases)).job.job_id == "there"


async def test_a_running_job_in_the_index_of_pending_jobs_is_not_claimed_again(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    job = (await jobs.create_job("j", 1)).job
    await claimed(leases)
    stray = {"j": parse_timestamp(job.created_at)}
    await redis.zadd(PARTITIONS.of("j").by_created("default", "pending"), stray)

    assert await leases.claim_job(["default"], "w") is None
    assert (await record(jobs, "j")).attempt == 1
    await redis.zrem(PARTITIONS.of("j").by_created("default", "pending"), "j")


async def test_an_unknown_state_or_queue_in_the_indexes_does_not_affect_counts(
    jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await redis.zadd(PARTITIONS.first.by_created("default", "odd"), {"another": 1})
    await redis.sadd(PARTITIONS.first.queue_names, "none", "odd:name")

    stats = await jobs.get_stats()

    assert stats.statuses == {**dict.fromkeys(Status, 0), Status.PENDING: 1}
    assert list(stats.queues) == ["default"]
    await redis.delete(PARTITIONS.first.by_created("default", "odd"))
    await redis.srem(PARTITIONS.first.queue_names, "none", "odd:name")


@pytest.mark.corrupts_keys
async def test_a_key_of_unexpected_type_at_the_head_of_a_queue_is_skipped_by_claims(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id in ("foreign", "there"):
        await jobs.create_job(job_id, 1)
    await redis.delete(job_key("foreign"))
    await redis.set(job_key("foreign"), "foreign")

    with capture_logs() as log:
        assert (await claimed(leases)).job.job_id == "there"
        assert await leases.claim_job(["default"], "w") is None

    assert [(line["log_level"], line["job_ids"]) for line in log] == [("error", ["foreign"])], "once"
    assert job_key("foreign") in log[0]["errors"][0]
    assert await redis.get(job_key("foreign")) == b"foreign"


@pytest.mark.corrupts_keys
async def test_entries_of_the_delay_index_without_a_delayed_job_are_removed(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("there", 1)
    await jobs.create_job("claimed", 1, queue="claimed")
    await claimed(leases, "claimed")
    await jobs.create_job("later", 1, queue="later", delay_seconds=3600)
    await redis.hset(job_key("foreign"), "status", "pending")
    for member in ("default:foreign", "claimed:claimed", "another:later"):
        await redis.zadd(PARTITIONS.of(member.split(":")[1]).delays, {member: 1})

    assert (await claimed(leases)).job.job_id == "there"

    assert await leases.claim_job(["claimed", "later"], "w") is None
    left = [await redis.zrange(partition.delays, 0, -1) for partition in PARTITIONS]
    assert sorted(chain.from_iterable(left)) == [b"default:foreign", b"later:later"], "foreign entries stay"


async def test_a_retried_claim_gets_the_same_job_and_lease(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    first, again = [await leases.claim_job(["default"], "w", claim_key="k") for _ in range(2)]
    assert first == again
    assert first

    await jobs.update_job_status("a", "completed", lease_token=first.lease.token)
    third = await leases.claim_job(["default"], "w", claim_key="k")
    assert third
    assert third.job.job_id == "b", "the old lease has expired, so this is a new claim"


@pytest.mark.parametrize(
    ("queues", "worker", "lease_seconds"),
    [
        (["default", "other"], "another", 30),
        (["default", "other"], "w", 31),
        (["default"], "w", 30),
        (["default", "another"], "w", 30),
        (["default", "other", "third"], "w", 30),
    ],
)
async def test_a_claim_with_a_reused_key_and_other_content_is_rejected(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, queues: list[str], worker: str, lease_seconds: int
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    first = await leases.claim_job(["default", "other"], "w", claim_key="k")
    assert first
    events = await count_events(redis)

    with pytest.raises(errors.IdempotencyKeyReused):
        await leases.claim_job(queues, worker, lease_seconds=lease_seconds, claim_key="k")

    assert await count_events(redis) == events
    assert await leases.claim_job(["default", "other"], "w", claim_key="k") == first


async def test_a_reused_claim_key_is_rejected_after_its_job_has_finished(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    first = await leases.claim_job(["default"], "w", claim_key="k")
    assert first
    await jobs.update_job_status("a", "completed", lease_token=first.lease.token)
    await queues.start_drain(60)

    with pytest.raises(errors.IdempotencyKeyReused):
        await leases.claim_job(["default"], "another", claim_key="k")


async def test_the_order_of_queues_does_not_distinguish_claims(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    first = await leases.claim_job(["default", "other"], "w", claim_key="k")

    assert await leases.claim_job(["other", "default"], "w", claim_key="k") == first
    assert await leases.claim_job(["other", "default", "other"], "w", claim_key="k") == first


async def test_the_key_of_a_claim_without_a_job_can_be_reused(jobs: JobStateManager, leases: LeaseManager) -> None:
    assert await leases.claim_job(["default"], "w", claim_key="k") is None
    await jobs.create_job("j", 1)

    assert await leases.claim_job(["default"], "another", claim_key="k")


async def test_a_claim_key_can_be_reused_once_its_record_has_expired(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    await leases.claim_job(["default"], "w", claim_key="k")
    [remembered] = [name async for name in redis.scan_iter(PARTITIONS.of("a").claim("*"))]
    await redis.delete(remembered)

    other = await leases.claim_job(["default"], "another", claim_key="k")

    assert other
    assert other.job.job_id == "b"


async def test_a_retried_claim_does_not_get_the_lease_of_another_worker(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1)
    first = await leases.claim_job(["default"], "w", claim_key="k")
    assert first
    await leases.release_job("j", first.lease.token)
    await claimed(leases, worker="another")
    assert await leases.claim_job(["default"], "w", claim_key="k") is None


async def test_a_claim_retried_during_a_drain_gets_its_job(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await jobs.create_job("j", 1)
    first = await leases.claim_job(["default"], "w", claim_key="k")
    await queues.start_drain(60)
    assert await leases.claim_job(["default"], "w", claim_key="k") == first


async def test_a_claim_record_expires_soon_after_its_lease(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await leases.claim_job(["default"], "w", lease_seconds=5, claim_key="k")
    [remembered] = [name async for name in redis.scan_iter(PARTITIONS.of("j").claim("*"))]
    assert 5_000 < await redis.pttl(remembered) <= 65_000


async def test_concurrent_workers_get_each_job_once(jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(200):
        await jobs.create_job(f"j{number}", 1)

    async def drain() -> list[Claim]:
        found = []
        while claim := await leases.claim_job(["default"], "w"):
            found.append(claim)
        return found

    claims = [claim for drained in await asyncio.gather(*(drain() for _ in range(16))) for claim in drained]

    assert sorted(claim.job.job_id for claim in claims) == sorted(f"j{number}" for number in range(200))
    assert len({claim.lease.token for claim in claims}) == 200


async def test_an_update_of_a_leased_job_needs_its_token(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    before = await record(jobs, "j")
    for token in (None, "1-guess"):
        with pytest.raises(errors.LeaseLost) as error:
            await jobs.update_job_status("j", "completed", result=1, lease_token=token)
        assert (error.value.current_status, error.value.revision) == (Status.RUNNING, 2)
    assert await record(jobs, "j") == before

    done = await jobs.update_job_status("j", "completed", result=1, lease_token=claim.lease.token, change_id="end")
    assert (done.status, done.lease_expires_at, done.worker) == (Status.COMPLETED, None, "w")
    again = await jobs.update_job_status("j", "completed", result=1, lease_token=claim.lease.token, change_id="end")
    assert again == done


async def test_a_worker_that_lost_its_lease_cannot_overwrite_its_successor(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=2)
    first = await claimed(leases, worker="first")
    await expire_lease(redis, "j")
    await leases.reap()
    second = await claimed(leases, worker="second")
    assert [claim.lease.token.partition("-")[0] for claim in (first, second)] == ["1", "2"], "for fencing"
    assert (second.job.attempt, second.job.failures) == (2, 1)

    for attempt in (
        lambda: jobs.update_job_status("j", "completed", result="late", lease_token=first.lease.token),
        lambda: jobs.update_job_status("j", "running", progress=Progress(1), lease_token=first.lease.token),
        lambda: jobs.cancel_job("j", lease_token=first.lease.token),
        lambda: leases.heartbeat("j", first.lease.token),
        lambda: leases.release_job("j", first.lease.token),
    ):
        with pytest.raises(errors.LeaseLost):
            await attempt()
    await jobs.update_job_status("j", "completed", result="right", lease_token=second.lease.token)
    with pytest.raises(errors.LeaseLost):
        await jobs.update_job_status("j", "completed", result="right", lease_token=first.lease.token)
    assert bytes((await record(jobs, "j")).result or b"") == b'"right"'


async def test_a_worker_may_finish_after_its_lease_expired_if_it_was_not_reaped(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    await expire_lease(redis, "j")
    stale = await record(jobs, "j")
    assert stale.stale
    assert stale.version.endswith("-stale")
    assert await jobs.get_running_job_count(leased=True) == 0

    await leases.heartbeat("j", claim.lease.token)
    assert not (await record(jobs, "j")).stale
    await jobs.update_job_status("j", "completed", lease_token=claim.lease.token)


async def test_a_heartbeat_extends_the_lease_and_nothing_else(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    before, events = await record(jobs, "j"), await count_events(redis)

    beat = await leases.heartbeat("j", claim.lease.token, lease_seconds=600)

    after = await record(jobs, "j")
    assert after.lease_expires_at == beat.lease_expires_at > claim.lease.expires_at
    assert (after.revision, after.updated_at, after.expires_at) == (
        before.revision,
        before.updated_at,
        before.expires_at,
    )
    assert after.lease_seconds == 600
    assert await count_events(redis) == events
    assert not beat.cancel_requested
    later = await leases.heartbeat("j", claim.lease.token)
    assert later.lease_expires_at >= beat.lease_expires_at, "the default is the last duration"


async def test_progress_does_not_create_a_lease(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.update_job_status("j", "running")
    assert (await jobs.update_job_status("j", "running", progress=Progress(1))).lease_expires_at is None
    assert (await leases.reap()) == ([], None)


async def test_a_heartbeat_with_progress_may_change_the_lease_duration(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    beat = await leases.heartbeat("j", claim.lease.token, lease_seconds=600, progress=Progress(1))
    after = await record(jobs, "j")
    assert (after.lease_seconds, after.lease_expires_at) == (600, beat.lease_expires_at)


@pytest.mark.parametrize("end", [Status.PENDING, Status.COMPLETED])
async def test_a_heartbeat_after_a_release_is_rejected(
    jobs: JobStateManager, leases: LeaseManager, end: Status
) -> None:
    await jobs.create_job("j", 1)
    token = (await claimed(leases)).lease.token
    if end is Status.PENDING:
        await leases.release_job("j", token)
    else:
        await jobs.update_job_status("j", end, lease_token=token)
    with pytest.raises(errors.LeaseLost) as error:
        await leases.heartbeat("j", token)
    assert error.value.current_status is end


async def test_heartbeats_and_updates_by_the_lease_holder_store_progress(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    await leases.heartbeat("j", claim.lease.token, progress=Progress(1, 3))
    first = await record(jobs, "j")
    assert (first.progress, first.revision) == (Progress(1, 3), 3)
    await leases.heartbeat("j", claim.lease.token, progress=Progress(1, 3))
    assert (await record(jobs, "j")).revision == 3, "equal progress changes nothing"
    await asyncio.sleep(0.01)
    second = await jobs.update_job_status("j", "running", progress=Progress(2, 3), lease_token=claim.lease.token)
    assert (second.revision, second.attempt, second.started_at) == (4, 1, first.started_at)
    assert (second.lease_expires_at or "") > (first.lease_expires_at or "")


async def test_a_job_outlives_a_retention_that_is_shorter_than_its_lease(
    store_client: StoreClient, redis: Redis
) -> None:
    short_lived = timedelta(seconds=1)
    jobs, leases = JobStateManager(store_client, ttl=short_lived), LeaseManager(store_client, ttl=short_lived)
    await jobs.create_job("j", 1)
    claim = await leases.claim_job(["default"], "w", lease_seconds=5)
    assert claim
    await asyncio.sleep(1.2)
    beat = await leases.heartbeat("j", claim.lease.token)
    assert (await record(jobs, "j")).expires_at > beat.lease_expires_at


async def test_a_job_outlives_a_lease_that_a_heartbeat_extends_beyond_the_retention(
    store_client: StoreClient, redis: Redis
) -> None:
    short_lived = timedelta(seconds=120)
    jobs, leases = JobStateManager(store_client, ttl=short_lived), LeaseManager(store_client, ttl=short_lived)
    await jobs.create_job("j", 1)
    beat = await leases.heartbeat("j", (await claimed(leases)).lease.token, lease_seconds=3600)
    assert (await record(jobs, "j")).expires_at > beat.lease_expires_at
    assert await redis.pttl(job_key("j")) > 3_600_000


async def test_a_heartbeat_restarts_the_retention_when_less_than_half_is_left(
    store_client: StoreClient, jobs: JobStateManager, redis: Redis
) -> None:
    leases = LeaseManager(store_client, ttl=timedelta(days=30))
    await jobs.create_job("j", 1)
    claim = await LeaseManager(store_client, ttl=timedelta(days=7)).claim_job(["default"], "w")
    assert claim
    await leases.heartbeat("j", claim.lease.token)
    job = await record(jobs, "j")
    assert job.expires_at[:10] > format_timestamp((await redis.time())[0] * 1_000_000 + 29 * 86_400_000_000)[:10]
    assert abs(await redis.pexpiretime(job_key("j")) / 1000 - (await redis.time())[0] - 30 * 86400) < 5


async def test_cancelling_a_leased_job_requests_cancellation(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    cancelled = await jobs.cancel_job("j")
    assert (cancelled.status, cancelled.revision, cancelled.lease_expires_at) == (
        Status.RUNNING,
        3,
        claim.lease.expires_at,
    )
    assert cancelled.cancel_requested_at
    assert await jobs.cancel_job("j") == cancelled
    assert (await leases.heartbeat("j", claim.lease.token)).cancel_requested
    ended = await jobs.update_job_status("j", "cancelled", error="stopped", lease_token=claim.lease.token)
    assert (ended.status, bytes(ended.error_message or b"")) == (Status.CANCELLED, b'"stopped"')


async def test_after_a_cancel_request_the_lease_holder_may_complete_or_cancel(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1)
    first, second = await claimed(leases), await claimed(leases)
    await jobs.cancel_job("a")
    assert (await jobs.update_job_status("a", "completed", lease_token=first.lease.token)).status is Status.COMPLETED
    assert (await jobs.cancel_job("b", lease_token=second.lease.token)).status is Status.CANCELLED


async def test_a_release_makes_the_job_pending(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    released = await leases.release_job("j", claim.lease.token, change_id="r")
    assert (released.status, released.failures, released.attempt) == (Status.PENDING, 0, 1)
    assert (released.worker, released.lease_seconds, released.lease_expires_at) == (None, None, None)
    assert await leases.release_job("j", claim.lease.token, change_id="r") == released
    with pytest.raises(errors.IdempotencyKeyReused):
        await leases.release_job("j", claim.lease.token, error=1, change_id="r")
    with pytest.raises(errors.NotLeased):
        await leases.release_job("j", None)
    assert (await claimed(leases)).job.attempt == 2


async def test_a_release_without_an_error_ignores_the_retry_delay(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=3, retry_delay_seconds=1000)
    await leases.release_job("j", (await claimed(leases)).lease.token, error="x")
    await end_delay(redis, "j")
    released = await leases.release_job("j", (await claimed(leases)).lease.token)
    assert released.available_at is None
    assert (await claimed(leases)).job.attempt == 3


async def test_a_job_outlives_a_delay_that_is_longer_than_the_retention(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1)
    released = await leases.release_job("j", (await claimed(leases)).lease.token, delay_seconds=30 * 86400)
    assert released.expires_at > (released.available_at or "") > format_timestamp(0)


async def test_a_completed_job_does_not_keep_the_error_of_an_earlier_attempt(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1, max_attempts=2)
    await leases.release_job("j", (await claimed(leases)).lease.token, error="x")
    done = await jobs.update_job_status("j", "completed", lease_token=(await claimed(leases)).lease.token)
    assert (done.failures, done.error_message) == (1, None)


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["failed", "cancelled"])
async def test_a_release_that_finishes_the_job_sets_no_delay(
    jobs: JobStateManager, leases: LeaseManager, is_cancelled: bool
) -> None:
    await jobs.create_job("j", 1)
    claim = await claimed(leases)
    if is_cancelled:
        await jobs.cancel_job("j")
    ended = await leases.release_job("j", claim.lease.token, error="x", delay_seconds=3600)
    assert ended.status is (Status.CANCELLED if is_cancelled else Status.FAILED)
    assert ended.available_at is None
    assert (await jobs.get_stats()).delayed == 0


async def test_a_release_may_delay_the_next_attempt_for_more_than_an_hour(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1)
    await leases.release_job("j", (await claimed(leases)).lease.token, delay_seconds=7200)
    job = await record(jobs, "j")
    assert parse_timestamp(job.available_at or "") - parse_timestamp(job.updated_at) == 7200 * 1_000_000
    assert await leases.claim_job(["default"], "w") is None
    assert (await jobs.get_stats()).delayed == 1


async def test_failed_attempts_double_the_delay_until_the_job_has_failed(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=4, retry_delay_seconds=1000)
    delays = []
    for failures in (1, 2, 3):
        job = await leases.release_job("j", (await claimed(leases)).lease.token, error={"attempt": failures})
        assert (job.status, job.failures) == (Status.PENDING, failures)
        assert job.available_at
        delays.append(round(await redis.zscore(PARTITIONS.of("j").delays, "default:j") / 1e6 - (await redis.time())[0]))
        await end_delay(redis, "j")
    assert delays == pytest.approx([1000, 2000, 3600], abs=2), "at most an hour"
    last = await leases.release_job("j", (await claimed(leases)).lease.token, error={"attempt": 4})
    assert (last.status, last.failures, bytes(last.error_message or b"")) == (Status.FAILED, 4, b'{"attempt":4}')
    assert last.finished_at


async def test_a_release_after_a_cancel_request_cancels_the_job(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1, max_attempts=5)
    claim = await claimed(leases)
    await jobs.cancel_job("j")
    assert (await leases.release_job("j", claim.lease.token, error="x")).status is Status.CANCELLED


async def test_a_release_or_reap_after_a_cancel_request_counts_no_failure(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id in ("released", "silent"):
        await jobs.create_job(job_id, 1, max_attempts=5)
    claim, _ = await claimed(leases), await claimed(leases)
    for job_id in ("released", "silent"):
        await jobs.cancel_job(job_id)

    await leases.release_job("released", claim.lease.token, error="x")
    await expire_lease(redis, "silent")
    await leases.reap()

    for job_id in ("released", "silent"):
        job = await record(jobs, job_id)
        assert (job.status, job.failures) == (Status.CANCELLED, 0)


async def test_a_requeued_job_has_the_reason_as_error_message(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=3)
    await leases.release_job("j", (await claimed(leases)).lease.token, error="an attempt before")
    problems = []
    for status in (Status.PENDING, Status.FAILED):
        await claimed(leases)
        await expire_lease(redis, "j")
        await leases.reap()
        job = await record(jobs, "j")
        assert job.status is status
        problems.append(msgspec.json.decode(job.error_message or b""))
    assert {problem["type"] for problem in problems} == {"urn:jobstate:problem:lease-expired"}
    assert ["attempts left" in problem["detail"] for problem in problems] == [True, True]
    assert ["no attempts left" in problem["detail"] for problem in problems] == [False, True]


async def test_the_reaper_ends_only_expired_leases(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    await jobs.create_job("retried", 1, max_attempts=2)
    await jobs.create_job("failed", 1)
    await jobs.create_job("cancelled", 1, max_attempts=2)
    await jobs.create_job("alive", 1)
    await jobs.create_job("plain", 1)
    for _ in range(4):
        await claimed(leases)
    await jobs.update_job_status("plain", "running")
    await jobs.cancel_job("cancelled")
    for job_id in ("retried", "failed", "cancelled", "plain"):
        await expire_lease(redis, job_id)

    reaped, following = await leases.reap()

    assert {one.job_id: one.status for one in reaped} == {
        "retried": Status.PENDING,
        "failed": Status.FAILED,
        "cancelled": Status.CANCELLED,
    }
    assert following is not None
    assert 0 < following <= 30
    assert bytes((await record(jobs, "failed")).error_message or b"") == bytes(LEASE_EXPIRED)
    assert [(await record(jobs, name)).status for name in ("alive", "plain")] == [Status.RUNNING] * 2
    assert (await leases.reap())[0] == []


async def test_a_worker_whose_lease_was_reaped_cannot_finish_the_pending_job(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=2)
    token = (await claimed(leases)).lease.token
    await expire_lease(redis, "j")
    await leases.reap()
    for status in (Status.COMPLETED, Status.FAILED):
        with pytest.raises(errors.LeaseLost):
            await jobs.update_job_status("j", status, lease_token=token)
    assert (await record(jobs, "j")).status is Status.PENDING


@pytest.mark.corrupts_keys
async def test_wrong_entries_do_not_stop_the_reaper(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    for job_id in ("alive", "over"):
        await jobs.create_job(job_id, 1)
        await claimed(leases)
    await jobs.create_job("plain", 1)
    await redis.hset(job_key("foreign"), "status", "running")
    await expire_lease(redis, "over")
    for job_id in ("foreign", "plain", "alive"):
        await redis.zadd(PARTITIONS.of(job_id).leases, {job_id: 1})

    reaped, following = await leases.reap()

    assert [job.job_id for job in reaped] == ["over"]
    assert following is not None
    assert following > 20
    left = [await redis.zrange(partition.leases, 0, -1) for partition in PARTITIONS]
    assert set(chain.from_iterable(left)) == {b"alive", b"foreign"}, "foreign entries stay"


@only_one_partition
async def test_the_reaper_works_in_batches_and_skips_deleted_jobs(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for number in range(REAP_BATCH + 5):
        await jobs.create_job(f"j{number}", 1)
        await claimed(leases)
        await expire_lease(redis, f"j{number}")
    await redis.zadd(PARTITIONS.first.leases, {"nobody": 1})

    batches = [await leases.reap() for _ in range(2)]

    assert [(len(reaped), following) for reaped, following in batches] == [(REAP_BATCH - 1, 0.0), (6, None)]


@only_one_partition
async def test_a_failed_batch_does_not_hide_the_previous_one_from_the_observer(
    pool: BlockingConnectionPool, jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: Counter[str] = Counter()

    class Counting(NullObserver):
        def on_job_change(self, change: str, jobs: int = 1) -> None:
            changes[change] += jobs

    leases = LeaseManager(connect(pool, Counting()), ttl=timedelta(days=1))
    for number in range(REAP_BATCH + 5):
        await jobs.create_job(f"j{number}", 1)
        await claimed(leases)
        await expire_lease(redis, f"j{number}")
    run, reaps = leases._client.run_script, count()

    async def run_once(*args: Any) -> list[Any]:
        if next(reaps):
            raise errors.StoreTimeout
        return await run(*args)

    monkeypatch.setattr(leases._client, "run_script", run_once)
    with suppress(errors.StoreTimeout):
        while True:
            await leases.reap()

    assert (changes["lease-expired"], changes["failed"]) == (REAP_BATCH, REAP_BATCH)


@pytest.mark.corrupts_keys
async def test_a_key_of_unexpected_type_does_not_stop_the_reaper(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id in ("a", "b", "c"):
        await jobs.create_job(job_id, 1, queue=job_id)
        await claimed(leases, job_id)
        await expire_lease(redis, job_id)
    await redis.set(PARTITIONS.of("a").by_created("a", "failed"), "foreign", ex=60)
    await redis.hset(job_key("b"), "failures", "foreign")
    before = await record(jobs, "a")

    with capture_logs() as log:
        reaped, following = await leases.reap()

    assert [job.job_id for job in reaped] == ["c"]
    assert following == pytest.approx(60, abs=5), "it does not block the next batch"
    assert sorted(chain.from_iterable(line["job_ids"] for line in log)) == ["a", "b"]
    assert [line["log_level"] for line in log] == ["error"] * len({PARTITIONS.of("a"), PARTITIONS.of("b")})
    assert await record(jobs, "a") == before
    assert (await leases.reap())[0] == []

    await redis.delete(PARTITIONS.of("a").by_created("a", "failed"))
    await redis.hdel(job_key("b"), "failures")
    for job_id in ("a", "b"):
        await redis.zadd(PARTITIONS.of(job_id).leases, {job_id: 1})  # as if the minute had passed
    again = [job.job_id for job in (await leases.reap())[0]]
    assert (again if len(PARTITIONS) == 1 else sorted(again)) == ["a", "b"]


@pytest.mark.corrupts_keys
async def test_a_due_job_that_cannot_be_moved_does_not_block_claims(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id in ("a", "b"):
        await jobs.create_job(job_id, 1, queue=job_id, delay_seconds=60)
        await end_delay(redis, job_id, queue=job_id)
    await redis.zadd(PARTITIONS.of("a").delays, {"garbage": 0})
    await redis.set(PARTITIONS.of("a").by_created("a", "pending"), "foreign", ex=60)

    with capture_logs() as log:
        assert (await claimed(leases, "b")).job.job_id == "b"

    assert [(line["log_level"], line["job_ids"]) for line in log] == [("error", ["a"])]
    [(member, due)] = await redis.zrange(PARTITIONS.of("a").delays, 0, -1, withscores=True)
    assert (member, due / 1e6) == (b"a:a", pytest.approx((await redis.time())[0] + 60, abs=5))
    with capture_logs() as log:
        assert await leases.claim_job(["b"], "w") is None
    assert log == []


async def test_a_claim_emits_one_event_per_queue_to_which_it_moved_due_jobs(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    for job_id, queue in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")):
        await jobs.create_job(job_id, 1, queue=queue, delay_seconds=60 if queue == "c" else 1)
    await asyncio.sleep(1.05)
    before = {partition: await redis.xlen(partition.events) for partition in PARTITIONS}

    assert await leases.claim_job(["another"], "w") is None

    ended = [("a1", b"a"), ("a2", b"a"), ("b1", b"b")]
    expected = {(PARTITIONS.of(job_id), moved) for job_id, moved in ended}
    emitted = [(one, event) for one in PARTITIONS for _, event in (await redis.xrange(one.events))[before[one] :]]
    assert len(emitted) == len(expected)
    for partition, moved in expected:
        assert (partition, {b"event": b"queue", b"queue": moved}) in emitted
    assert await leases.claim_job(["another"], "w") is None
    assert await count_events(redis) == sum(before.values()) + len(expected)


async def test_concurrent_reapers_reap_a_job_once(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    for number in range(50):
        await jobs.create_job(f"j{number}", 1, max_attempts=3)
        await claimed(leases)
        await expire_lease(redis, f"j{number}")
    found = await asyncio.gather(*(leases.reap() for _ in range(4)))
    assert sum(len(reaped) for reaped, _ in found) == 50
    assert {(await record(jobs, f"j{number}")).failures for number in range(50)} == {1}


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("queues", lambda leases: leases.claim_job([], "w")),
        ("queues", lambda leases: leases.claim_job(["q"] * 101, "w")),
        ("queues[1]", lambda leases: leases.claim_job(["a", "b/c"], "w")),
        ("worker", lambda leases: leases.claim_job(["a"], "")),
        ("lease_seconds", lambda leases: leases.claim_job(["a"], "w", lease_seconds=4)),
        ("lease_seconds", lambda leases: leases.heartbeat("j", "1-a", lease_seconds=3601)),
        ("progress.current", lambda leases: leases.heartbeat("j", "1-a", progress=Progress(-1))),
        ("Lease-Token", lambda leases: leases.heartbeat("j", "a b")),
        ("delay_seconds", lambda leases: leases.release_job("j", "1-a", delay_seconds=-1)),
        ("job_id", lambda leases: leases.release_job("a/b", "1-a")),
    ],
)
async def test_an_invalid_argument_is_rejected_with_its_field(leases: LeaseManager, field: str, call: object) -> None:
    with pytest.raises(errors.InvalidValue) as error:
        await call(leases)
    assert error.value.field == field


#: The partitions of the jobs of `leased_and_next`.
LEASED, NEXT = PARTITIONS.of("j"), PARTITIONS.of("next")
CALLS: dict[str, Callable[[LeaseManager, str], Awaitable[Any]]] = {
    "claim": lambda leases, token: leases.claim_job(["default"], "w", claim_key="k"),
    "heartbeat": lambda leases, token: leases.heartbeat("j", token),
    "progress": lambda leases, token: leases.heartbeat("j", token, progress=Progress(1)),
    "release": lambda leases, token: leases.release_job("j", token, change_id="k"),
    "delay": lambda leases, token: leases.release_job("j", token, delay_seconds=9),
    "fail": lambda leases, token: leases.release_job("j", token, error="x"),
}


async def leased_and_next(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> str:
    """Create a leased job `j` whose lease is over, and a pending one; return the token of the former."""
    await jobs.create_job("j", 1)
    token = (await claimed(leases)).lease.token
    await expire_lease(redis, "j")
    await jobs.create_job("next", 1)
    return token


async def dump(redis: Redis, *without: str) -> dict[bytes, bytes]:
    return {name: await redis.dump(name) for name in await redis.keys() if name.decode() not in without}


@pytest.mark.corrupts_keys
@pytest.mark.parametrize(
    ("call", "name"),
    [
        *(("claim", NEXT.by_created("default", state)) for state in ("pending", "running")),
        *(("claim", name) for name in (PARTITIONS.first.queues, PARTITIONS.first.meta, NEXT.delays)),
        *(("claim", name) for name in (NEXT.leases, NEXT.by_expiry, NEXT.events)),
        ("heartbeat", LEASED.leases),
        *(("progress", name) for name in (LEASED.leases, LEASED.by_expiry, LEASED.events)),
        *(("release", name) for name in (LEASED.by_created("default", "pending"), LEASED.by_expiry)),
        *(("release", name) for name in (LEASED.events,)),
        *(("delay", name) for name in (LEASED.by_created("default", "delayed"), LEASED.delays)),
        *(("fail", name) for name in (LEASED.by_created("default", "failed"), LEASED.by_expiry, LEASED.events)),
    ],
)
async def test_an_index_of_unexpected_type_is_named_and_nothing_is_written(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, call: str, name: str
) -> None:
    token = await leased_and_next(jobs, leases, redis)
    await redis.delete(name)
    await redis.set(name, "foreign")
    before = await dump(redis)

    with pytest.raises(errors.StoreCorrupt, match=name):
        await CALLS[call](leases, token)

    # A claim with a key leaves its plan and the number of its plan, over several partitions.
    plans = [*await redis.keys("*:aim:*"), *await redis.keys("{p*}:claim:*")]
    assert await dump(redis, *(plan.decode() for plan in plans)) == {
        key: value for key, value in before.items() if key not in plans
    }


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("name", [LEASED.by_created("default", "running"), LEASED.leases])
async def test_a_release_that_cannot_leave_an_index_stands_and_its_retry_finds_it_made(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, name: str
) -> None:
    token = await leased_and_next(jobs, leases, redis)
    await redis.delete(name)
    await redis.set(name, "foreign")

    with pytest.raises(errors.StoreCorrupt, match=name):
        await CALLS["release"](leases, token)

    released = await record(jobs, "j")
    assert (released.status, released.lease_expires_at) == (Status.PENDING, None)
    assert await CALLS["release"](leases, token) == released
    assert await redis.get(name) == b"foreign"


@pytest.mark.corrupts_keys
async def test_a_heartbeat_that_extends_the_retention_writes_all_or_nothing(
    pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    longer = LeaseManager(connect(pool), ttl=timedelta(days=60))
    token = await leased_and_next(jobs, leases, redis)
    await redis.delete(LEASED.by_expiry)
    await redis.set(LEASED.by_expiry, "foreign")
    before = await dump(redis)

    with pytest.raises(errors.StoreCorrupt, match=LEASED.by_expiry):
        await longer.heartbeat("j", token)
    assert await dump(redis) == before

    await redis.delete(LEASED.by_expiry)
    await redis.hdel(job_key("j"), "queue")
    before = await dump(redis)
    with pytest.raises(errors.StoreCorrupt, match="job:j"):
        await longer.heartbeat("j", token)
    assert await dump(redis) == before


async def test_a_missing_job_is_not_found(leases: LeaseManager) -> None:
    for call in (leases.heartbeat("j", "1-a"), leases.release_job("j", "1-a")):
        with pytest.raises(errors.JobNotFound):
            await call
