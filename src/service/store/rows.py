"""Jobs from rows: the values of some fields of their records, in the order of the fields."""

from collections.abc import Sequence
from typing import Any

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job
from service.store.client import StoreClient
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

    A missing job is `None`, an unreadable one a `StoreCorrupt`.
    """
    partition_of = client.partitions.of
    commands = (["HMGET", partition_of(job_id).job(job_id), *fields] for job_id in job_ids)
    redis_time, *rows = await client.read(["TIME"], *commands, isolate_errors=True)
    now, status = time_reply_to_micros(redis_time), fields.index("status")

    def decode(job_id: str, row: Any) -> Job | StoreCorrupt | None:
        if isinstance(row, StoreCorrupt):
            return row
        return None if row[status] is None else decode_row(job_id, fields, row, now)

    return now, [decode(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]
