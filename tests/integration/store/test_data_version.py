"""A service never serves or changes data of another version, and reports why."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.background.sweeper import CONNECTED, DATA_VERSION_UNSUPPORTED, REDIS_UNAVAILABLE
from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store.data_version import DATA_VERSION, PARTITIONS_KEY, V1_KEYS
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import PARTITION
from tests.helpers.deployments import DEPLOYMENT, not_on_cluster, sync_client
from tests.helpers.partitions import PARTITIONS, connect
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service

CLOCK = V1_KEYS[0]
#: The keys with the version of the data: one, or on a cluster one of each partition.
VERSIONS = tuple(one.version for one in PARTITIONS) if DEPLOYMENT == "cluster" else (PARTITION.version,)
#: What a newer service writes.
NEWER_DATA = dict.fromkeys(VERSIONS, 3)
if DEPLOYMENT == "cluster":
    NEWER_DATA |= {one.partitions: len(PARTITIONS) for one in PARTITIONS}
version_1 = not_on_cluster("data of version 1 was on one Redis")
NEWER = "Redis has data of version 3; this service supports version 2. Start a newer service."
OLDER = "Redis has data of version 1; this service supports version 2. Start it on an empty database, or"


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    """A database whose keys of version 1 are removed, and its version put right, after the test.

    The other fixtures check the rest. One that no service has started on has no version.
    """
    yield redis
    await redis.delete(*VERSIONS, *V1_KEYS)
    if await redis.exists(PARTITIONS_KEY):
        await write(redis, dict.fromkeys(VERSIONS, DATA_VERSION))


async def write(redis: Redis, values: dict[str, Any]) -> None:
    for name, value in values.items():
        await redis.set(name, value)


async def contents(redis: Redis) -> dict[bytes, Any]:
    return {name: await redis.dump(name) for name in await redis.keys()}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (NEWER_DATA, NEWER),
        pytest.param({PARTITION.version: 1, CLOCK: 1}, OLDER, marks=version_1),
        *(pytest.param({name: 1}, OLDER, marks=version_1) for name in V1_KEYS),
    ],
    ids=["newer", "older", *(f"without a version, with {name}" for name in V1_KEYS)],
)
async def test_data_of_another_version_is_neither_read_nor_changed(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, values: dict[str, int], words: str
) -> None:
    await write(redis, values)
    before = await contents(redis)

    for call in (
        *(jobs.create_job("a", {}), jobs.get_job("a"), jobs.get_jobs(["a"]), jobs.get_history("a"), jobs.get_stats()),
        *(leases.claim_job(["default"], "w"), leases.reap(), leases.end_delays(), jobs.sweep(), jobs.write_version()),
        jobs.ping(),
    ):
        with pytest.raises(DataVersionUnsupported) as raised:
            await call
        assert words in str(raised.value)

    assert await contents(redis) == before


async def test_a_running_service_notices_newer_data_when_it_next_reads_the_clock(
    jobs: JobStateManager, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create_job("a", {})
    await jobs.get_stats()  # asks each node
    await write(redis, NEWER_DATA)
    await jobs.create_job("b", {})

    monkeypatch.setattr("service.store.server_clock.CLOCK_MAX_AGE", 0.0)

    for call in (jobs.create_job("c", {}), jobs.get_job("a")):
        with pytest.raises(DataVersionUnsupported):
            await call
    await write(redis, dict.fromkeys(VERSIONS, 2))
    await jobs.create_job("c", {})


async def test_the_version_is_read_again_over_a_new_connection(jobs: JobStateManager, redis: Redis) -> None:
    """The new one may reach another Redis, or one that was started with other files."""
    await jobs.create_job("a", {})
    await jobs.get_stats()
    await write(redis, NEWER_DATA)
    for node in jobs._client.deployment.nodes:
        assert node.pipeline.transport is not None
        node.pipeline.transport.abort()

    for call in (jobs.create_job("b", {}), jobs.get_job("a")):
        with pytest.raises(DataVersionUnsupported):
            await call

    await write(redis, dict.fromkeys(VERSIONS, 2))
    await jobs.create_job("b", {})


async def test_reading_the_clock_again_also_reads_the_version(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("a", {})
    await jobs.get_stats()
    await write(redis, NEWER_DATA)
    for node in jobs._client.deployment.nodes:  # so that the next script replies DEADLINE_EXCEEDED
        node.clock.set(int((time.time() - 60) * 1e6))

    with pytest.raises(DataVersionUnsupported):
        await jobs.create_job("b", {})


async def test_an_unreadable_version_is_corrupt(jobs: JobStateManager, redis: Redis) -> None:
    version = PARTITIONS.of("a").version if DEPLOYMENT == "cluster" else "jobs:version"
    await redis.set(version, "two")
    with pytest.raises(StoreCorrupt, match=re.escape(f"{version} holds b'two'")):
        await jobs.create_job("a", {})

    await redis.delete(version)
    await redis.rpush(version, "1")
    with pytest.raises(StoreCorrupt, match="WRONGTYPE"):
        await jobs.create_job("a", {})


@pytest.mark.parametrize(
    "before",
    [None, pytest.param(1, marks=version_1), 2],
    ids=["no data", "version 1 without a job", "this version"],
)
async def test_a_database_without_data_of_another_version_gets_the_version(
    jobs: JobStateManager, redis: Redis, before: int | None
) -> None:
    await redis.flushdb()
    if before is not None:
        await write(redis, dict.fromkeys(VERSIONS, before))
    if before == 2 and len(PARTITIONS) > 1:
        await redis.set(PARTITIONS_KEY, len(PARTITIONS))
    await jobs.write_version()
    await jobs.write_version()
    assert [await redis.get(name) for name in VERSIONS] == [b"2"] * len(VERSIONS)


@pytest.mark.parametrize(
    "values",
    [
        NEWER_DATA,
        pytest.param({PARTITION.version: 1, CLOCK: 1}, marks=version_1),
        pytest.param({CLOCK: 1}, marks=version_1),
    ],
    ids=["newer", "older", "oldest"],
)
async def test_data_that_appears_before_the_version_is_written_keeps_its_version(
    jobs: JobStateManager, redis: Redis, values: dict[str, int]
) -> None:
    await redis.flushdb()
    await jobs.get_stats()  # so that the version was just read
    await write(redis, values)
    before = await contents(redis)

    with pytest.raises(DataVersionUnsupported):
        await jobs.write_version()

    assert await contents(redis) == before


async def test_services_that_start_at_once_all_write_the_version(pool: BlockingConnectionPool, redis: Redis) -> None:
    await redis.flushdb()
    clients = [connect(pool) for _ in range(8)]
    await asyncio.gather(*(JobStateManager(client).write_version() for client in clients))
    assert [await redis.get(name) for name in VERSIONS] == [b"2"] * len(VERSIONS)


#: Requests that need Redis.
REQUESTS = (
    *(("GET", path, None) for path in ("/v1/jobs/a", "/v1/jobs/a/result", "/v1/jobs/a/history", "/v1/jobs/a?wait=1")),
    *(("GET", path, None) for path in ("/v1/jobs", "/v1/stats", "/v1/queues", "/v1/drain", "/ready")),
    *(("GET", path, None) for path in ("/v1/events", "/v1/jobs/a/events")),
    ("POST", "/v1/jobs", {"job_id": "a", "input_params": 1}),
    ("POST", "/v1/batch-get", {"job_ids": ["a"]}),
    ("POST", "/v1/claims", {"queues": ["default"], "worker": "w"}),
    ("POST", "/v1/claims", {"queues": ["default"], "worker": "w", "wait_seconds": 1}),
    ("PATCH", "/v1/jobs/a", {"status": "running"}),
    ("POST", "/v1/jobs/a/cancel", None),
    ("POST", "/v1/jobs/a/heartbeat", {}),
    ("POST", "/v1/jobs/a/release", {}),
    ("DELETE", "/v1/jobs/a", None),
    ("PUT", "/v1/queues/default", {"paused": True}),
    ("POST", "/v1/drain", {}),
    ("DELETE", "/v1/drain", None),
)


@pytest.mark.parametrize(
    ("values", "words"),
    [(NEWER_DATA, NEWER), pytest.param({CLOCK: 1}, OLDER, marks=version_1)],
    ids=["newer", "older"],
)
def test_a_service_reports_data_of_another_version_and_recovers_when_it_is_gone(
    store_url: str, tmp_path: Path, values: dict[str, int], words: str
) -> None:
    with sync_client(store_url) as redis:
        redis.flushdb()
        for name, value in values.items():
            redis.set(name, value)
        with Service(tmp_path, REDIS_URL=store_url) as service, httpx.Client(base_url=service.url, timeout=10) as api:
            for method, path, body in REQUESTS:
                rejected = api.request(method, path, json=body, headers={"Lease-Token": "1-a"})
                assert (rejected.status_code, rejected.headers.get("Retry-After")) == (503, "1"), (method, path)
                assert rejected.json()["type"] == "urn:jobstate:problem:data-version-unsupported"
                assert words in rejected.json()["detail"]
            assert api.get("/health").status_code == 200
            assert {name.decode() for name in redis.scan_iter()} == set(values)

            redis.delete(*values)
            wait_until(lambda: all(redis.get(name) == b"2" for name in VERSIONS), "the version")

            wait_until(lambda: api.get("/ready").status_code == 200, "readiness")
            assert api.post("/v1/jobs", json={"job_id": "a", "input_params": 1}).status_code == 201
        redis.flushdb()
    events = [json.loads(line)["event"] for line in service.log.splitlines()]
    assert [events.count(event) for event in (DATA_VERSION_UNSUPPORTED, CONNECTED, REDIS_UNAVAILABLE)] == [1, 1, 0]
    assert words in service.log
