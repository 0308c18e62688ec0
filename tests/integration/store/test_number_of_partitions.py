"""The first start fixes the number of partitions. A service with another number serves nothing and says what to do."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.background.sweeper import PARTITIONS_MISMATCH
from service.domain.errors import DataVersionUnsupported, PartitionsMismatch, StoreCorrupt
from service.store.data_version import V1_KEYS
from service.store.jobs import JobStateManager
from service.store.partitions import Partitions
from tests.helpers.cli_process import jobstate
from tests.helpers.cluster_clients import command_calls
from tests.helpers.deployments import DEPLOYMENT, not_on_cluster, opened_again, sync_client
from tests.helpers.partitions import connect
from tests.helpers.service_process import Service

DAY = timedelta(days=1)
PARTITIONS = Partitions(16)
OF_16 = (
    "Redis has data of 16 partitions, but `REDIS_PARTITIONS` is {}. Set it to 16, or copy the data into another "
    "database with `jobstate copy`."
)
OF_1 = (
    "Redis has data of 1 partition, but `REDIS_PARTITIONS` is {}. Set it to 1, or copy the data into another database "
    "with `jobstate copy`."
)
Connect = Callable[[int], JobStateManager]
of_one_partition = not_on_cluster("a single partition is not for a cluster")
#: Another number that the deployment allows.
OTHER = 8 if DEPLOYMENT == "cluster" else 1
#: The keys with the version: on a cluster each partition has its own only.
COMMON_VERSION = "{p0}:version" if DEPLOYMENT == "cluster" else "jobs:version"
VERSIONS = {*(one.version for one in PARTITIONS), COMMON_VERSION}
#: The partition of the job `a`.
HOME = PARTITIONS.of("a")
#: What is written again if it alone is lost: on a cluster, where a job is created in the same partition.
KEYS = (HOME.version, HOME.partitions) if DEPLOYMENT == "cluster" else ("jobs:version", "{p0}:partitions")


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    await redis.flushdb()  # with the number that a start on a cluster wrote
    yield redis
    await redis.flushdb()  # the other fixtures check the number of partitions that the suite runs with


@pytest.fixture
def with_partitions(pool: BlockingConnectionPool, redis: Redis) -> Connect:
    """Return jobs in so many partitions, as a process that starts has them."""
    return lambda count: JobStateManager(connect(opened_again(pool, count), partitions=count), ttl=DAY)


async def held(redis: Redis) -> dict[str, Any]:
    return {name.decode(): await redis.dump(name) async for name in redis.scan_iter(count=1000)}


async def is_refused(jobs: JobStateManager, words: str) -> None:
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        *(lambda: jobs.create_job("a", 1), lambda: jobs.get_job("a"), lambda: jobs.get_stats(), lambda: jobs.sweep()),
        *(lambda: jobs.ping(), lambda: jobs.write_version()),
    )
    for call in calls:
        with pytest.raises(PartitionsMismatch, match=re.escape(words)):
            await call()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)


async def disconnect(jobs: JobStateManager, url: str) -> None:
    """Close the connection of a process to the node of the job `a`, and return once the process may know."""
    pipeline = jobs._client.deployment.node_of(HOME).pipeline
    assert pipeline.transport
    host, port = pipeline.transport.get_extra_info("sockname")
    with sync_client(url) as other:
        other.client_kill_filter(addr=f"{host}:{port}")
    await wait_for(lambda: pipeline.transport is None)


async def test_a_start_on_an_empty_database_writes_version_and_number_in_all_partitions(
    with_partitions: Connect, redis: Redis
) -> None:
    for _ in range(2):
        await with_partitions(16).write_version()
    numbers = {partition.partitions: b"16" for partition in PARTITIONS}
    assert {name: await redis.get(name) for name in await held(redis)} == numbers | dict.fromkeys(VERSIONS, b"2")


@of_one_partition
async def test_one_partition_has_no_number(with_partitions: Connect, redis: Redis) -> None:
    await with_partitions(1).write_version()
    await with_partitions(1).create_job("a", 1)
    assert not [name for name in await held(redis) if name.startswith("{")]
    assert not await redis.exists("jobs:partitions")


@pytest.mark.parametrize("count", [pytest.param(1, marks=of_one_partition), 8, 32])
async def test_data_of_another_number_of_partitions_is_neither_read_nor_changed(
    with_partitions: Connect, redis: Redis, count: int
) -> None:
    await with_partitions(16).create_job("a", 1)
    before = await held(redis)
    await is_refused(with_partitions(count), OF_16.format(count))
    assert await held(redis) == before
    assert await with_partitions(16).get_job("a")


@of_one_partition
async def test_data_of_one_partition_is_refused_by_several(with_partitions: Connect, redis: Redis) -> None:
    await with_partitions(1).write_version()
    before = await held(redis)
    await is_refused(with_partitions(16), OF_1.format(16))
    assert await held(redis) == before


@of_one_partition
async def test_jobs_of_one_partition_are_found_without_a_version(with_partitions: Connect, redis: Redis) -> None:
    """As a program leaves them that uses the library without the service."""
    await with_partitions(1).create_job("a", 1)
    assert not await redis.exists("jobs:version")
    await is_refused(with_partitions(16), OF_1.format(16))


@of_one_partition
async def test_a_lost_version_of_the_only_partition_does_not_hide_the_number(
    with_partitions: Connect, redis: Redis
) -> None:
    await with_partitions(16).create_job("a", 1)
    await redis.delete("jobs:version")
    await is_refused(with_partitions(1), OF_16.format(1))
    await with_partitions(16).write_version()
    assert await redis.get("jobs:version") == b"2"


async def test_the_first_change_writes_the_number_before_it(with_partitions: Connect, redis: Redis) -> None:
    jobs = with_partitions(16)
    assert await jobs.get_job("a") is None
    assert (await jobs.get_stats()).statuses["pending"] == 0
    assert await held(redis) == {}  # a look writes nothing

    await jobs.create_job("a", 1)

    assert await redis.get("{p0}:partitions") == b"16"


async def test_a_number_that_is_lost_is_written_again(
    with_partitions: Connect, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = with_partitions(16)
    await jobs.create_job("a", 1)
    await redis.flushdb()
    monkeypatch.setattr("service.store.server_clock.CLOCK_MAX_AGE", 0.0)
    await jobs.get_job("a")
    await jobs.create_job("a", 1)
    assert await redis.get("{p0}:partitions") == b"16"


async def test_the_first_change_after_the_clock_is_read_again_writes_a_lost_number_before_it(
    with_partitions: Connect, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = with_partitions(16)
    await jobs.create_job("a", 1)
    await redis.flushdb()
    await with_partitions(OTHER).create_job("b", 1)
    before = await held(redis)
    monkeypatch.setattr("service.store.server_clock.CLOCK_MAX_AGE", 0.0)
    with pytest.raises(PartitionsMismatch):
        await jobs.create_job("a", 1)
    assert await held(redis) == before

    await redis.flushdb()
    await jobs.create_job("a", 1)
    assert await redis.get("{p0}:partitions") == b"16"


@pytest.mark.parametrize("is_idle", [False, True], ids=["in use", "in the pool"])
async def test_a_change_over_a_new_connection_first_writes_what_is_lost(
    with_partitions: Connect, redis: Redis, store_url: str, monkeypatch: pytest.MonkeyPatch, is_idle: bool
) -> None:
    jobs = with_partitions(16)
    await jobs.create_job("a", 1)
    await redis.flushdb()
    await with_partitions(OTHER).write_version()
    before = await held(redis)
    if is_idle:
        monkeypatch.setattr("service.store.channel.IDLE_TIMEOUT", 0.0)
        await wait_for(lambda: jobs._client.deployment.node_of(HOME).pipeline._channel is None)
    await disconnect(jobs, store_url)
    with pytest.raises(PartitionsMismatch, match=f"of {OTHER} partition"):
        await jobs.create_job("a", 1)
    assert await held(redis) == before

    await redis.flushdb()
    await disconnect(jobs, store_url)
    await jobs.create_job("a", 1)

    deployment = jobs._client.deployment
    wanted = {COMMON_VERSION: b"2"}
    for partition in deployment.partitions_on(deployment.node_of(HOME)):
        wanted |= {partition.version: b"2", partition.partitions: b"16"}
    assert {name: await redis.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_that_alone_is_lost_is_written_over_a_new_connection(
    with_partitions: Connect, redis: Redis, store_url: str, key: str
) -> None:
    jobs = with_partitions(16)
    await jobs.create_job("a", 1)
    value = await redis.getdel(key)
    assert value is not None
    if key == "{p0}:partitions":
        await redis.delete("jobs:version")
    await disconnect(jobs, store_url)
    await jobs.create_job(next(f"b{n}" for n in itertools.count() if PARTITIONS.of(f"b{n}") is HOME), 1)
    assert await redis.get(key) == value


async def test_of_services_that_start_at_once_with_different_numbers_one_number_wins(
    with_partitions: Connect, redis: Redis
) -> None:
    managers = {count: with_partitions(count) for count in (OTHER, 2, 16, 64)}
    await asyncio.gather(*(jobs.get_job("a") for jobs in managers.values()))  # each has seen an empty database

    results = await asyncio.gather(*(jobs.write_version() for jobs in managers.values()), return_exceptions=True)

    [winner] = [count for count, result in zip(managers, results, strict=True) if result is None]
    assert sum(isinstance(result, PartitionsMismatch) for result in results) == 3
    assert (int(await redis.get("{p0}:partitions") or 1), await redis.get(COMMON_VERSION)) == (winner, b"2")


@pytest.mark.parametrize("count", [pytest.param(1, marks=of_one_partition), 16])
async def test_a_newer_version_is_reported_before_the_number(
    with_partitions: Connect, redis: Redis, count: int
) -> None:
    await redis.set(COMMON_VERSION, 3)
    await redis.set("{p0}:partitions", 4)
    for call in (with_partitions(count).get_job("a"), with_partitions(count).write_version()):
        with pytest.raises(DataVersionUnsupported, match="of version 3"):
            await call


@not_on_cluster("data of version 1 was on one Redis")
async def test_version_1_is_refused_by_several_partitions(with_partitions: Connect, redis: Redis) -> None:
    await redis.set(V1_KEYS[0], 1)
    for call in (with_partitions(16).create_job("a", 1), with_partitions(16).write_version()):
        with pytest.raises(DataVersionUnsupported, match="of version 1"):
            await call
    assert set(await held(redis)) == {V1_KEYS[0]}


@pytest.mark.parametrize("count", [pytest.param(1, marks=of_one_partition), 16])
async def test_an_unreadable_number_is_corrupt(with_partitions: Connect, redis: Redis, count: int) -> None:
    await redis.set("{p0}:partitions", "many")
    with pytest.raises(StoreCorrupt, match=r"\{p0\}:partitions holds b'many' instead of a number"):
        await with_partitions(count).create_job("a", 1)


@pytest.mark.usefixtures("only_caller")
@of_one_partition
async def test_several_partitions_that_are_known_cost_a_create_no_further_call(
    with_partitions: Connect, redis: Redis
) -> None:
    async def calls() -> int:
        return (await command_calls(redis)).total()

    costs = []
    for count in (16, 1):
        await redis.flushdb()
        jobs = with_partitions(count)
        await jobs.write_version()
        await jobs.create_job("a", 1, "c", slate_id="s")
        before = await calls()
        await jobs.create_job("b", 1, "c", slate_id="s")
        costs.append(await calls() - before)
    assert costs[0] == costs[1]


def test_a_service_with_another_number_says_so_and_serves_nothing(store_url: str, tmp_path: Path) -> None:
    with sync_client(store_url) as redis:
        redis.flushdb()
        for name, number in (*((name, 2) for name in VERSIONS), *((one.partitions, 16) for one in PARTITIONS)):
            redis.set(name, number)
        before = set(redis.scan_iter())
        with Service(tmp_path, REDIS_URL=store_url, REDIS_PARTITIONS="4") as service:
            for path in ("/v1/jobs/a", "/v1/stats", "/ready"):
                rejected = httpx.get(service.url + path, timeout=10)
                assert (rejected.status_code, rejected.json()["title"]) == (503, "Partitions mismatch")
                assert rejected.json()["type"] == "urn:jobstate:problem:partitions-mismatch"
                assert rejected.json()["detail"] == OF_16.format(4)
            result = jobstate("", "doctor", "--redis-url", store_url, "--redis-partitions", "4")
            assert (result.code, OF_16.format(4) in result.err) == (3, True), result
        assert set(redis.scan_iter()) == before
        redis.flushdb()
    assert service.log.count(PARTITIONS_MISMATCH) == 1
    assert OF_16.format(4) in service.log
