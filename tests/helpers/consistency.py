"""Two consistency checks of all keys: `inconsistencies`, written independently of the doctor, and the doctor."""

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import ConnectionPool, Redis

from service.domain.tags import correlation_tag, slate_tag
from service.domain.timestamps import parse_timestamp
from service.store.client import StoreClient
from service.store.doctor import Issue, check
from service.store.partition import EXPIRING, PARTITION


async def inconsistencies(redis: Redis) -> list[str]:
    """Return missing and surplus index entries, and keys with a wrong TTL. Reads all keys at once."""
    names = sorted([name.decode() async for name in redis.scan_iter(count=1000)])
    found = [problem for name in names if (problem := await _ttl_problem(redis, name))]
    jobs = {name.removeprefix("job:"): await _read_job(redis, name) for name in names if name.startswith("job:")}
    expected = {entry for job_id, job in jobs.items() for entry in await _expected_entries(redis, job_id, job)}
    actual = {entry async for entry in _actual_entries(redis, names)}
    found += [f"{entry} has no job" for entry in sorted(actual - expected)]
    found += [f"{entry} is missing" for entry in sorted(expected - actual)]
    return found


async def doctor_issues(pool: ConnectionPool, **options: Any) -> list[Issue]:
    """Return the issues that the doctor finds, without a rate limit."""
    return [issue async for issue in check(StoreClient(pool), rate=None, **options)]


async def _ttl_problem(redis: Redis, name: str) -> str | None:
    """Return what is wrong with the TTL of a key: records and a few other keys have one, indexes have none."""
    ttl = await redis.ttl(name)
    expires = name.startswith("job:") or name.removeprefix(PARTITION.root).partition(":")[0] in EXPIRING
    if expires and ttl == -1:
        return f"{name} has no TTL"
    return f"{name} has a TTL" if not expires and ttl >= 0 else None


async def _read_job(redis: Redis, name: str) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in (await redis.hgetall(name)).items()}


async def _expected_entries(redis: Redis, job_id: str, job: dict[str, str]) -> list[tuple[str, str]]:
    """Return the index entries that a job must have: the key, then the member and its score (0 in a set)."""
    queue, created = job["queue"], parse_timestamp(job["created_at"])
    is_delayed = job["status"] == "pending" and await redis.zscore(PARTITION.delays, f"{queue}:{job_id}") is not None
    labels = [(slate_tag, job.get("slate_id")), (correlation_tag, job.get("correlation_id"))]
    tags = [tag(label) for tag, label in labels if label is not None]
    expires = parse_timestamp(job["expires_at"]) // 1000
    entries = [
        (PARTITION.by_created(queue, "delayed" if is_delayed else job["status"]), f"{job_id} {created}"),
        (PARTITION.by_expiry, f"{job_id}|{created}|{queue}|{','.join(tags)} {expires}"),
        (PARTITION.queue_names, f"{queue} 0"),
        *((PARTITION.tags, f"{tag}:{created:016}:{job_id} 0") for tag in tags),
    ]
    if is_delayed:
        entries.append((PARTITION.delays, f"{queue}:{job_id} {parse_timestamp(job['available_at'])}"))
    if "lease_expires_at" in job:
        entries.append((PARTITION.leases, f"{job_id} {parse_timestamp(job['lease_expires_at']) // 1000}"))
    return entries


async def _actual_entries(redis: Redis, names: list[str]) -> AsyncIterator[tuple[str, str]]:
    """Yield the entries that the indexes have, in the same form."""
    indexes = {PARTITION.by_expiry, PARTITION.delays, PARTITION.leases, PARTITION.tags}
    for name in names:
        if name.startswith(PARTITION.key("by_created:")) or name in indexes:
            for member, score in await redis.zrange(name, 0, -1, withscores=True):
                yield name, f"{member.decode()} {int(score)}"
        elif name == PARTITION.queue_names:
            for member in await redis.smembers(name):
                yield name, f"{member.decode()} 0"
