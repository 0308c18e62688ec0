"""A service never changes data of a newer version, and reports why."""

import time
from collections.abc import AsyncIterator

import pytest
import redis as sync_redis
from litestar.testing import TestClient
from redis.asyncio import Redis

from service.app import create_app
from service.background.sweeper import CONNECTED, DATA_VERSION_UNSUPPORTED, REDIS_UNAVAILABLE
from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.settings import Settings
from service.store.data_version import V1_KEYS
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import PARTITION
from tests.helpers.polling import wait_until


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    """A database whose version is removed after the test, so that the other fixtures can check it."""
    yield redis
    await redis.delete(PARTITION.version)


async def test_newer_data_is_not_changed(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    await redis.set(PARTITION.version, 3)

    for call in (jobs.create_job("a", {}), leases.claim_job(["default"], "w"), jobs.sweep(), jobs.get_stats()):
        with pytest.raises(DataVersionUnsupported, match=r"has data of version 3; this service supports version 2\."):
            await call

    assert await redis.keys() == [PARTITION.version.encode()]


async def test_a_running_service_notices_newer_data_when_it_next_reads_the_clock(
    jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create_job("a", {})
    await redis.set(PARTITION.version, 3)
    await jobs.create_job("b", {})

    monkeypatch.setattr("service.store.client.CLOCK_MAX_AGE", 0.0)

    with pytest.raises(DataVersionUnsupported):
        await jobs.create_job("c", {})
    await redis.set(PARTITION.version, 2)
    await jobs.create_job("c", {})


async def test_reading_the_clock_again_also_reads_the_version(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("a", {})
    await redis.set(PARTITION.version, 3)
    jobs._client._clock.set(int((time.time() - 60) * 1e6))  # so that the next script replies DEADLINE_EXCEEDED

    with pytest.raises(DataVersionUnsupported):
        await jobs.create_job("b", {})


async def test_an_unreadable_version_is_corrupt(jobs: JobStateManager, redis: Redis) -> None:
    await redis.set(PARTITION.version, "two")
    with pytest.raises(StoreCorrupt, match="jobs:version holds b'two'"):
        await jobs.create_job("a", {})

    await redis.delete(PARTITION.version)
    await redis.rpush(PARTITION.version, "1")
    with pytest.raises(StoreCorrupt, match="WRONGTYPE"):
        await jobs.create_job("a", {})


@pytest.mark.parametrize("earlier", [None, b"1", b"2"])
async def test_a_database_without_jobs_of_version_1_gets_the_version(
    jobs: JobStateManager, redis: Redis, earlier: bytes | None
) -> None:
    if earlier is not None:
        await redis.set(PARTITION.version, earlier)

    await jobs.write_version()

    assert await redis.get(PARTITION.version) == b"2"


async def test_a_newer_version_is_kept(jobs: JobStateManager, redis: Redis) -> None:
    await redis.set(PARTITION.version, 3)

    with pytest.raises(DataVersionUnsupported):
        await jobs.write_version()

    assert await redis.get(PARTITION.version) == b"3"


@pytest.mark.parametrize("version", [None, b"1"])
@pytest.mark.parametrize("name", V1_KEYS)
async def test_data_of_version_1_is_refused_with_words_and_not_changed(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, name: str, version: bytes | None
) -> None:
    await redis.set(name, 1)
    if version is not None:
        await redis.set(PARTITION.version, version)

    refused = (jobs.create_job("a", {}), leases.claim_job(["default"], "w"), jobs.sweep(), jobs.get_stats())
    for call in (*refused, jobs.write_version(), jobs.ping()):
        with pytest.raises(DataVersionUnsupported, match=r"has data of version 1; .* delete the keys `job:\*` and `jobs:\*`"):
            await call

    assert await redis.get(PARTITION.version) == version
    assert await redis.dbsize() == (1 if version is None else 2)
    await redis.delete(name)


def test_an_older_service_reports_newer_data_and_recovers_when_it_is_gone(
    store_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with sync_redis.Redis.from_url(store_url) as redis:
        redis.flushdb()
        redis.set(PARTITION.version, 3)
        with TestClient(create_app(Settings.from_environment({}), store_url)) as client:
            rejected = client.post("/v1/jobs", json={"job_id": "a", "input_params": 1})
            ready = client.get("/ready")
            for response in (rejected, ready):
                assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
                assert response.json()["type"] == "urn:jobstate:problem:data-version-unsupported"
                assert "has data of version 3; this service supports version 2." in response.json()["detail"]
            assert client.get("/health").status_code == 200
            assert redis.keys() == [PARTITION.version.encode()]

            redis.delete(PARTITION.version)
            wait_until(lambda: redis.get(PARTITION.version) == b"2", "the mark of the version")

            assert client.get("/ready").status_code == 200
            assert client.post("/v1/jobs", json={"job_id": "a", "input_params": 1}).status_code == 201
        redis.flushdb()
    output = capfd.readouterr()
    events = output.out + output.err
    assert [events.count(event) for event in (DATA_VERSION_UNSUPPORTED, CONNECTED, REDIS_UNAVAILABLE)] == [1, 1, 0]
