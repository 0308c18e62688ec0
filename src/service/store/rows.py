"""Jobs from rows: the values of some fields of their records, in the order of the fields."""

from collections.abc import Sequence
from typing import Any

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import decode_job, time_reply_to_micros


def decode_row(job_id: str, fields: Sequence[str], row: Sequence[bytes | None], now: int) -> Job | StoreCorrupt:
    """Return the job with these values of `fields`. It is `stale` if its lease has expired at `now` (µs since 1970).

    An unreadable record is a `StoreCorrupt`, so that it does not hide other jobs.
    """
    present = {name: value for name, value in zip(fields, row, strict=True) if value is not None}
    try:
        return decode_job(job_id, present, now)
    except StoreCorrupt as error:
        return error


async def read_jobs(
    client: StoreClient, job_ids: Sequence[str], fields: Sequence[str]
) -> tuple[int, list[Job | StoreCorrupt | None]]:
    """Return the time of Redis (µs) and, per id, the job with these `fields`, `status` among them.

    Each job is as of the time of its own node; that which is returned is the latest one. A missing job is `None`, an
    unreadable one a `StoreCorrupt`.
    """
    held = [client.partitions.of(job_id) for job_id in job_ids]
    clock_of = {one: client.clock_of(one) for one in held}
    clocks = [*dict.fromkeys(clock_of.values())] or [client.partitions.first]
    commands = (["HMGET", one.job(job_id), *fields] for one, job_id in zip(held, job_ids, strict=True))
    replies = await client.read(*(["TIME"] for _ in clocks), *commands, at=clocks, isolate_errors=True)
    times, rows = [*map(time_reply_to_micros, replies[: len(clocks)])], replies[len(clocks) :]
    time_by, status = dict(zip(clocks, times, strict=True)), fields.index("status")

    def decode(job_id: str, partition: Partition, row: Any) -> Job | StoreCorrupt | None:
        if isinstance(row, StoreCorrupt):
            return row
        return None if row[status] is None else decode_row(job_id, fields, row, time_by[clock_of[partition]])

    return max(times), [decode(*one) for one in zip(job_ids, held, rows, strict=True)]
