"""A service never changes data that is newer than it knows, and says why."""

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
from service.store import keys
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.servers import wait_until


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    """A database that is of no version after the test, so that it can be looked at."""
    yield redis
    await redis.delete(keys.VERSION)


async def test_newer_data_is_not_changed(jobs: JobStateManager, leases: LeaseManager, redis: Redis) -> None:
    await redis.set(keys.VERSION, 2)

    for refused in (jobs.create_job("a", {}), leases.claim_job(["default"], "w"), jobs.sweep(), jobs.get_stats()):
        with pytest.raises(DataVersionUnsupported, match="has data version 2; the newest supported is 1"):
            await refused

    assert await redis.keys() == [keys.VERSION.encode()]


async def test_a_service_that_runs_on_sees_newer_data_with_its_next_look_at_the_clock(
    jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create_job("a", {})
    await redis.set(keys.VERSION, 2)
    await jobs.create_job("b", {})

    monkeypatch.setattr("service.store.client.CLOCK_MAX_AGE", 0.0)

    with pytest.raises(DataVersionUnsupported):
        await jobs.create_job("c", {})
    await redis.set(keys.VERSION, 1)
    await jobs.create_job("c", {})


async def test_a_clock_that_was_misjudged_is_not_read_without_the_version(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("a", {})
    await redis.set(keys.VERSION, 2)
    jobs._client._clock.set(int((time.time() - 60) * 1e6))  # so that the next script comes LATE

    with pytest.raises(DataVersionUnsupported):
        await jobs.create_job("b", {})


async def test_what_is_no_version_is_not_ours(jobs: JobStateManager, redis: Redis) -> None:
    await redis.set(keys.VERSION, "two")
    with pytest.raises(StoreCorrupt, match="jobs:version holds b'two'"):
        await jobs.create_job("a", {})

    await redis.delete(keys.VERSION)
    await redis.rpush(keys.VERSION, "1")
    with pytest.raises(StoreCorrupt, match="WRONGTYPE"):
        await jobs.create_job("a", {})


async def test_data_of_before_is_marked_and_a_mark_is_kept(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.write_version()
    assert await redis.get(keys.VERSION) == b"1"

    await redis.set(keys.VERSION, 2)
    await jobs.write_version()
    assert await redis.get(keys.VERSION) == b"2"


def test_an_older_service_says_why_and_goes_on_when_the_data_is_its_own_again(
    store_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with sync_redis.Redis.from_url(store_url) as redis:
        redis.flushdb()
        redis.set(keys.VERSION, 2)
        with TestClient(create_app(Settings.from_environment({}), store_url)) as client:
            refused = client.post("/v1/jobs", json={"job_id": "a", "input_params": 1})
            ready = client.get("/ready")
            for answer in (refused, ready):
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
                assert answer.json()["type"] == "urn:jobstate:problem:data-version-unsupported"
                assert "has data version 2; the newest supported is 1" in answer.json()["detail"]
            assert client.get("/health").status_code == 200
            assert redis.keys() == [keys.VERSION.encode()]

            redis.delete(keys.VERSION)
            wait_until(lambda: redis.get(keys.VERSION) == b"1", "the mark of the version")

            assert client.get("/ready").status_code == 200
            assert client.post("/v1/jobs", json={"job_id": "a", "input_params": 1}).status_code == 201
        redis.flushdb()
    said = capfd.readouterr()
    events = said.out + said.err
    assert [events.count(event) for event in (DATA_VERSION_UNSUPPORTED, CONNECTED, REDIS_UNAVAILABLE)] == [1, 1, 0]
