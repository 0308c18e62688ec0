"""The doctor checks each of several partitions, and what they must have in common."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain.errors import StoreCorrupt
from service.store.client import StoreClient
from service.store.doctor import CheckStats, Issue, check, partition_checks
from service.store.jobs import JobStateManager
from service.store.partition_count import read_partition_count
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from tests.helpers.cli_process import jobstate
from tests.helpers.consistency import inconsistencies
from tests.helpers.deployments import DEPLOYMENT, not_on_cluster

pytestmark = [pytest.mark.corrupts_keys, pytest.mark.partitions(16)]

PARTITIONS = Partitions(16)
FIRST, LAST = PARTITIONS.first, PARTITIONS[15]
IDS = [f"j{number}" for number in range(64)]
HOME = PARTITIONS.of("j0")
OTHER = PARTITIONS[(HOME.number + 1) % 16]
Damage = Callable[[Redis], Awaitable[Any]]


@pytest.fixture
async def store(client: StoreClient, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Redis:
    """Jobs in every partition, settings of a queue, and a drain."""
    monkeypatch.setattr(partition_checks, "CHANGE_TIME", 0.01)
    jobs, queues = JobStateManager(client, ttl=timedelta(days=7)), QueueManager(client)
    for number, job_id in enumerate(IDS):
        await jobs.create_job(job_id, 1, "c", queue="q", slate_id="s", delay_seconds=60 * (number % 2))
    await queues.configure_queue("q", max_running=5)
    await queues.configure_queue("paused", paused=True)
    await queues.start_drain(60)
    return redis


async def issues(client: StoreClient, *, repair: bool = False, stats: CheckStats | None = None) -> list[Issue]:
    return [issue async for issue in check(client, repair=repair, rate=None, stats=stats)]


async def contents(redis: Redis) -> dict[bytes, tuple[bytes | None, int]]:
    return {name: (await redis.dump(name), await redis.pexpiretime(name)) for name in await redis.keys()}


def kinds(found: list[Issue]) -> list[tuple[str, str]]:
    return sorted((str(one.type), one.key) for one in found)


async def test_every_partition_is_checked_and_sound(client: StoreClient, store: Redis) -> None:
    stats = CheckStats()
    assert await issues(client, stats=stats) == []
    assert (stats.jobs, stats.counted) == (64, True)
    assert await inconsistencies(store, PARTITIONS) == []
    assert len({PARTITIONS.of(job_id) for job_id in IDS}) == 16


#: What is damaged, how, and the issues. All are repaired.
REPAIRABLE: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "list entry lost": (
        lambda redis: redis.zrem(HOME.by_created("q", "pending"), "j0"),
        [
            ("count", HOME.by_created("q", "pending")),
            *[("missing", HOME.by_created("q", "pending")), ("stray", HOME.queue_names)],
        ],
    ),
    "entry of another partition's job": (
        lambda redis: redis.zadd(OTHER.leases, {"j0": 2**50}),
        [("stray", OTHER.leases)],
    ),
    "queue without jobs": (lambda redis: redis.sadd(OTHER.queue_names, "r"), [("stray", OTHER.queue_names)]),
    "clock": (lambda redis: redis.hdel(LAST.meta, "clock"), [("clock", LAST.meta)]),
    "record for ever": (lambda redis: redis.persist(HOME.job("j0")), [("lifetime", HOME.job("j0"))]),
    "number that expires": (lambda redis: redis.expire(LAST.partitions, 9), [("lifetime", LAST.partitions)]),
    "lost number": (lambda redis: redis.delete(FIRST.partitions), [("partition", FIRST.partitions)]),
    "lost version": (lambda redis: redis.delete(LAST.version), [("partition", LAST.version)]),
    "settings of a queue lost": (lambda redis: redis.hdel(LAST.queues, "q"), [("partition", LAST.queues)]),
    "other settings of a queue": (lambda redis: redis.hset(LAST.queues, "q", "1:7"), [("partition", LAST.queues)]),
    "settings of another queue": (lambda redis: redis.hset(LAST.queues, "z", "1:"), [("partition", LAST.queues)]),
    "lost drain": (lambda redis: redis.hdel(LAST.meta, "drain"), [("partition", LAST.meta)]),
    "drain of the first lost": (
        lambda redis: redis.hdel(FIRST.meta, "drain"),
        [("partition", one.meta) for one in PARTITIONS[1:]],
    ),
}
#: The version of all partitions together.
OF_ONE_REDIS: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "lost version of all": (lambda redis: redis.delete("jobs:version"), [("partition", "jobs:version")]),
}
of_one_redis = not_on_cluster("each partition of a cluster has its own version only")


@pytest.mark.parametrize("name", [*REPAIRABLE, *(pytest.param(name, marks=of_one_redis) for name in OF_ONE_REDIS)])
async def test_issues_of_a_partition_are_reported_without_changes_and_then_repaired(
    client: StoreClient, store: Redis, name: str
) -> None:
    damage, expected = (REPAIRABLE | OF_ONE_REDIS)[name]
    await damage(store)
    before = await contents(store)

    found = await issues(client)

    assert kinds(found) == sorted(expected)
    assert not any(one.repaired for one in found)
    assert await contents(store) == before
    assert all(one.repaired for one in await issues(client, repair=True))
    assert (await issues(client), await inconsistencies(store, PARTITIONS)) == ([], [])


async def move_record(redis: Redis) -> None:
    """Move a record into a partition where the service does not find it."""
    name = HOME.job("j0")
    record, expires = await redis.dump(name), await redis.pexpiretime(name)
    assert await redis.delete(name) == 1
    await redis.restore(OTHER.job("j0"), expires, record, absttl=True)


async def move_job(redis: Redis) -> None:
    """Move a record with some of its index entries."""
    await move_record(redis)
    await redis.zadd(OTHER.by_created("q", "pending"), {"j0": 1})


#: On a cluster, where each node is checked for its partitions, no script runs with another number.
NUMBER_ISSUE = "setting" if DEPLOYMENT == "cluster" else "partition"
REPORT_ONLY: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "job in another partition": (move_job, [("partition", OTHER.job("j0"))]),
    "another number": (lambda redis: redis.set(FIRST.partitions, 8), [(NUMBER_ISSUE, FIRST.partitions)]),
    "another version": (lambda redis: redis.set(FIRST.version, 1), [("partition", FIRST.version)]),
    "gate of another type": (lambda redis: redis.hset(HOME.gate("q"), "x", "1"), [("type", HOME.gate("q"))]),
    "aim of another type": (lambda redis: redis.hset(LAST.aim("x"), "x", "1"), [("type", LAST.aim("x"))]),
    "key of another type": (
        lambda redis: redis.sadd(FIRST.fsync, "x"),
        [("type", FIRST.fsync)],
    ),
    "record of one partition": (lambda redis: redis.hset("job:a", "status", "pending"), [("foreign", "job:a")]),
    "index of one partition": (lambda redis: redis.zadd("jobs:leases", {"a": 1}), [("foreign", "jobs:leases")]),
    "root of another number": (lambda redis: redis.zadd("{p4}:leases", {"a": 1}), [("foreign", "{p4}:leases")]),
}


@pytest.mark.parametrize("name", REPORT_ONLY)
async def test_what_no_record_decides_is_reported_and_not_changed(client: StoreClient, store: Redis, name: str) -> None:
    damage, expected = REPORT_ONLY[name]
    await damage(store)
    changed = dict(expected)
    before = {name: value for name, value in (await contents(store)).items() if name.decode() in changed.values()}

    found = await issues(client, repair=True)

    assert set(expected) <= set(kinds(found))
    assert not any(one.repaired for one in found if (str(one.type), one.key) in expected)
    assert before == {name: value for name, value in (await contents(store)).items() if name in before}


async def test_a_job_in_another_partition_gets_no_index_entries_there(client: StoreClient, store: Redis) -> None:
    """Otherwise it would be claimed, and its worker could not finish it."""
    await move_record(store)
    await issues(client, repair=True)
    for index in (OTHER.by_created("q", "pending"), OTHER.by_expiry):
        assert not [
            member for member in await store.zrange(index, 0, -1) if member.startswith(b"j0|") or member == b"j0"
        ]


async def test_a_change_of_settings_that_is_under_way_is_no_issue(
    client: StoreClient, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made in the first partition, and in the others a moment later."""
    await store.hset(FIRST.queues, "q", "1:5")

    async def finish(_: float) -> None:
        for partition in PARTITIONS:
            await store.hset(partition.queues, "q", "1:5")

    monkeypatch.setattr(partition_checks.asyncio, "sleep", finish)
    assert await partition_checks.find_issues(client, repair=False) == []


