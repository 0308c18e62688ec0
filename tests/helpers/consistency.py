"""Two consistency checks of all keys: `inconsistencies`, written independently of the doctor, and the doctor."""

from collections.abc import Iterator
from typing import Any

import msgspec
from redis.asyncio import ConnectionPool, Redis

from service.domain.tags import tags_of
from service.domain.timestamps import parse_timestamp
from service.store.doctor import Issue, check
from service.store.partition import EXPIRING, Partition
from service.store.partitions import Partitions
from tests.helpers.deployments import opened_again
from tests.helpers.partitions import PARTITIONS, connect

#: An index entry: the key, the member and the score.
Entry = tuple[str, str, int]


async def inconsistencies(redis: Redis, partitions: Partitions = PARTITIONS) -> list[str]:
    """Return missing and surplus index entries, and keys with a wrong time to live. Reads all keys at once."""
    names = sorted([name.decode() async for name in redis.scan_iter(count=1000)])
    issues = [issue for partition in partitions for issue in await _inconsistencies_in(redis, partition, names)]
    found = {job_id: one for one in partitions for name in names if (job_id := _job_id(one, name)) is not None}
    misplaced = [job_id for job_id, one in found.items() if partitions.of(job_id) is not one]
    return [*issues, *(f"{job_id} is in another partition" for job_id in misplaced)]


def _job_id(partition: Partition, name: str) -> str | None:
    return name.removeprefix(partition.job("")) if name.startswith(partition.job("")) else None


async def _inconsistencies_in(redis: Redis, partition: Partition, names: list[str]) -> list[str]:
    prefix = partition.job("")
    names = [name for name in names if name.startswith((prefix, partition.root))]
    read = {name.removeprefix(prefix): await _read_job(redis, name) for name in names if name.startswith(prefix)}
    jobs = {job_id: job for job_id, job in read.items() if job}  # without those that have expired since the scan
    delayed = {member.decode() for member in await redis.zrange(partition.delays, 0, -1)}
    expected = {entry for job_id, job in jobs.items() for entry in _expected_entries(partition, job_id, job, delayed)}
    indexes = {partition.by_expiry, partition.tags, partition.delays, partition.timers, partition.leases}
    actual = {
        (name, member.decode(), int(score))
        for name in names
        if name in indexes or name.startswith((partition.key("by_created:"), partition.key("by_priority:")))
        for member, score in await redis.zrange(name, 0, -1, withscores=True)
    }
    queues = {name.decode() for name in await redis.smembers(partition.queue_names)}
    return [
        *[issue for name in names if (issue := _ttl_issue(partition, name, await redis.pexpiretime(name), jobs))],
        *(f"{entry} has no job" for entry in sorted(actual - expected)),
        *(f"{entry} is missing" for entry in sorted(expected - actual)),
        *(f"the queue {queue} is missing or has no jobs" for queue in queues ^ {job["queue"] for job in jobs.values()}),
    ]


async def doctor_issues(pool: ConnectionPool, partitions: Partitions = PARTITIONS, **options: Any) -> list[Issue]:
    """Return the issues that the doctor finds, without a rate limit."""
    client = connect(opened_again(pool, len(partitions)), partitions=len(partitions))
    return [issue async for issue in check(client, rate=None, **options)]


async def _read_job(redis: Redis, name: str) -> dict[str, str]:
    """Return the fields of a record. Those of other programs may hold any bytes."""
    fields = await redis.hgetall(name)
    return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in fields.items()}


def _ttl_issue(partition: Partition, name: str, expires: int, jobs: dict[str, dict[str, str]]) -> str | None:
    prefix = partition.job("")
    if name.startswith(prefix):
        job = jobs.get(name.removeprefix(prefix))
        is_right = job is None or expires == _millis(job["expires_at"])
    else:
        is_right = (expires != -1) is (name.removeprefix(partition.root).split(":")[0] in EXPIRING)
    return None if is_right or expires == -2 else f"{name} has a wrong time to live"


def _millis(timestamp: str) -> int:
    return parse_timestamp(timestamp) // 1000


def _expected_entries(partition: Partition, job_id: str, job: dict[str, str], delayed: set[str]) -> Iterator[Entry]:
    """Yield the index entries that a job must have."""
    queue, created = job["queue"], parse_timestamp(job["created_at"])
    labels = msgspec.json.decode(job.get("labels", "{}"))
    tags = [*tags_of(job.get("slate_id"), job.get("correlation_id"), labels)]
    state, priority = job["status"], int(job.get("priority", 0))
    if state == "pending" and f"{queue}:{job_id}" in delayed:
        state = "delayed"
        yield partition.delays, f"{queue}:{job_id}", parse_timestamp(job["available_at"])
    elif state == "pending" and priority:
        state = "prioritized"
        yield partition.by_priority(queue), job_id, created - priority * 1_000_000
    elif state == "running" and "lease_expires_at" not in job:
        state = "unleased"
    yield partition.by_created(queue, state), job_id, created
    yield partition.by_expiry, f"{job_id}|{created}|{queue}|{','.join(tags)}", _millis(job["expires_at"])
    yield from ((partition.tags, f"{tag}:{created:016}:{job_id}", 0) for tag in tags)
    for kind in ("run", "start"):
        if (deadline := job.get(f"{kind}_deadline_at")) is not None:
            yield partition.timers, f"{kind}:{queue}:{job_id}", _millis(deadline)
    if "lease_expires_at" in job:
        yield partition.leases, job_id, _millis(job["lease_expires_at"])
