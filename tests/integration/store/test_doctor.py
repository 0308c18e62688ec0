"""The doctor reports and repairs every kind of issue, and reports nothing about a consistent store."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.errors import Conflict, DataVersionUnsupported, JobNotFound, StoreCorrupt
from service.domain.jobs import JobFilter, Progress
from service.store import scripts
from service.store.client import StoreClient
from service.store.data_version import DATA_VERSION
from service.store.doctor import CheckStats, Issue, IssueType, check
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import PARTITION, STATUS_OF_STATE
from service.store.queues import QueueManager
from tests.helpers.consistency import doctor_issues, inconsistencies
from tests.helpers.deployments import DEPLOYMENT, not_on_cluster
from tests.helpers.partitions import PARTITIONS, connect, id_in, job_key

pytestmark = pytest.mark.corrupts_keys

HOUR = 3600 * 1000
#: The partition of all jobs here: one for which the settings of the first one count, if there are several.
FIRST, HOME = PARTITIONS.first, PARTITIONS[-1]
NAMES = ("leased", "pending", "running", "completed", "failed", "cancelled", "deleted", "delayed", "prioritized")
LEASED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, DELETED, DELAYED, PRIORITIZED = (
    id_in(HOME, name) for name in NAMES
)
#: The key with the version of the data there.
VERSION = HOME.version if DEPLOYMENT == "cluster" else PARTITION.version
#: The id of a job that is not there.
ODD = id_in(HOME, "odd")
Damage = Callable[[Redis], Awaitable[Any]]


@pytest.fixture
async def store(jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis) -> Redis:
    """A store with a job in every state, and a key of every kind."""
    about = {"queue": "q", "slate_id": "s", "correlation_id": "c"}
    for name in (LEASED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED):
        await jobs.create_job(name, {"n": 1}, **about)
    await jobs.create_job(DELETED, {"n": 1}, **about)
    await jobs.create_job(DELAYED, {"n": 1}, delay_seconds=3600, **about)
    claim = await leases.claim_job(["q"], "w", claim_key="k")
    assert claim
    assert claim.job.job_id == LEASED
    await jobs.create_job(PRIORITIZED, {"n": 1}, priority=-10, **about)
    for name in (RUNNING, COMPLETED):
        await jobs.update_job_status(name, "running", progress=Progress(1))
    await jobs.update_job_status(COMPLETED, "completed", {"r": 1})
    await jobs.update_job_status(FAILED, "failed", error="why")
    await jobs.cancel_job(CANCELLED)
    await jobs.cancel_job(DELETED)
    await jobs.delete_job(DELETED)
    await queues.configure_queue("q", max_running=5)
    await queues.start_drain(60)
    await jobs.write_version()
    await redis.set("other-key", "1", ex=3600)
    return redis


def expire(name: str) -> Damage:
    return lambda redis: redis.pexpire(name, HOUR)


async def list_without_jobs(redis: Redis) -> None:
    await redis.zadd(list_of("pending", "r"), {"gone": 1})
    await redis.sadd(HOME.queue_names, "r")


async def contents(redis: Redis) -> dict[bytes, tuple[bytes | None, int]]:
    return {name: (await redis.dump(name), await redis.pexpiretime(name)) for name in await redis.keys()}


def kinds(findings: list[Issue]) -> list[tuple[str, str]]:
    return sorted((str(one.type), one.key) for one in findings)


async def expiry_member(redis: Redis, job_id: str) -> Any:
    [member] = [one for one in await redis.zrange(HOME.by_expiry, 0, -1) if one.startswith(f"{job_id}|".encode())]
    return member


async def lose_expiry_entry(redis: Redis) -> None:
    await redis.zrem(HOME.by_expiry, await expiry_member(redis, COMPLETED))


async def delay_expiry(redis: Redis) -> None:
    await redis.zincrby(HOME.by_expiry, HOUR, await expiry_member(redis, COMPLETED))


async def change_expiry_tags(redis: Redis) -> None:
    """Replace the expiry entry of a job by one without its tags."""
    member = await expiry_member(redis, COMPLETED)
    score = await redis.zscore(HOME.by_expiry, member)
    await redis.zrem(HOME.by_expiry, member)
    await redis.zadd(HOME.by_expiry, {member.rpartition(b"|")[0] + b"|": score or 0})


async def change_creation(redis: Redis) -> None:
    """Replace an entry of `tags` by one with another creation time."""
    [member] = [
        one for one in await redis.zrange(HOME.tags, 0, -1) if one.endswith(b":" + PENDING.encode()) and one[:1] == b"s"
    ]
    tag, created, job_id = member.split(b":")
    await redis.zrem(HOME.tags, member)
    await redis.zadd(HOME.tags, {b":".join((tag, b"%016d" % (int(created) - 1), job_id)): 0})


async def move_to_another_state(redis: Redis) -> None:
    score = await redis.zscore(list_of("unleased"), RUNNING)
    await redis.zrem(list_of("unleased"), RUNNING)
    await redis.zadd(list_of("pending"), {RUNNING: score or 0})


def list_of(state: str, queue: str = "q") -> str:
    return HOME.by_created(queue, state)


def counted(state: str, queue: str = "q") -> tuple[str, str]:
    """Return the issue of a wrong count."""
    return "count", list_of(state, queue)


LIST = list_of("completed")
#: What is damaged, how, and all issues that the doctor must report.
REPAIRABLE: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "list entry lost": (lambda redis: redis.zrem(LIST, COMPLETED), [counted("completed"), ("missing", LIST)]),
    "list entry of another creation": (lambda redis: redis.zincrby(LIST, -1, COMPLETED), [("score", LIST)]),
    "list entry without a job": (
        lambda redis: redis.zadd(LIST, {"gone": 1}),
        [counted("completed"), ("stray", LIST)],
    ),
    "list of a queue without jobs": (
        lambda redis: redis.zadd(list_of("pending", "r"), {"gone": 1}),
        [("stray", list_of("pending", "r"))],
    ),
    "queue without jobs": (
        lambda redis: redis.sadd(HOME.queue_names, "r"),
        [("stray", HOME.queue_names)],
    ),
    "queue without jobs but with a list": (
        list_without_jobs,
        [counted("pending", "r"), ("stray", list_of("pending", "r"))],
    ),
    "in another state": (
        move_to_another_state,
        [
            *[counted("running"), ("missing", list_of("unleased"))],
            *[counted("pending"), ("stray", list_of("pending"))],
        ],
    ),
    "expiry entry lost": (lose_expiry_entry, [("missing", HOME.by_expiry)]),
    "expiry entry of another time": (delay_expiry, [("score", HOME.by_expiry)]),
    "expiry entry with other tags": (
        change_expiry_tags,
        [("missing", HOME.by_expiry), ("stray", HOME.by_expiry)],
    ),
    "expiry entry of another form": (
        lambda redis: redis.zadd(HOME.by_expiry, {"odd": 2**50}),
        [("stray", HOME.by_expiry)],
    ),
    "tag lost": (lambda redis: redis.zremrangebyrank(HOME.tags, 0, 0), [("missing", HOME.tags)]),
    "tag of another creation": (change_creation, [("missing", HOME.tags), ("stray", HOME.tags)]),
    "tag without a job": (
        lambda redis: redis.zadd(HOME.tags, {"s00:0000000000000001:x": 0}),
        [("stray", HOME.tags)],
    ),
    "delay lost": (
        lambda redis: redis.zrem(HOME.delays, f"q:{DELAYED}"),
        [("missing", HOME.delays)],
    ),
    "delay without a job": (
        lambda redis: redis.zadd(HOME.delays, {"q:gone": 2**50}),
        [("stray", HOME.delays)],
    ),
    "delay of a job that runs": (
        lambda redis: redis.zadd(HOME.delays, {f"q:{RUNNING}": 2**50}),
        [("stray", HOME.delays)],
    ),
    "delay until another time": (
        lambda redis: redis.zincrby(HOME.delays, 1000, f"q:{DELAYED}"),
        [("score", HOME.delays)],
    ),
    "priority lost": (
        lambda redis: redis.zrem(HOME.by_priority("q"), PRIORITIZED),
        [("missing", HOME.by_priority("q"))],
    ),
    "priority of another job": (
        lambda redis: redis.zadd(HOME.by_priority("q"), {PENDING: 1}),
        [("stray", HOME.by_priority("q"))],
    ),
    "priority of another queue": (
        lambda redis: redis.zadd(HOME.by_priority("r"), {PRIORITIZED: 1}),
        [("stray", HOME.by_priority("r"))],
    ),
    "another priority": (
        lambda redis: redis.zincrby(HOME.by_priority("q"), 1, PRIORITIZED),
        [("score", HOME.by_priority("q"))],
    ),
    "lease lost": (lambda redis: redis.zrem(HOME.leases, LEASED), [("missing", HOME.leases)]),
    "lease of another end": (lambda redis: redis.zincrby(HOME.leases, 1, LEASED), [("score", HOME.leases)]),
    "lease of a job without one": (
        lambda redis: redis.zadd(HOME.leases, {RUNNING: 2**50}),
        [("stray", HOME.leases)],
    ),
    "lease without a job": (lambda redis: redis.zadd(HOME.leases, {"gone": 2**50}), [("stray", HOME.leases)]),
    "record deleted by hand": (
        lambda redis: redis.delete(job_key(COMPLETED)),
        [counted("completed"), ("stray", LIST), ("stray", HOME.by_expiry), *[("stray", HOME.tags)] * 2],
    ),
    "record for ever": (
        lambda redis: redis.persist(job_key(PENDING)),
        [("lifetime", job_key(PENDING))],
    ),
    "record for too short": (
        lambda redis: redis.pexpire(job_key(FAILED), HOUR),
        [("lifetime", job_key(FAILED))],
    ),
    **{
        f"{name} for a while": (expire(name), [("lifetime", name)])
        for name in (
            *(LIST, HOME.by_expiry, HOME.tags, HOME.delays, HOME.leases, HOME.queue_names),
            *(HOME.queues, HOME.meta, VERSION, HOME.version, HOME.events),
        )
    },
    "deletions for ever": (
        lambda redis: redis.persist(HOME.deletions),
        [("lifetime", HOME.deletions)],
    ),
    "clock behind": (
        lambda redis: redis.hincrby(HOME.meta, "clock", -(10**6)),
        [("clock", HOME.meta)],
    ),
    "clock lost": (lambda redis: redis.hdel(HOME.meta, "clock"), [("clock", HOME.meta)]),
    "clock that is no number": (
        lambda redis: redis.hset(HOME.meta, "clock", "odd"),
        [("clock", HOME.meta)],
    ),
}


@pytest.mark.parametrize("name", REPAIRABLE)
async def test_issues_are_reported_without_changes_and_then_repaired(
    store: Redis, pool: BlockingConnectionPool, name: str
) -> None:
    damage, expected = REPAIRABLE[name]
    await damage(store)
    before = await contents(store)

    found = await doctor_issues(pool)

    assert kinds(found) == sorted(expected)
    assert not any(one.repaired for one in found)
    assert await contents(store) == before

    repaired = await doctor_issues(pool, repair=True)
    assert {one.type for one in repaired} <= {one.type for one in found} - {IssueType.COUNT}
    assert [one.repaired for one in repaired] == [True] * len(repaired) != []
    assert (await doctor_issues(pool), await inconsistencies(store)) == ([], [])
    assert await store.get("other-key") == b"1"


#: The keys whose content the doctor can build anew from the records. Each has entries in `store`.
REBUILT = {
    **{f"list of {state} jobs": [list_of(state)] for state in sorted(STATUS_OF_STATE)},
    **{
        name.removeprefix(HOME.root): [name]
        for name in (
            *(HOME.by_expiry, HOME.tags, HOME.delays, HOME.leases, HOME.queue_names, HOME.by_priority("q")),
            HOME.meta,
        )
    },
}
REBUILT["all of them"] = [name for names in REBUILT.values() for name in names]


@pytest.mark.parametrize("name", REBUILT)
async def test_a_deleted_key_is_built_anew_from_the_records(
    store: Redis, pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, name: str
) -> None:
    await QueueManager(jobs._client).end_drain()
    before, stats = await contents(store), await jobs.get_stats()
    pages = [await jobs.list_jobs(filters) for filters in (JobFilter(), JobFilter(slate_id="s"), JobFilter(queue="q"))]
    assert await store.delete(*REBUILT[name]) == len(REBUILT[name])

    assert all(one.repaired for one in await doctor_issues(pool, repair=True))

    assert (await doctor_issues(pool), await inconsistencies(store)) == ([], [])
    assert await contents(store) == before
    assert (await jobs.get_stats()).queues == stats.queues
    assert [
        await jobs.list_jobs(filters) for filters in (JobFilter(), JobFilter(slate_id="s"), JobFilter(queue="q"))
    ] == pages
    claim = await leases.claim_job(["q"], "w")
    assert claim is not None
    assert claim.job.job_id == PENDING


@pytest.mark.parametrize("name", [name for name in REBUILT if name != "all of them"])
async def test_what_changed_while_a_key_had_another_type_is_repaired_once_it_is_removed(
    store: Redis,
    store_client: StoreClient,
    pool: BlockingConnectionPool,
    jobs: JobStateManager,
    leases: LeaseManager,
    name: str,
) -> None:
    """Changes whose last writes have failed stand; the reaper and the sweep put off what they cannot do."""
    [key] = REBUILT[name]
    await QueueManager(store_client).end_drain()
    short_lived = JobStateManager(store_client, ttl=timedelta(milliseconds=1))
    await short_lived.create_job(id_in(HOME, "expired"), 1, queue="q", slate_id="s")
    await store.delete(key)
    await store.rpush(key, "odd")

    changes: list[Callable[[], Awaitable[Any]]] = [
        lambda: jobs.create_job(id_in(HOME, "new"), 1, queue="q", slate_id="s"),
        lambda: jobs.create_job(id_in(HOME, "later"), 1, queue="q", delay_seconds=60),
        lambda: leases.claim_job(["q"], "w"),
        lambda: jobs.cancel_job(DELAYED),
        lambda: jobs.cancel_job(PRIORITIZED),
        lambda: jobs.update_job_status(RUNNING, "completed", 1),
        *(partial(jobs.delete_job, job_id) for job_id in (COMPLETED, FAILED, CANCELLED)),
        jobs.sweep,
    ]
    failed = 0
    for change in changes:
        try:
            await change()
        except StoreCorrupt:
            failed += 1
    assert failed

    found = await doctor_issues(pool, repair=True)
    assert [(one.type, one.key) for one in found if not one.repaired] == [("type", key)]
    await store.delete(key)
    assert all(one.repaired for one in await doctor_issues(pool, repair=True))
    assert await doctor_issues(pool) == []
    await jobs.sweep()
    assert (await doctor_issues(pool), await inconsistencies(store)) == ([], [])


async def test_a_delay_that_ended_while_its_index_was_lost_is_ended(
    redis: Redis, pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager
) -> None:
    job_id = id_in(HOME, "j")
    job = (await jobs.create_job(job_id, 1, queue="q", delay_seconds=1)).job
    await redis.hset(job_key(job_id), "available_at", job.created_at)  # as if time had passed
    await redis.delete(HOME.delays)

    found = await doctor_issues(pool, repair=True)

    assert kinds(found) == [("missing", list_of("pending")), ("stray", list_of("delayed"))]
    assert (await doctor_issues(pool), await inconsistencies(redis)) == ([], [])
    assert await leases.claim_job(["q"], "w")


REPORT_ONLY: dict[str, tuple[Damage, list[tuple[str, str]]]] = {
    "unknown key": (lambda redis: redis.set("jobs:odd", 1), [("foreign", "jobs:odd")]),
    "name that is no text": (lambda redis: redis.set(b"jobs:\xff", 1), [("foreign", "jobs:\\xff")]),
    "list of an unknown state": (
        lambda redis: redis.zadd("jobs:by_created:q:odd", {"a": 1}),
        [("foreign", "jobs:by_created:q:odd")],
    ),
    "list of version 1": (
        lambda redis: redis.zadd("jobs:list:q:pending", {"a": 1}),
        [("foreign", "jobs:list:q:pending")],
    ),
    "job of no id": (lambda redis: redis.hset("job:a b", "status", "odd"), [("foreign", "job:a b")]),
    "job that is no hash": (lambda redis: redis.set(job_key(ODD), 1), [("type", job_key(ODD))]),
    "index that is no sorted set": (
        lambda redis: redis.set(list_of("pending", "z"), 1),
        [("type", list_of("pending", "z"))],
    ),
    "index that is no sorted set, for a while": (
        lambda redis: redis.set(list_of("pending", "z"), 1, ex=HOUR),
        [("type", list_of("pending", "z"))],
    ),
    "half a record": (
        lambda redis: redis.hset(job_key(ODD), "result", 1),
        [("record", job_key(ODD))],
    ),
    "record that has lost its status": (
        lambda redis: redis.hdel(job_key(FAILED), "status"),
        [("record", job_key(FAILED))],
    ),
    "record of no status": (lambda redis: redis.hset(job_key(FAILED), "status", "odd"), [("record", job_key(FAILED))]),
    "record of no time": (
        lambda redis: redis.hset(job_key(FAILED), "updated_at", "now"),
        [("record", job_key(FAILED))],
    ),
    "record of a time that does not exist": (
        lambda redis: redis.hset(job_key(FAILED), "expires_at", "2026-13-25T12:00:00.000000Z"),
        [("record", job_key(FAILED))],
    ),
    "record with wrong tags": (
        lambda redis: redis.hset(job_key(FAILED), "slate_id", "t"),
        [("record", job_key(FAILED))],
    ),
    "record without input": (lambda redis: redis.hdel(job_key(FAILED), "input_params"), [("record", job_key(FAILED))]),
    "setting": (lambda redis: redis.hset(FIRST.queues, "q", "yes"), [("setting", FIRST.queues)]),
    "retention out of range": (
        lambda redis: redis.hset(FIRST.queues, mapping={"q": "0:::59:", "r": "0:1:31536001::"}),
        [("setting", FIRST.queues)],
    ),
    "end of a drain": (lambda redis: redis.hset(FIRST.meta, "drain", "yes"), [("setting", FIRST.meta)]),
}


@pytest.mark.parametrize("name", REPORT_ONLY)
async def test_foreign_and_unreadable_keys_are_reported_and_not_changed(
    store: Redis, pool: BlockingConnectionPool, name: str
) -> None:
    damage, expected = REPORT_ONLY[name]
    await damage(store)
    before = await contents(store)

    found = await doctor_issues(pool, repair=True)

    assert set(expected) <= set(kinds(found))
    assert not any(one.repaired for one in found)
    assert await contents(store) == before
    assert kinds(await doctor_issues(pool)) == kinds(found)


#: Keys that a partition has one of. With several partitions the settings of the first one count.
SHARED = dict.fromkeys(
    (
        *(HOME.by_expiry, HOME.tags, HOME.delays, HOME.leases, HOME.queue_names, HOME.events),
        *(HOME.meta, HOME.queues, FIRST.meta, FIRST.queues),
    )
)


@pytest.mark.parametrize("shared", SHARED)
async def test_a_shared_key_of_unexpected_type_hides_no_other_issue(
    store: Redis, pool: BlockingConnectionPool, shared: str
) -> None:
    await store.delete(shared)
    await store.rpush(shared, "odd")
    await store.zrem(LIST, COMPLETED)

    found = kinds(await doctor_issues(pool, repair=True))

    assert ("type", shared) in found
    assert ("missing", LIST) in found
    assert await store.lrange(shared, 0, -1) == [b"odd"]
    assert await store.zscore(LIST, COMPLETED) is not None


async def test_adding_a_job_to_its_index_removes_it_from_others_atomically(
    store: Redis, pool: BlockingConnectionPool
) -> None:
    await move_to_another_state(store)

    await connect(pool).run_script(scripts.CHECK_JOBS, HOME, ["repair", RUNNING])

    assert await store.zscore(list_of("unleased"), RUNNING) is not None
    assert await store.zscore(list_of("pending"), RUNNING) is None


@pytest.mark.parametrize(("counted_expired", "counted"), [(200, True), (2, False)])
async def test_expired_jobs_before_the_sweep_are_no_issues(
    pool: BlockingConnectionPool,
    redis: Redis,
    jobs: JobStateManager,
    monkeypatch: pytest.MonkeyPatch,
    counted_expired: int,
    counted: bool,
) -> None:
    """The doctor does not sweep. Where too many are not swept, it does not compare counts."""
    monkeypatch.setattr("service.store.doctor.counts.MAX_EXPIRED_COUNT", counted_expired)
    monkeypatch.setattr("service.store.doctor.expired._PAGE", 2)
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=30))
    await jobs.create_job(id_in(HOME, "lasting"), 1, "c", slate_id="s")
    for number in range(7):
        await short_lived.create_job(id_in(HOME, f"j{number}"), 1, "c", slate_id="s")
    recreated = id_in(HOME, "recreated")
    await jobs.create_job(recreated, 1, "c", slate_id="s")
    await short_lived.cancel_job(recreated)
    await asyncio.sleep(0.05)
    await jobs.create_job(recreated, 1, "c", slate_id="s")  # created again, while its expired entry is not swept yet
    at_one_time: dict[Any, float] = {
        member: 1 for member in await redis.zrange(HOME.by_expiry, 0, -1) if member[:1] == b"j"
    }
    await redis.zadd(HOME.by_expiry, {**at_one_time, "odd": 1})
    before = await contents(redis)

    stats = CheckStats()
    assert await doctor_issues(pool, repair=True, stats=stats) == []
    assert stats.counted is counted

    assert await contents(redis) == before
    assert await jobs.sweep() == 8
    assert (await doctor_issues(pool), await inconsistencies(redis)) == ([], [])


async def test_an_orphan_among_expired_jobs_is_found(
    pool: BlockingConnectionPool, redis: Redis, jobs: JobStateManager
) -> None:
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=30))
    expired, lost = id_in(HOME, "short_lived"), id_in(HOME, "lost")
    for name in (expired, lost):
        await short_lived.create_job(name, 1)
    await asyncio.sleep(0.05)
    await jobs.create_job(lost, 1)  # created again, before its expired entry is swept
    await redis.delete(job_key(lost))

    found = await doctor_issues(pool, repair=True)

    assert {one.member and one.member.split("|")[0] for one in found} == {lost}
    assert await redis.zscore(list_of("pending", "default"), expired) is not None


@pytest.mark.parametrize(
    "version", [DATA_VERSION + 1, pytest.param(1, marks=not_on_cluster("data of version 1 was on one Redis"))]
)
async def test_data_of_another_version_is_not_checked(store: Redis, pool: BlockingConnectionPool, version: int) -> None:
    await store.set(VERSION, version)
    await store.set("jobs:clock", 1)
    before = await contents(store)
    with pytest.raises(DataVersionUnsupported):
        await doctor_issues(pool, repair=True)
    assert await contents(store) == before


@pytest.mark.parametrize("is_list", [True, False])
async def test_an_unreadable_version_is_reported_alone(
    store: Redis, pool: BlockingConnectionPool, is_list: bool
) -> None:
    await store.delete(VERSION)
    await (store.rpush if is_list else store.set)(VERSION, "odd")
    await store.zrem(LIST, COMPLETED)
    before = await contents(store)
    assert kinds(await doctor_issues(pool, repair=True)) == [("setting", VERSION)]
    assert await contents(store) == before


async def test_the_record_of_an_expired_job_is_removed_and_gets_no_entries(
    store: Redis, pool: BlockingConnectionPool
) -> None:
    name = job_key(COMPLETED)
    await store.hset(name, "expires_at", "2020-01-01T00:00:00.000000Z")
    await store.persist(name)
    await lose_expiry_entry(store)

    assert kinds(await doctor_issues(pool)) == [("lifetime", name)]
    assert all(one.repaired for one in await doctor_issues(pool, repair=True))

    assert await store.exists(name) == 0
    assert (await doctor_issues(pool), await inconsistencies(store)) == ([], [])


async def test_keys_of_version_1_are_named_as_such(store: Redis, pool: BlockingConnectionPool) -> None:
    await store.set("jobs:clock", 1)
    [issue] = await doctor_issues(pool, repair=True)
    assert (issue.type, issue.key, "data version 1" in issue.detail) == ("foreign", "jobs:clock", True)


async def test_the_rate_limits_the_check(store: Redis, pool: BlockingConnectionPool) -> None:
    stats, started = CheckStats(), asyncio.get_running_loop().time()
    async for _ in check(connect(pool), rate=400, stats=stats):
        pytest.fail("nothing is wrong")
    took = asyncio.get_running_loop().time() - started

    assert (stats.jobs, stats.counted) == (8, True)
    assert (
        stats.entries == 8 * 4 + 1 + 1 + 1 + 1
    )  # list, expiry, two tags of each; by_priority; delays; leases; queue_names
    assert took > (stats.jobs + stats.entries) / 400


async def test_no_false_issue_and_no_damage_under_load(
    pool: BlockingConnectionPool, redis: Redis, jobs: JobStateManager, leases: LeaseManager
) -> None:
    """Repair continuously while jobs are created, claimed, updated, deleted, expire, and are swept."""
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=20))
    done, number = asyncio.Event(), itertools.count()

    async def run_client(name: int) -> None:
        while not done.is_set():
            job_id, manager = f"j{next(number) % 60}", (jobs, jobs, short_lived)[name % 3]
            with contextlib.suppress(Conflict, JobNotFound):
                await manager.create_job(job_id, 1, "c", slate_id=f"s{name}", queue="ab"[name % 2], max_attempts=2)
                claim = await leases.claim_job(["a", "b"], "w")
                if claim:
                    await leases.heartbeat(claim.job.job_id, claim.lease.token, progress=Progress(name))
                    await leases.release_job(claim.job.job_id, claim.lease.token, delay_seconds=name % 2)
                await jobs.cancel_job(job_id)
                await jobs.delete_job(job_id)

    async def sweep() -> None:
        while not done.is_set():
            await jobs.sweep()
            await asyncio.sleep(0.05)

    load = [asyncio.create_task(run_client(name)) for name in range(8)] + [asyncio.create_task(sweep())]
    stats, found = CheckStats(), []
    while (stats.jobs < 150 or stats.entries < 400) and not any(one.done() for one in load):
        found += await doctor_issues(pool, repair=True, stats=stats)
    done.set()
    await asyncio.gather(*load)

    assert found == []
    await jobs.sweep()
    assert (await doctor_issues(pool), await inconsistencies(redis)) == ([], [])