async def test_a_first_start_that_is_under_way_is_no_issue(
    client: StoreClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes one version and one number of partitions, and those of the other partitions a moment later."""
    await redis.flushdb()
    await redis.set("{p0}:version" if DEPLOYMENT == "cluster" else "jobs:version", 2)
    await redis.set("{p0}:partitions", 16)

    async def finish(_: float) -> None:
        await client.write_version()

    monkeypatch.setattr(partition_checks.asyncio, "sleep", finish)
    assert await partition_checks.find_issues(client, repair=False) == []


async def test_no_data_has_no_issues(client: StoreClient, redis: Redis) -> None:
    await redis.flushdb()
    assert await issues(client, repair=True) == []
    assert await redis.keys() == []


async def test_the_number_of_partitions_is_read_from_redis(store: Redis, store_url: str) -> None:
    assert await read_partition_count(store_url) == 16
    checked = jobstate("", "doctor", "--redis-url", store_url)
    assert (checked.code, checked.err) == (0, "")
    assert "64 jobs and " in checked.out.decode()
    end = " on 3 nodes: 127.0.0.1:" if DEPLOYMENT == "cluster" else "\n"
    assert f"\n16 partitions{end}" in checked.out.decode()
    document = jobstate("", "doctor", "--redis-url", store_url, "--json", REDIS_PARTITIONS="16").out
    assert b'"partitions":16' in document

    await store.flushdb()
    assert await read_partition_count(store_url) == (16 if DEPLOYMENT == "cluster" else 1)
    for odd in ("many", "3"):
        await store.set("{p0}:partitions", odd)
        with pytest.raises(StoreCorrupt):
            await read_partition_count(store_url)
