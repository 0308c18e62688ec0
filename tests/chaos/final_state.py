"""What Redis has when all is quiet, read past the service; and what the service says of it."""

from collections.abc import AsyncIterator

import httpx
from redis.asyncio import Redis

from service.domain.timestamps import parse_timestamp
from service.store import keys
from tests.chaos.history import Event, History, Record, Version
from tests.helpers.consistency import doctor_issues, inconsistencies


async def take_stock(history: History, redis: Redis, http: httpx.AsyncClient, origin: str) -> None:
    """Put into `history` every record, every event after `origin`, and what the service counts and lists."""
    history.events = [event_of(position, entry) async for position, entry in _entries(redis, origin)]
    history.records = {record.version.job_id: record async for record in _records(redis)}
    history.counts = (await http.get("/v1/stats")).raise_for_status().json()["statuses"]
    history.listed = [job_id async for job_id in _listed(http)]
    found = [f"jobstate doctor: {finding}" for finding in await doctor_issues(redis.connection_pool)]
    history.drift = [*await inconsistencies(redis), *found]


async def _entries(redis: Redis, origin: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    start = f"({origin}"
    while entries := await redis.xrange(keys.EVENTS, start, count=5000):
        for position, entry in entries:
            if b"job_id" in entry:  # not what is said of queues
                yield position.decode(), {name.decode(): value.decode() for name, value in entry.items()}
        start = f"({entries[-1][0].decode()}"


def event_of(position: str, entry: dict[str, str]) -> Event:
    """Return what an entry of the stream says."""
    version = Version(entry["job_id"], int(entry["created"]), int(entry["revision"]))
    return Event(position, entry["event"], version, entry["status"], entry["queue"])


async def _records(redis: Redis) -> AsyncIterator[Record]:
    names = [name async for name in redis.scan_iter("job:*", count=1000)]
    for start in range(0, len(names), 500):
        pipe = redis.pipeline(transaction=False)
        for name in names[start : start + 500]:
            pipe.hgetall(name)
        for name, held in zip(names[start : start + 500], await pipe.execute(), strict=True):
            yield _record(
                name.decode().removeprefix("job:"), {key.decode(): value.decode() for key, value in held.items()}
            )


def _record(job_id: str, held: dict[str, str]) -> Record:
    version = Version(job_id, parse_timestamp(held["created_at"]), int(held["revision"]))
    entries = [entry.split(":") for entry in held.get("_history", "").split()]
    changes = tuple((int(revision), letter) for _, revision, letter in entries)
    content = held.get("result", held.get("error_message", ""))
    return Record(version, held["status"], int(held.get("attempt", 0)), content, changes)


async def _listed(http: httpx.AsyncClient) -> AsyncIterator[str]:
    query: dict[str, str | int] = {"limit": 200}
    while True:
        page = (await http.get("/v1/jobs", params=query)).raise_for_status().json()
        for job in page["items"]:
            yield job["job_id"]
        if "next_cursor" not in page:
            return
        query["cursor"] = page["next_cursor"]
