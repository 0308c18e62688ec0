"""Labels: lists, events, and what the indexes hold of them."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from service.domain.errors import InvalidValue
from service.domain.events import Event, EventKind
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.domain.tags import label_tag
from service.store.client import StoreClient
from service.store.events.reader import decode_entries
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.cluster_clients import command_calls
from tests.helpers.consistency import doctor_issues
from tests.helpers.partitions import PARTITIONS, job_key, neighbour_of
from tests.integration.store.test_leases import claimed


async def listed(jobs: JobStateManager, *labels: str, **filters: Any) -> list[str]:
    page = await jobs.list_jobs(JobFilter(labels=labels, **filters), limit=200)
    assert page.next_before is None
    return [job.job_id for job in page.items]


async def test_each_label_is_an_entry_of_the_tags(jobs: JobStateManager, redis: Redis) -> None:
    created = (await jobs.create_job("j", 1, "c", slate_id="s", labels={"team": "blue", "a": "b"})).job
    assert created.labels == {"a": "b", "team": "blue"}
    assert created == await jobs.get_job("j")
    tags = (await redis.hget(job_key("j"), "_tags")).decode().split(",")
    assert tags[2:] == [label_tag("a:b"), label_tag("team:blue")]
    assert await redis.zcard(PARTITIONS.of("j").tags) == 4


async def test_a_job_without_labels_has_none(jobs: JobStateManager, redis: Redis) -> None:
    created = (await jobs.create_job("j", 1, labels={})).job
    assert (created.labels, (await jobs.create_job("j", 1)).replayed) == (None, True)
    assert await redis.hexists(job_key("j"), "labels") == await redis.hexists(job_key("j"), "_tags") == 0


async def test_a_deletion_leaves_no_label_behind(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, labels={"a": "b", "team": "blue"})
    await jobs.cancel_job("j")
    await jobs.delete_job("j")
    assert await redis.exists(PARTITIONS.of("j").tags) == 0


@pytest.mark.usefixtures("only_caller")
async def test_a_list_by_labels_reads_no_other_jobs(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("mine", 1, labels={"tenant": "acme"})
    for number in range(300):
        await jobs.create_job(f"j{number}", 1, labels={"tenant": "other"})
    await redis.config_resetstat()
    assert await listed(jobs, "tenant:acme") == ["mine"]
    assert (await command_calls(redis))["hmget"] <= 2


async def test_a_value_with_the_same_hash_is_not_listed(jobs: JobStateManager, redis: Redis) -> None:
    other = neighbour_of("mine")
    await jobs.create_job("mine", 1, labels={"tenant": "acme"})
    created = (await jobs.create_job(other, 1, labels={"tenant": "other"})).job
    tags, name = PARTITIONS.of(other).tags, job_key(other)
    [member] = [one.decode() for one in await redis.zrange(tags, 0, -1) if one.endswith(b":" + other.encode())]
    forged = member.replace(label_tag("tenant:other"), label_tag("tenant:acme"))
    await redis.zadd(tags, {forged: 0})
    await redis.hset(name, "_tags", label_tag("tenant:acme"))

    assert await listed(jobs, "tenant:acme") == ["mine"]

    await redis.zrem(tags, forged)
    await redis.hset(name, "_tags", label_tag("tenant:other"))
    assert created == await jobs.get_job(other)


@pytest.mark.parametrize("labels", [{"tenant": "acme"}, {"tenant": "acme", "team": "blue"}])
async def test_a_change_tells_the_tags_of_a_job_with_labels(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis, labels: dict[str, str]
) -> None:
    await jobs.create_job("j", 1, "c", slate_id="s", labels=labels)
    token = (await claimed(leases)).lease.token
    await jobs.update_job_status("j", "completed", lease_token=token)
    await jobs.delete_job("j")
    entries = await redis.xrange(PARTITIONS.of("j").events)
    assert len(entries) == 4
    for _, fields in entries:
        tags = fields[b"tags"].decode().split(",")
        assert tags[2:] == [label_tag(f"{key}:{value}") for key, value in sorted(labels.items())]


async def test_the_end_of_the_retention_is_an_event_for_the_labels(
    store_client: StoreClient, jobs: JobStateManager, redis: Redis
) -> None:
    await JobStateManager(store_client, ttl=timedelta(milliseconds=20)).create_job("j", 1, labels={"a": "1", "b": "2"})
    await asyncio.sleep(0.05)
    assert await jobs.sweep() == 1
    [_, entry] = await redis.xrange(PARTITIONS.of("j").events)
    [expired] = decode_entries([(entry[0].decode(), 0, cast("dict[bytes, bytes]", entry[1]))])
    assert isinstance(expired, Event)
    assert (expired.kind, expired.matches(JobFilter(labels=("b:2", "a:1")))) == (EventKind.EXPIRED, True)
    assert not expired.matches(JobFilter(labels=("b:1",)))
    assert await redis.exists(PARTITIONS.of("j").tags) == 0


async def test_the_doctor_builds_the_entries_of_labels_anew(pool: Any, jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, labels={"tenant": "acme", "team": "blue"})
    await redis.delete(PARTITIONS.of("j").tags)
    assert await listed(jobs, "tenant:acme") == []
    assert [issue.repaired for issue in await doctor_issues(pool, repair=True)] == [True, True]
    assert await listed(jobs, "team:blue", "tenant:acme") == ["j"]


async def test_a_change_of_a_job_without_labels_tells_no_tags(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1, "c", slate_id="s")
    [(_, fields)] = await redis.xrange(PARTITIONS.of("j").events)
    assert b"tags" not in fields


@pytest.mark.parametrize(
    ("labels", "matches"),
    [((), True), (("a:1",), True), (("a:1", "b:2"), True), (("a:2",), False), (("a:1", "c:3"), False)],
)
def test_an_event_matches_all_labels_of_a_filter(labels: tuple[str, ...], matches: bool) -> None:
    job: Any = {"job_id": "j", "status": Status.PENDING, "revision": 1, "queue": "q", "created": 1}
    event = Event(position="1-0", kind=EventKind.CHANGED, tags=(label_tag("a:1"), label_tag("b:2")), **job)
    assert event.matches(JobFilter(labels=labels)) is matches


@pytest.mark.parametrize("labels", [("tenant",), ("tenant:",), ("Tenant:acme",), tuple(f"k:{n}" for n in range(6))])
async def test_a_wrong_label_of_a_filter_is_rejected(jobs: JobStateManager, labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValue) as raised:
        await jobs.list_jobs(JobFilter(labels=labels))
    assert raised.value.field == "label"
