"""A full walk of the keys: every index entry has its job, every job its entries, and nothing lives for ever.

It is stated on its own and reads everything at once; beside it the doctor, which has to find the same.
"""

from typing import Any

from redis.asyncio import ConnectionPool, Redis

from service.domain.timestamps import parse_timestamp
from service.store import keys
from service.store.client import StoreClient
from service.store.doctor import Issue, check
from service.store.observer import NullObserver


async def drift(redis: Redis) -> list[str]:
    """Return everything in Redis that does not fit together."""
    names = sorted([name.decode() async for name in redis.scan_iter(count=1000)])
    found = [
        f"{name} has no time to live" for name in names if await redis.ttl(name) == -1 and name not in keys.PERSISTENT
    ]
    jobs = {name.removeprefix("job:"): await _job(redis, name) for name in names if name.startswith("job:")}
    expected = {entry for job_id, job in jobs.items() for entry in await _entries(redis, job_id, job)}
    held = {entry async for entry in _held(redis, names)}
    found += [f"{entry} has no job" for entry in sorted(held - expected)]
    found += [f"{entry} is missing" for entry in sorted(expected - held)]
    return found


async def ails(pool: ConnectionPool, **how: Any) -> list[Issue]:
    """Return what the doctor finds, as fast as it can."""
    return [finding async for finding in check(StoreClient(pool, NullObserver()), rate=None, **how)]


async def _job(redis: Redis, name: str) -> dict[str, str]:
    return {field.decode(): value.decode() for field, value in (await redis.hgetall(name)).items()}


async def _entries(redis: Redis, job_id: str, job: dict[str, str]) -> list[tuple[str, str]]:
    """Return what the indexes must hold of a job."""
    queue, created = job["queue"], parse_timestamp(job["created_at"])
    waits = job["status"] == "pending" and await redis.zscore(keys.DELAYED, f"{queue}:{job_id}") is not None
    shelf = "delayed" if waits else job["status"]
    entries = [
        (keys.by_creation(queue, shelf), f"{job_id} {created}"),
        (
            keys.by_expiry(queue, shelf),
            f"{job_id}|{created}|{job['revision']} {parse_timestamp(job['expires_at']) // 1000}",
        ),
    ]
    if waits:
        entries.append((keys.DELAYED, f"{queue}:{job_id} {parse_timestamp(job['available_at'])}"))
    if "lease_expires_at" in job:
        entries.append((keys.LEASES, f"{job_id} {parse_timestamp(job['lease_expires_at']) // 1000}"))
    for kind, name in (("s", "slate_id"), ("c", "correlation_id")):
        if name in job:
            entries.append((keys.TAGS, f"{kind}:{created}:{job_id}"))
    return entries


async def _held(redis: Redis, names: list[str]) -> Any:
    """Yield what the indexes do hold, in the same form."""
    for name in names:
        if name.startswith((keys.key("list:"), keys.key("exp:"))) or name in {keys.DELAYED, keys.LEASES, keys.TAGS}:
            for member, score in await redis.zrange(name, 0, -1, withscores=True):
                yield name, _shown(name, member.decode(), int(score))


def _shown(name: str, member: str, score: int) -> str:
    if name == keys.TAGS:
        tag, created, job_id = member.split(":", 2)
        return f"{tag[0]}:{int(created)}:{job_id}"
    if name.startswith(keys.key("exp:")):
        return f"{member.rpartition('|')[0]} {score}"
    return f"{member} {score}"
