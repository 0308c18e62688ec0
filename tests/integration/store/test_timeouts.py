"""Time-outs of attempts, and of the time until the first start."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import ConnectionPool, Redis
from structlog.testing import capture_logs

from service.background.reaper import TIME_OUT_FAILED, Reaper
from service.domain import errors
from service.domain.jobs import Claim, Job, Progress
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import REAP_BATCH, RUN_TIMEOUT, RUN_TIMEOUT_WILL_RETRY, START_TIMEOUT, LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, job_key, neighbour_of, only_one_partition
from tests.helpers.store_operations import TIMEOUTS, Store


@pytest.fixture
def store(pool: ConnectionPool, redis: Redis, store_client: StoreClient) -> Store:
    return Store(pool, redis, store_client)


async def record(jobs: JobStateManager, job_id: str = "j") -> Job:
    job = await jobs.get_job(job_id)
    assert job is not None
    return job


async def claim(leases: LeaseManager) -> Claim:
    claimed = await leases.claim_job(["default"], "w")
    assert claimed is not None
    return claimed


async def start(jobs: JobStateManager, leases: LeaseManager, **options: Any) -> Claim:
    """Create a job with time-outs, and claim it."""
    await jobs.create_job("j", 1, **{**TIMEOUTS, **options})
    return await claim(leases)


async def timers(redis: Redis) -> dict[str, int]:
    """Return all entries of `timers`: member → ms."""
    found = [await redis.zrange(partition.timers, 0, -1, withscores=True) for partition in PARTITIONS]
    return {member.decode(): int(score) for entries in found for member, score in entries}


def millis(timestamp: str | None) -> int:
    assert timestamp is not None
    return parse_timestamp(timestamp) // 1000


def is_after(deadline: str | None, start: str | None, seconds: int) -> bool:
    """Return whether a deadline is so many seconds after a time: it has whole milliseconds, the time has not."""
    return abs(millis(deadline) - millis(start) - seconds * 1000) <= 1


def deadlines(job: Job) -> tuple[str | None, str | None]:
    return job.start_deadline_at, job.run_deadline_at


@pytest.mark.parametrize("delay", [0, 30])
async def test_a_start_timeout_counts_from_when_the_job_is_due(jobs: JobStateManager, redis: Redis, delay: int) -> None:
    created = (await jobs.create_job("j", 1, delay_seconds=delay, start_timeout_seconds=60)).job

    assert created == await record(jobs)
    assert (created.start_timeout_seconds, created.run_timeout_seconds, created.run_deadline_at) == (60, None, None)
    due = created.available_at or created.created_at
    assert is_after(created.start_deadline_at, due, 60)
    assert await timers(redis) == {"start:default:j": millis(created.start_deadline_at)}


async def test_a_start_ends_the_start_timeout_and_begins_that_of_the_run(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    claimed = await start(jobs, leases, run_timeout_seconds=90)

    job = claimed.job
    assert job == await record(jobs)
    assert (job.start_timeout_seconds, job.run_timeout_seconds, job.start_deadline_at) == (60, 90, None)
    assert is_after(job.run_deadline_at, job.started_at, 90)
    assert await timers(redis) == {"run:default:j": millis(job.run_deadline_at)}
    beat = await leases.heartbeat("j", claimed.lease.token, progress=Progress(1))
    assert beat.run_deadline_at == job.run_deadline_at == (await record(jobs)).run_deadline_at


async def test_a_start_without_a_lease_has_the_same_timeouts(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, **TIMEOUTS)
    job = await jobs.update_job_status("j", "running")
    assert job.start_deadline_at is None
    assert is_after(job.run_deadline_at, job.started_at, 60)
    assert list(await timers(redis)) == ["run:default:j"]


async def test_a_job_without_timeouts_has_no_timers(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    claimed = await claim(leases)
    assert deadlines(claimed.job) == (None, None)
    assert (await leases.heartbeat("j", claimed.lease.token)).run_deadline_at is None
    assert await timers(redis) == {}


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_a_job_that_has_ended_has_no_deadline(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, end: str
) -> None:
    token = (await start(jobs, leases)).lease.token
    job = await jobs.update_job_status("j", end, lease_token=token)
    assert (deadlines(job), job.run_timeout_seconds, job.start_timeout_seconds) == ((None, None), 60, 60)
    assert await timers(redis) == {}


async def test_a_job_that_is_cancelled_before_its_start_has_no_deadline(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, **TIMEOUTS)
    assert deadlines(await jobs.cancel_job("j")) == (None, None)
    assert await timers(redis) == {}


async def test_nothing_times_out_before_its_deadline(jobs: JobStateManager, leases: LeaseManager) -> None:
    await start(jobs, leases)
    await jobs.create_job("other", 1, start_timeout_seconds=30)

    ended, following = await leases.time_out()

    assert ended == []
    assert following == pytest.approx(30, abs=20)
    assert ((await record(jobs)).status, (await record(jobs, "other")).status) == (Status.RUNNING, Status.PENDING)


async def test_a_run_timeout_is_a_failed_attempt(store: Store, jobs: JobStateManager, leases: LeaseManager) -> None:
    claimed = await start(jobs, leases, max_attempts=2, retry_delay_seconds=7)
    await store.end_timeout("run", "j")

    assert await leases.time_out() == ([("j", "run-timeout", Status.PENDING)], None)

    job = await record(jobs)
    assert (job.status, job.failures, job.attempt, job.error_message) == (Status.PENDING, 1, 1, RUN_TIMEOUT_WILL_RETRY)
    assert (deadlines(job), job.worker, job.lease_expires_at) == ((None, None), None, None)
    assert is_after(job.available_at, job.updated_at, 7)
    for request in (
        leases.heartbeat("j", claimed.lease.token),
        jobs.update_job_status("j", "completed", 1, lease_token=claimed.lease.token),
        leases.release_job("j", claimed.lease.token),
    ):
        with pytest.raises(errors.LeaseLost):
            await request


async def test_the_last_run_timeout_fails_the_job(store: Store, jobs: JobStateManager, leases: LeaseManager) -> None:
    await start(jobs, leases)
    await store.end_timeout("run", "j")

    await leases.time_out()

    job = await record(jobs)
    assert (job.status, job.failures, job.error_message, deadlines(job)) == (
        *(Status.FAILED, 1, RUN_TIMEOUT),
        (None, None),
    )
    assert msgspec.json.decode(job.error_message or b"")["type"] == "urn:jobstate:problem:run-timeout"
    history = await jobs.get_history("j")
    assert history is not None
    assert history.items[-1].attempt == 1


async def test_each_attempt_has_its_own_run_timeout(store: Store, jobs: JobStateManager, leases: LeaseManager) -> None:
    first = await start(jobs, leases, max_attempts=2)
    await store.end_timeout("run", "j")
    await leases.time_out()

    second = await claim(leases)

    assert (second.job.attempt, second.job.start_deadline_at) == (2, None)
    assert is_after(second.job.run_deadline_at, second.job.started_at, 60)
    assert second.lease.token != first.lease.token


async def test_a_run_timeout_after_a_cancel_request_cancels_without_a_failure(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    await start(jobs, leases, max_attempts=2)
    asked = await jobs.cancel_job("j")
    assert asked.run_deadline_at is not None
    await store.end_timeout("run", "j")

    assert await leases.time_out() == ([("j", "run-timeout", Status.CANCELLED)], None)

    job = await record(jobs)
    assert (job.status, job.failures, job.error_message) == (Status.CANCELLED, 0, None)


async def test_a_result_after_the_deadline_counts_until_the_reaper_comes(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    token = (await start(jobs, leases)).lease.token
    await store.end_timeout("run", "j")
    assert (await jobs.update_job_status("j", "completed", 1, lease_token=token)).status is Status.COMPLETED
    assert await leases.time_out() == ([], None)


async def test_a_run_timeout_ends_a_job_that_runs_without_a_lease(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1, **TIMEOUTS, max_attempts=2)
    await jobs.update_job_status("j", "running")
    await store.end_timeout("run", "j")
    await leases.time_out()
    assert ((await record(jobs)).status, (await claim(leases)).job.attempt) == (Status.PENDING, 2)


@pytest.mark.parametrize("delay", [0, 30])
async def test_a_start_timeout_fails_the_job_for_good(
    store: Store, jobs: JobStateManager, leases: LeaseManager, delay: int
) -> None:
    await jobs.create_job("j", 1, max_attempts=3, start_timeout_seconds=60, delay_seconds=delay)
    await store.end_timeout("start", "j")

    assert await leases.time_out() == ([("j", "start-timeout", Status.FAILED)], None)

    job = await record(jobs)
    assert (job.status, job.attempt, job.failures, job.error_message) == (Status.FAILED, 0, 0, START_TIMEOUT)
    history = await jobs.get_history("j")
    assert history is not None
    assert (history.items[-1].error, history.items[-1].attempt) == (bytes(START_TIMEOUT).decode(), None)
    assert (deadlines(job), job.finished_at) == ((None, None), job.updated_at)
    assert await leases.claim_job(["default"], "w") is None
    stats = await jobs.get_stats()
    assert (stats.statuses[Status.PENDING], stats.statuses[Status.FAILED], stats.delayed) == (0, 1, 0)


async def test_a_start_timeout_goes_on_under_a_pause_and_a_drain(
    store: Store, jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await jobs.create_job("j", 1, start_timeout_seconds=60)
    await queues.configure_queue("default", paused=True)
    await queues.start_drain(60)
    await store.end_timeout("start", "j")
    await leases.time_out()
    assert (await record(jobs)).status is Status.FAILED


async def test_a_release_sets_no_start_timeout_and_a_retry_sets_it_anew(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    token = (await start(jobs, leases)).lease.token
    released = await leases.release_job("j", token)
    assert (deadlines(released), await timers(redis)) == ((None, None), {})
    await jobs.cancel_job("j")

    retried = await jobs.retry_job("j", delay_seconds=5, run_timeout_seconds=120)

    assert retried == await record(jobs)
    assert is_after(retried.start_deadline_at, retried.available_at, 60)
    assert (retried.run_deadline_at, retried.run_timeout_seconds) == (None, 120)
    assert await timers(redis) == {"start:default:j": millis(retried.start_deadline_at)}


async def test_a_retry_keeps_the_run_timeout_unless_it_has_another(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1, run_timeout_seconds=60)
    await jobs.cancel_job("j")
    retried = await jobs.retry_job("j")
    assert (retried.run_timeout_seconds, deadlines(retried)) == (60, (None, None))


@pytest.mark.parametrize("value", [0, -1, 604_801, True, "60", 1.5])
async def test_a_retry_with_a_wrong_run_timeout_names_the_field(jobs: JobStateManager, value: Any) -> None:
    await jobs.create_job("j", 1)
    await jobs.cancel_job("j")
    with pytest.raises(errors.InvalidValue, match="604800") as raised:
        await jobs.retry_job("j", run_timeout_seconds=value)
    assert raised.value.field == "run_timeout_seconds"
    assert (await record(jobs)).status is Status.CANCELLED


@pytest.mark.parametrize("name", ["run_timeout_seconds", "start_timeout_seconds"])
async def test_creations_with_other_timeouts_are_not_equal(jobs: JobStateManager, name: str) -> None:
    await jobs.create_job("j", 1, **{name: 60})
    assert (await jobs.create_job("j", 1, **{name: 60})).replayed
    for other in ({}, {name: 61}):
        with pytest.raises(errors.JobExists):
            await jobs.create_job("j", 1, **other)


async def test_a_job_outlives_its_deadlines(store_client: StoreClient, redis: Redis) -> None:
    ttl = timedelta(seconds=1)
    jobs, leases = JobStateManager(store_client, ttl=ttl), LeaseManager(store_client, ttl=ttl)
    created = (await jobs.create_job("j", 1, start_timeout_seconds=300, run_timeout_seconds=600)).job
    assert millis(created.expires_at) == millis(created.start_deadline_at) + 60_000
    started = await claim(leases)
    beat = await leases.heartbeat("j", started.lease.token, progress=Progress(1))
    job = await record(jobs)
    assert millis(job.expires_at) == millis(beat.run_deadline_at) + 60_000
    assert await redis.pexpiretime(job_key("j")) == millis(job.expires_at)
    asked = await jobs.cancel_job("j")
    assert asked.expires_at == job.expires_at


@pytest.mark.parametrize(
    ("status", "field"),
    [("completed", "start"), ("completed", "run"), ("running", "start"), ("pending", "run")],
)
async def test_a_deadline_that_does_not_count_in_a_status_ends_nothing(
    store: Store, jobs: JobStateManager, leases: LeaseManager, status: str, field: str
) -> None:
    """As a service that knows no time-outs leaves it behind, when several versions run."""
    await store.bring_to(status, "j", queue="default")
    before = await record(jobs)
    await store.end_timeout(field, "j")

    assert await leases.time_out() == ([], None)

    assert (await record(jobs)).status == before.status
    assert await timers(store.redis) == {}
    await store.redis.hdel(job_key("j"), f"{field}_deadline_at")


async def test_a_start_renews_a_deadline_that_was_left_behind(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    await jobs.create_job("j", 1, run_timeout_seconds=60)
    await store.end_timeout("run", "j")
    claimed = await claim(leases)
    assert is_after(claimed.job.run_deadline_at, claimed.job.started_at, 60)
    assert await timers(store.redis) == {"run:default:j": millis(claimed.job.run_deadline_at)}


async def test_wrong_timers_do_not_stop_the_others(store: Store, jobs: JobStateManager, leases: LeaseManager) -> None:
    await start(jobs, leases)
    later, over, past = neighbour_of("j"), neighbour_of(neighbour_of("j")), await store.now() - 1000
    for job_id in (later, over):
        await jobs.create_job(job_id, 1, start_timeout_seconds=60)
    await store.end_timeout("start", over)
    home = store.home("j")
    wrong = {"start:default:j": past, "run:other:j": past, "run:default:none": past, "what": past}
    await store.redis.zadd(home.timers, {**wrong, f"start:default:{later}": past})

    ended, following = await leases.time_out()

    assert [job.job_id for job in ended] == [over]
    assert following == pytest.approx(60, abs=20)
    assert set(await timers(store.redis)) == {"run:default:j", f"start:default:{later}"}
    assert ((await record(jobs)).status, (await record(jobs, later)).status) == (Status.RUNNING, Status.PENDING)


async def test_a_job_that_cannot_be_read_is_skipped_for_a_minute(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    over = neighbour_of("j")
    for job_id in ("j", over):
        await jobs.create_job(job_id, 1, start_timeout_seconds=60)
        await store.end_timeout("start", job_id)
    held, expires = await store.redis.dump(job_key("j")), await store.redis.pexpiretime(job_key("j"))
    await store.redis.delete(job_key("j"))
    await store.redis.set(job_key("j"), "of another program")

    with capture_logs() as logs:
        ended, following = await leases.time_out()

    assert [job.job_id for job in ended] == [over]
    assert following == pytest.approx(60, abs=20)
    assert [(entry["event"], entry["job_ids"]) for entry in logs] == [("time-out skipped unreadable job", ["j"])]
    await store.redis.restore(job_key("j"), expires, held, replace=True, absttl=True)
    await store.end_timeout("start", "j")
    assert [job.job_id for job in (await leases.time_out())[0]] == ["j"]


@only_one_partition
async def test_timeouts_end_in_batches(store: Store, jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(REAP_BATCH + 5):
        await jobs.create_job(f"j{number}", 1, start_timeout_seconds=60)
        await store.end_timeout("start", f"j{number}")
    batches = [await leases.time_out() for _ in range(2)]
    assert [(len(ended), following) for ended, following in batches] == [(REAP_BATCH, 0.0), (5, None)]


async def test_concurrent_reapers_time_a_job_out_once(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    ids = [f"j{number}" for number in range(20)]
    for job_id in ids:
        await jobs.create_job(job_id, 1, start_timeout_seconds=60)
        await store.end_timeout("start", job_id)
    found = await asyncio.gather(*(leases.time_out() for _ in range(4)))
    assert sorted(job.job_id for ended, _ in found for job in ended) == sorted(ids)


@only_one_partition
async def test_the_reaper_goes_on_where_the_timers_are_of_another_program(
    store: Store, jobs: JobStateManager, leases: LeaseManager
) -> None:
    """Delays still end, and the log says once why time-outs do not."""
    await store.redis.set(store.home("j").timers, "of another program")
    await jobs.create_job("j", 1, delay_seconds=60)
    await store.end_delay("j")
    reaper = Reaper(leases)
    reaper._grace_end, reaper._last_run = 0, await leases.get_time()

    with capture_logs() as logs:
        for _ in range(3):
            await reaper.run_once()

    assert [entry["event"] for entry in logs] == [TIME_OUT_FAILED]
    assert (await claim(leases)).job.job_id == "j"
    await store.redis.delete(store.home("j").timers)
