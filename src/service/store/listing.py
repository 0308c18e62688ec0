"""Lists of jobs by creation, newest first: each partition replies with its part of a page, and the parts are merged."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import structlog

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job, JobFilter, JobPage
from service.domain.tags import correlation_tag, label_tag, slate_tag
from service.domain.timestamps import parse_rfc3339, parse_timestamp
from service.store import scripts
from service.store.client import StoreClient
from service.store.deadlines import gather
from service.store.partition import Partition
from service.store.records import FIELDS, LARGE_FIELDS
from service.store.rows import decode_row, read_jobs

_log = structlog.get_logger(__name__)

#: The most bytes of `input_params`, `result` and `error_message` on one page.
PAGE_BYTES: Final = 8 * 1024 * 1024
#: The most index entries that are read in one round trip for a page; each partition may read `MIN_PARTITION_SCAN`.
MAX_PAGE_SCAN: Final = 1000
MIN_PARTITION_SCAN: Final = 50
#: How many jobs a partition is asked for beyond its equal share, because the newest jobs are not spread evenly.
_SPARE: Final = 3
#: The latest time (µs) that numbers of Lua hold exactly: in the year 2255.
_LATEST: Final = 2**53 - 1


class Found(NamedTuple):
    """A job that a partition has found."""

    #: When it was created (µs).
    created: int
    job_id: str
    #: The bytes of its large fields.
    size: int
    #: The values of `FIELDS`, and the time (µs) at which they were read.
    row: Sequence[Any] = ()
    now: int = 0


#: Reads a partition: how many jobs and how many entries at most, and the time (µs) before which the jobs were created
#: (`None` for no bound). Returns jobs, and where to go on (0 at the end): no match since then is left out.
Ask = Callable[[Partition, int, int, int | None], Coroutine[Any, Any, tuple[list[Found], int]]]


async def merge(
    partitions: Sequence[Partition], ask: Ask, limit: int, before: int | None
) -> tuple[list[Found], int | None]:
    """Return the newest jobs of all partitions, at most `limit`, and where to go on (µs; `None` at the end).

    Each partition has been read down to an end of its own. Only jobs above the highest end may be returned: there may
    be others below it. So partitions whose ends are too high are asked again, for their share of what is missing.
    """
    found: list[Found] = []
    ends: dict[Partition, int] = {}
    asked, missing, lowest = partitions, limit, 0
    while True:
        share = -(-missing // len(asked)) + _SPARE
        scan = max(-(-MAX_PAGE_SCAN // len(asked)), MIN_PARTITION_SCAN)
        parts = await gather(ask(partition, share, scan, ends.get(partition, before)) for partition in asked)
        for partition, (jobs, end) in zip(asked, parts, strict=True):
            found += jobs
            ends[partition] = end
            if len(jobs) < share:  # the partition has read enough entries for one page, or all that it has
                lowest = max(lowest, end)
        found.sort(key=attrgetter("created"), reverse=True)
        needed = max(lowest, found[limit - 1].created if len(found) >= limit else 0)
        asked = [partition for partition in partitions if ends[partition] > needed]
        highest = max(ends.values())
        complete = [job for job in found if job.created >= highest]
        if not asked:
            page = complete[:limit]
            return page, page[-1].created if len(complete) > limit else highest or None
        missing = limit - len(complete)


class Listing:
    """The jobs that match filters, with the large fields in `include` and with their error messages."""

    def __init__(self, client: StoreClient, filters: JobFilter, include: Collection[str]) -> None:
        self._client = client
        self._status = filters.status
        self._labels = {(key, value) for key, _, value in (label.partition(":") for label in filters.labels)}
        large = [name for name in LARGE_FIELDS if name in include or name == "error_message"]
        self._fields = [*FIELDS, *large]
        values = [filters.status or "", filters.queue or "", filters.slate_id or "", filters.correlation_id or ""]
        self._before = None if filters.created_before is None else time_bound(filters.created_before)
        after = "" if filters.created_after is None else time_bound(filters.created_after)
        self._args = [after, *values, ",".join(tags_of(filters)), len(large), *self._fields]

    async def read_page(self, limit: int, before: int | None) -> JobPage:
        """Return the newest jobs created before `before` (µs; `None` for no bound), as `JobReader.list_jobs` does."""
        before = min((bound for bound in (before, self._before) if bound is not None), default=None)
        if len(self._client.partitions) > 1:
            return await self._merged_page(limit, before)
        bounds = [limit, PAGE_BYTES, MAX_PAGE_SCAN, "" if before is None else before]
        now, next_before, rows = await self._read_entries(self._client.partitions.first, bounds)
        jobs = [decode_row(job_id, self._fields, row, now) for job_id, row in rows]
        return JobPage([*self._matching(jobs)], next_before)

    async def _merged_page(self, limit: int, before: int | None) -> JobPage:
        found, next_before = await merge(self._client.partitions, self._find, limit, before)
        total = 0
        for number, one in enumerate(found):
            total += one.size
            if total > PAGE_BYTES and number > 0:
                found, next_before = found[:number], found[number - 1].created
                break
        large = await self._read_large([one for one in found if one.size])
        jobs = [large[one.job_id] if one.size else decode_row(one.job_id, FIELDS, one.row, one.now) for one in found]
        return JobPage([*self._matching(jobs)], next_before)

    async def _find(
        self, partition: Partition, most: int, max_scan: int, before: int | None
    ) -> tuple[list[Found], int]:
        """Return the sizes of large fields instead of these fields: most of what is found here is on no page."""
        now, end, rows = await self._read_entries(partition, [most, "", max_scan, "" if before is None else before])
        return [Found(int(row[-2]), job_id, row[-1], row[:-2], now) for job_id, row in rows], end or 0

    async def _read_large(self, found: Sequence[Found]) -> dict[str, Job | StoreCorrupt | None]:
        """Return jobs with their large fields, by id. A job that is gone or no longer matches is `None`."""
        if not found:
            return {}
        _, jobs = await read_jobs(self._client, [one.job_id for one in found], self._fields)
        return {
            one.job_id: job if not isinstance(job, Job) or self._is_still(one, job) else None
            for one, job in zip(found, jobs, strict=True)
        }

    def _is_still(self, one: Found, job: Job) -> bool:
        """Return whether it is the job that was found, in the status of the filter. Other filters match for ever."""
        return parse_timestamp(job.created_at) == one.created and self._status in (None, job.status)

    def _matching(self, jobs: Iterable[Job | StoreCorrupt | None]) -> Iterator[Job]:
        """Yield the jobs that are there and have the labels, whose tags other values may have, too.

        One unreadable record must not hide all the others.
        """
        for job in jobs:
            if isinstance(job, StoreCorrupt):
                _log.error("list skipped unreadable record", detail=str(job))
            elif job is not None and self._labels <= (job.labels or {}).items():
                yield job

    async def _read_entries(
        self, partition: Partition, bounds: Sequence[int | str]
    ) -> tuple[int, int | None, list[tuple[str, list[Any]]]]:
        """Return the time (µs), where to go on (created µs; `None` at the end), and the ids and rows of jobs."""
        reply = await self._client.run_script(scripts.LIST, partition, [*bounds, *self._args])
        _, now, end, *listed = reply
        rows = [(job_id.decode(), row) for job_id, row in zip(listed[::2], listed[1::2], strict=True)]
        return int(now), int(end) if end else None, rows


def time_bound(time: str) -> int:
    """Return a time in µs since 1970, within what the script can compare."""
    return min(max(parse_rfc3339(time), 0), _LATEST)


def tags_of(filters: JobFilter) -> Iterator[str]:
    """Yield the tag to walk, and those of labels. It is that of the correlation id if there is one: few jobs have it.

    The script compares slate and correlation id themselves.
    """
    if filters.correlation_id is not None:
        yield correlation_tag(filters.correlation_id)
    elif filters.slate_id is not None:
        yield slate_tag(filters.slate_id)
    yield from map(label_tag, filters.labels)
