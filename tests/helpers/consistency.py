"""Two consistency checks of all keys: `inconsistencies`, written independently of the doctor, and the doctor."""

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import ConnectionPool, Redis

from service.domain.timestamps import parse_timestamp
from service.store.client import StoreClient
from service.store.doctor import Issue, check
from service.store.partition import PARTITION


async def inconsistencies(redis: Redis) -> list[str]:
    """Return missing and surplus index entries, and keys without a TTL. Reads all keys at once."""
    names = sorted([name.decode() async for name in redis.scan_iter(count=1000)])
    found = [f"{name} has no TTL" for name in names if await redis.ttl(name) == -1 and name not in keys.PERSISTENT]
    jobs = {name.removeprefix("job:"): await _read_job(redis, name) for name in names if name.startswith("job:")}
    expected = {entry for job_id, job in jobs.items() for entry in await _expected_entries(redis, job_id, job)}
    actual = {entry async for entry in _actual_entries(redis, names)}
    found += [f"{entry} has no job" for entry in sorted(actual - expected)]
    found += [f"{entry} is missing" for entry in sorted(expected - actual)]
    return found


async def doctor_issues(pool: ConnectionPool, **options: Any) -> list[Issue]:
    """Return the issues that the doctor finds, without a rate limit."""
    return [issue async for issue in check(StoreClient(pool), rate=None, **options)]


async def _read_job(redis: Redis, name: str) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in (await redis.hgetall(name)).items()}


async def _expected_entries(redis: Redis, job_id: str, job: dict[str, str]) -> list[tuple[str, str]]:
    """Return the index entries that a job must have: the key, and member and score as `_format_entry` gives them."""
    queue, created = job["queue"], parse_timestamp(job["created_at"])
    is_delayed = job["status"] == "pending" and await redis.zscore(PARTITION.delays, f"{queue}:{job_id}") is not None
    state = "delayed" if is_delayed else job["status"]
    entries = [
        (PARTITION.by_created(queue, state), f"{job_id} {created}"),
        (
            keys.by_expiry(queue, state),
            f"{job_id}|{created}|{job['revision']} {parse_timestamp(job['expires_at']) // 1000}",
        ),
    ]
    if is_delayed:
        entries.append((PARTITION.delays, f"{queue}:{job_id} {parse_timestamp(job['available_at'])}"))
    if "lease_expires_at" in job:
        entries.append((PARTITION.leases, f"{job_id} {parse_timestamp(job['lease_expires_at']) // 1000}"))
    for kind, name in (("s", "slate_id"), ("c", "correlation_id")):
        if name in job:
            entries.append((PARTITION.tags, f"{kind}:{created}:{job_id}"))
    return entries


async def _actual_entries(redis: Redis, names: list[str]) -> AsyncIterator[tuple[str, str]]:
    """Yield the entries that the indexes have, in the same form."""
    for name in names:
        if name.startswith((PARTITION.key("list:"), PARTITION.key("exp:"))) or name in {
            PARTITION.delays,
            PARTITION.leases,
            PARTITION.tags,
        }:
            for member, score in await redis.zrange(name, 0, -1, withscores=True):
                yield name, _format_entry(name, member.decode(), int(score))


def _format_entry(name: str, member: str, score: int) -> str:
    if name == PARTITION.tags:
        tag, created, job_id = member.split(":", 2)
        return f"{tag[0]}:{int(created)}:{job_id}"
    if name.startswith(PARTITION.key("exp:")):
        return f"{member.rpartition('|')[0]} {score}"
    return f"{member} {score}"
