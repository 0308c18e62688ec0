"""The final state of a round: what Redis holds, read directly, and what the service counts and lists."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from redis.asyncio import Redis

from service.domain.timestamps import parse_timestamp
from service.store.doctor import check
from service.store.partition import Partition
from tests.chaos.history import Event, History, Record, Version
from tests.helpers.consistency import inconsistencies
from tests.helpers.partitions import PARTITIONS, connect


async def read_final_state(
    history: History, redis: Redis, pool: Any, http: httpx.AsyncClient, origins: Sequence[str]
) -> None:
    """Add all records, the events after `origins` (of each partition), and the counts and lists to `history`."""
    history.partitions = PARTITIONS.size
    history.events = sorted(
        [
            parse_event(position, entry, partition.number)
            for partition, origin in zip(PARTITIONS, origins, strict=True)
            async for position, entry in _entries(redis, partition, origin)
        ],
        key=lambda event: event.parsed_position,
    )
    history.records = {record.version.job_id: record async for record in _records(redis)}
    history.counts = (await http.get("/v1/stats")).raise_for_status().json()["statuses"]
    history.listed_ids = [job_id async for job_id in _listed_ids(http)]
    issues = [f"jobstate doctor: {issue}" async for issue in check(connect(pool), rate=None)]
    history.inconsistencies = [*await inconsistencies(redis), *issues]


async def _entries(redis: Redis, partition: Partition, origin: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    start = f"({origin}"
    while entries := await redis.xrange(partition.events, start, count=5000):
        for position, entry in entries:
            if b"job_id" in entry:  # not an event of a queue
                yield position.decode(), {name.decode(): value.decode() for name, value in entry.items()}
        start = f"({entries[-1][0].decode()}"


def parse_event(position: str, entry: dict[str, str], partition: int = 0) -> Event:
    """Return the event of a stream entry. Only `expired`, which no round should have, has no revision."""
    version = Version(entry["job_id"], int(entry["created"]), int(entry.get("revision", 0)))
    return Event(position, entry["event"], version, entry["status"], entry["queue"], partition)


async def _records(redis: Redis) -> AsyncIterator[Record]:
    for partition in PARTITIONS:
        async for record in _records_in(redis, partition):
            yield record


async def _records_in(redis: Redis, partition: Partition) -> AsyncIterator[Record]:
    names = [name async for name in redis.scan_iter(partition.job("*"), count=1000)]
    for start in range(0, len(names), 500):
        pipe = redis.pipeline(transaction=False)
        for name in names[start : start + 500]:
            pipe.hgetall(name)
        for name, fields in zip(names[start : start + 500], await pipe.execute(), strict=True):
            decoded = {key.decode(): value.decode() for key, value in fields.items()}
            yield _record(name.decode().removeprefix(partition.job("")), decoded)


def _record(job_id: str, fields: dict[str, str]) -> Record:
    version = Version(job_id, parse_timestamp(fields["created_at"]), int(fields["revision"]))
    entries = [entry.split(":") for entry in fields.get("_history", "").split()]
    changes = tuple((int(revision), code) for _, revision, code, *_ in entries)
    content = fields.get("result", fields.get("error_message", ""))
    return Record(version, fields["status"], int(fields.get("attempt", 0)), content, changes)


async def _listed_ids(http: httpx.AsyncClient) -> AsyncIterator[str]:
    query: dict[str, str | int] = {"limit": 200}
    while True:
        page = (await http.get("/v1/jobs", params=query)).raise_for_status().json()
        for job in page["items"]:
            yield job["job_id"]
        if "next_cursor" not in page:
            return
        query["cursor"] = page["next_cursor"]
