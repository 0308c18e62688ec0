"""The reaper of a service, without any worker that asks."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from service.background.reaper import REAP_GRACE_PERIOD
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.services import Services, open_services
from service.settings import Settings
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.partitions import PARTITIONS, job_key
from tests.helpers.polling import TIMEOUT


@asynccontextmanager
async def _serving(url: str) -> AsyncIterator[Services]:
    metrics = Metrics()
    settings = Settings.from_environment({"REDIS_PARTITIONS": str(len(PARTITIONS))})
    async with open_services(settings, url, metrics, Shutdown(), metrics) as services:
        yield services


@pytest.fixture
def serving(store_url: str, redis: Redis) -> AbstractAsyncContextManager[Services]:
    """The services of a process, with its background tasks."""
    return _serving(store_url)


async def _is_due(redis: Redis, job_id: str) -> bool:
    """Return whether the indexes have a job as due."""
    partition = PARTITIONS.of(job_id)
    delayed = await redis.zscore(partition.delays, f"default:{job_id}")
    return delayed is None and await redis.zscore(partition.by_created("default", "pending"), job_id) is not None


async def _wait_until_due(redis: Redis, job_id: str, seconds: float = TIMEOUT) -> None:
    deadline = time.monotonic() + seconds
    while not await _is_due(redis, job_id):
        assert time.monotonic() < deadline, "the delay did not end"
        await asyncio.sleep(0.02)


async def _end_delay(redis: Redis, job_id: str) -> None:
    """Change a delayed job as if its delay had ended."""
    await redis.hset(job_key(job_id), "available_at", "2020-01-01T00:00:00.000000Z")
    await redis.zadd(PARTITIONS.of(job_id).delays, {f"default:{job_id}": 1_577_836_800_000_000})


async def test_a_delay_that_is_over_ends_and_wakes_claims_while_no_worker_asks(
    serving: AbstractAsyncContextManager[Services], redis: Redis
) -> None:
    async with serving as services:
        await services.jobs.create_job("j", 1, delay_seconds=1)
        assert not await _is_due(redis, "j")
        assert (await services.jobs.get_stats()).delayed == 1

        await _wait_until_due(redis, "j")

        stats = await services.jobs.get_stats()
        assert (stats.delayed, stats.queues["default"]["pending"]) == (0, 1)
    events: Any = await redis.xrange(PARTITIONS.of("j").events)
    assert [fields[b"event"] for _, fields in events] == [b"changed", b"queue"]


async def test_a_delay_that_was_over_at_the_start_ends_at_once_but_a_lease_has_its_grace(
    serving: AbstractAsyncContextManager[Services], jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("leased", 1)
    assert await leases.claim_job(["default"], "w", lease_seconds=5) is not None
    await redis.hset(job_key("leased"), "lease_expires_at", "2020-01-01T00:00:00.000000Z")
    await redis.zadd(PARTITIONS.of("leased").leases, {"leased": 1_577_836_800_000})
    await jobs.create_job("delayed", 1, delay_seconds=60)
    await _end_delay(redis, "delayed")

    async with serving:
        await _wait_until_due(redis, "delayed", seconds=REAP_GRACE_PERIOD.total_seconds() / 2)
        assert await redis.hget(job_key("leased"), "status") == b"running"

    [reaped] = (await leases.reap())[0]
    assert reaped.job_id == "leased"


async def test_a_foreign_key_of_leases_does_not_keep_delays_from_ending(
    serving: AbstractAsyncContextManager[Services], jobs: JobStateManager, redis: Redis
) -> None:
    for partition in PARTITIONS:
        await redis.set(partition.leases, "foreign")
    async with serving:
        for job_id in ("a", "b"):
            await jobs.create_job(job_id, 1, delay_seconds=60)
            await _end_delay(redis, job_id)
            await _wait_until_due(redis, job_id)
    await redis.delete(*(partition.leases for partition in PARTITIONS))
