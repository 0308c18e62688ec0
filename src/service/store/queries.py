"""Reading many jobs at once: pages, batches, counts. Nothing here scans the keyspace."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import structlog

from service.domain.errors import InvalidValue, StoreAccessDenied, StoreCorrupt
from service.domain.jobs import (
    DrainStatus,
    Job,
    JobBatch,
    JobFilter,
    JobPage,
    OldestJob,
    Queue,
    RunningCount,
    Stats,
)
from service.domain.states import Status
from service.domain.store_health import StoreHealth
from service.domain.timestamps import format_timestamp
from service.store import keys, scripts
from service.store.client import StoreClient
from service.store.records import FIELDS, LARGE_FIELDS, decode_hash, decode_job, time_reply_to_micros

_log = structlog.get_logger(__name__)

#: Most bytes of input_params, result and error_message on one page, and most index entries walked for it.
PAGE_BYTES: Final = 8 * 1024 * 1024
MAX_PAGE_SCAN: Final = 1000
_STATUSES: Final = {status.value: status for status in Status}
#: How many expired heads of a list may hide the oldest pending job until the next sweep.
MAX_EXPIRED_SCAN: Final = 1000


async def page(
    gateway: StoreClient, wanted: JobFilter, limit: int, before: int | None, include: Collection[str]
) -> JobPage:
    """Return the newest jobs that match `wanted`, created before `before` (µs)."""
    large = [name for name in LARGE_FIELDS if name in include or name == "error_message"]
    fields = [*FIELDS, *large]
    bounds = [limit, PAGE_BYTES, MAX_PAGE_SCAN, "" if before is None else before]
    filters = [wanted.status or "", wanted.queue or "", wanted.slate_id or "", wanted.correlation_id or ""]
    reply = await gateway.run_script(scripts.LIST, [keys.ROOT], [*bounds, *filters, len(large), *fields])
    now, following, listed = int(reply[1]), reply[2], reply[3:]
    items = []
    for job_id, values in zip(listed[::2], listed[1::2], strict=True):
        try:
            items.append(_job_from_values(job_id.decode(), fields, values, now))
        except StoreCorrupt as error:  # one bad record must not hide all the others
            _log.error("a record was left out of a list", detail=str(error))
    return JobPage(items, int(following) if following else None)


async def batch(gateway: StoreClient, job_ids: Sequence[str]) -> JobBatch:
    """Return the jobs with these ids, each once and as it was at one moment.

    Raises `InvalidValue` if their errors, whose sizes are read before, are more than a page may have.
    """
    wanted = list(dict.fromkeys(job_ids))
    total = sum(await gateway.read(*(["HSTRLEN", keys.job(job_id), "error_message"] for job_id in wanted)))
    if total > PAGE_BYTES:
        found = f"their error messages take {total} bytes"
        raise InvalidValue("job_ids", found, f"jobs whose error messages take up to {PAGE_BYTES} bytes together")
    _, jobs = await get_summaries(gateway, wanted)
    for job in jobs:
        if isinstance(job, StoreCorrupt):
            raise job
    missing = [job_id for job_id, job in zip(wanted, jobs, strict=True) if job is None]
    return JobBatch([job for job in jobs if isinstance(job, Job)], missing)


async def get_summaries(gateway: StoreClient, job_ids: Sequence[str]) -> tuple[int, list[Job | StoreCorrupt | None]]:
    """Return the time (µs), and the jobs with these ids without `input_params` and `result`; `None`: there is none."""
    fields = [*FIELDS, "error_message"]
    time, *rows = await gateway.read(
        ["TIME"], *(["HMGET", keys.job(job_id), *fields] for job_id in job_ids), isolate_errors=True
    )
    now = time_reply_to_micros(time)
    return now, [_summary(job_id, fields, row, now) for job_id, row in zip(job_ids, rows, strict=True)]


def _summary(job_id: str, fields: list[str], row: Any, now: int) -> Job | StoreCorrupt | None:
    if isinstance(row, StoreCorrupt):
        return row
    try:
        return None if row[fields.index("status")] is None else _job_from_values(job_id, fields, row, now)
    except StoreCorrupt as error:
        return error


async def running_count(gateway: StoreClient, leased: bool | None) -> int:
    """Return how many jobs are running; only those with (without) a live lease if `leased` is true (false)."""
    _, live_leases, _, counts = await _counts(gateway, Status.RUNNING)
    running = sum(count for _, _, count in counts)
    if leased is None:
        return running
    return live_leases if leased else running - live_leases


async def stats(gateway: StoreClient) -> Stats:
    """Return exact counts per status and queue, and the oldest pending job."""
    now, live_leases, delayed, counts = await _counts(gateway, "")
    statuses = dict.fromkeys(Status, 0)
    queues: dict[str, dict[Status, int]] = {}
    for queue, shelf, count in counts:
        if (status := _status_for(shelf)) is None:  # not written by us; `jobstate doctor` tells of it
            continue
        statuses[status] += count
        if count:
            of_queue = queues.setdefault(queue, dict.fromkeys(Status, 0))
            of_queue[status] += count
    oldest = await _oldest(gateway, Status.PENDING, "delayed")
    return Stats(
        at=format_timestamp(now),
        statuses=statuses,
        delayed=delayed,
        queues=dict(sorted(queues.items())),
        running=RunningCount(leased=live_leases, unleased=statuses[Status.RUNNING] - live_leases),
        oldest_pending=oldest,
    )


async def store_health(gateway: StoreClient) -> StoreHealth:
    """Return how Redis stands, out of its INFO. Raises `StoreAccessDenied` where INFO does not say all of it."""
    [info] = await gateway.read(["INFO", "server", "memory", "persistence"])
    try:
        return _health_from(info)
    except KeyError as error:
        raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} (INFO does not have {error})") from error


def _health_from(info: Mapping[str, Any]) -> StoreHealth:
    return StoreHealth(
        version=str(info.get("valkey_version") or info["redis_version"]),
        memory=info["used_memory"],
        memory_limit=info["maxmemory"],
        can_evict=info["maxmemory_policy"] != "noeviction",
        aof_enabled=bool(info["aof_enabled"]),
        aof_healthy=info.get("aof_last_write_status", "ok") == info.get("aof_last_bgrewrite_status", "ok") == "ok",
    )


async def _counts(gateway: StoreClient, shelf: str) -> tuple[int, int, int, list[tuple[str, str, int]]]:
    reply = await gateway.run_script(scripts.COUNT, [keys.ROOT], [shelf])
    now, live_leases, delayed, rows = int(reply[1]), reply[2], reply[3], reply[4:]
    counts = [
        (queue.decode(), on_shelf.decode(), count)
        for queue, on_shelf, count in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    ]
    return now, live_leases, delayed, counts


async def queues(gateway: StoreClient) -> list[Queue]:
    """Return the queues that have jobs or settings of their own, by name."""
    found = (await stats(gateway)).queues
    [reply] = await gateway.read(["HGETALL", keys.QUEUES])
    settings = {queue: value.decode() for queue, value in decode_hash(reply).items()}
    return [
        queue_from(name, settings.get(name, ""), found.get(name) or dict.fromkeys(Status, 0))
        for name in sorted({*found, *settings})
    ]


def queue_from(name: str, setting: str, statuses: dict[Status, int]) -> Queue:
    """Return a queue out of its field of `jobs:queues`."""
    paused, _, most = setting.partition(":")
    return Queue(queue=name, paused=paused == "1", max_running=int(most) if most else None, statuses=statuses)


async def drain(gateway: StoreClient, until: str | None) -> DrainStatus:
    """Return what is at work, under a drain that ends at `until` or none."""
    _, leased, _, counts = await _counts(gateway, Status.RUNNING)
    oldest = await _oldest(gateway, Status.RUNNING)
    return DrainStatus(
        draining=until is not None,
        until=until,
        running=sum(count for _, _, count in counts),
        leased=leased,
        oldest=oldest,
        safe_to_stop=until is not None and leased == 0,
    )


async def _oldest(gateway: StoreClient, *shelves: str) -> OldestJob | None:
    """Return the oldest job on some shelves."""
    reply = await gateway.run_script(scripts.OLDEST, [keys.ROOT], [MAX_EXPIRED_SCAN, " ".join(shelves)])
    if reply[0] == "NONE":
        return None
    _, job_id, queue, created = reply
    return OldestJob(job_id.decode(), queue.decode(), format_timestamp(int(created)))


def _status_for(shelf: str) -> Status | None:
    return Status.PENDING if shelf == "delayed" else _STATUSES.get(shelf)


def _job_from_values(job_id: str, fields: Sequence[str], values: Sequence[bytes | None], now: int) -> Job:
    held = {name: value for name, value in zip(fields, values, strict=True) if value is not None}
    return decode_job(job_id, held, now)
