"""Reads: single jobs, pages, batches and counts."""

from collections.abc import Collection, Sequence
from typing import Final

from service.domain import constraints, errors, validation
from service.domain.errors import InvalidValue, StoreCorrupt
from service.domain.jobs import DrainStatus, History, Job, JobBatch, JobFilter, JobPage, OldestJob, RunningCount, Stats
from service.domain.states import Status
from service.domain.store_health import StoreHealth
from service.domain.timestamps import format_timestamp
from service.store import listing, scripts
from service.store.client import StoreClient
from service.store.health import read_store_health
from service.store.history import history_from
from service.store.job_counts import count_jobs
from service.store.listing import Listing
from service.store.partition import STATUS_OF_STATE
from service.store.records import FIELDS, decode_job, time_reply_to_micros
from service.store.rows import read_jobs

#: How many expired entries at the head of an index are skipped to find its oldest job.
MAX_EXPIRED_SCAN: Final = 1000


class JobReader:
    """Reads jobs, their counts and the health of Redis. No query scans the keyspace.

    Methods raise `InvalidValue` for an argument that the contract does not allow, `StoreUnavailable` within 3 s if
    Redis cannot serve them, `StoreCorrupt` if a key of the job is unreadable, and the errors that they name.
    """

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def get_job(self, job_id: str) -> Job | None:
        """Return the job, or `None` if there is none."""
        partition = self._client.partition_of(job_id)
        fields, now = await self._client.read(["HGETALL", partition.job(job_id)], ["TIME"], at=[partition])
        return decode_job(job_id, fields, time_reply_to_micros(now)) if fields else None

    async def get_result(self, job_id: str) -> Job:
        """Return a completed job. Raises `JobNotFound`, `ResultNotReady`, `JobFailed` or `JobCancelled`."""
        job = await self.get_job(job_id)
        if job is None:
            raise errors.JobNotFound(job_id)
        if job.status is Status.FAILED:
            raise errors.JobFailed(job.error_message)
        if job.status is Status.CANCELLED:
            raise errors.JobCancelled(job.error_message)
        if not job.is_final:
            raise errors.ResultNotReady(job.status)
        return job

    async def get_history(self, job_id: str) -> History | None:
        """Return the changes of a job, oldest first, or `None` if there is no job."""
        name = self._client.partition_of(job_id).job(job_id)
        [[created_at, *texts]] = await self._client.read(["HMGET", name, "created_at", "_history", "_errors", "_by"])
        if created_at is None:
            return None
        return history_from(job_id, created_at.decode(), *((text or b"").decode() for text in texts))

    async def list_jobs(
        self, filters: JobFilter, *, limit: int = 50, before: int | None = None, include: Collection[str] = ()
    ) -> JobPage:
        """Return up to `limit` (1 to 200) jobs that match, newest first, created before `before` (µs since 1970).

        `include` may name `input_params` and `result`, which are left out otherwise. A page ends early after 8 MiB of
        large fields or 1,000 index entries; `next_before` starts the next page. Jobs that stay as they
        are appear exactly once over all pages.
        """
        validation.validate_filter(filters)
        constraints.PAGE_LIMIT.validate("limit", limit)
        for name in include:
            if name not in validation.OPTIONAL_FIELDS:
                detail = f"{constraints.truncated_repr(name)} cannot be included"
                raise InvalidValue("include", detail, ", ".join(validation.OPTIONAL_FIELDS))
        return await Listing(self._client, filters, include).read_page(limit, before)

    async def get_jobs(self, job_ids: Sequence[str]) -> JobBatch:
        """Return the jobs with these ids (1 to 1,000), without `input_params` and `result`, and the missing ids.

        Each job is returned once. Raises `InvalidValue` also if the error messages together exceed 8 MiB.
        """
        if len(job_ids) not in range(constraints.BATCH_SIZE.minimum, constraints.BATCH_SIZE.maximum + 1):
            allowed = f"{constraints.BATCH_SIZE.minimum} to {constraints.BATCH_SIZE.maximum:,} ids"
            raise InvalidValue("job_ids", f"{len(job_ids)} ids are not allowed", allowed)
        for index, job_id in enumerate(job_ids):
            constraints.JOB_ID.validate(f"job_ids[{index}]", job_id)
        unique_ids = list(dict.fromkeys(job_ids))
        total = sum(
            await self._client.read(*(["HSTRLEN", self._record(job_id), "error_message"] for job_id in unique_ids))
        )
        if total > listing.PAGE_BYTES:
            allowed = f"jobs whose error messages take up to {listing.PAGE_BYTES} bytes together"
            raise InvalidValue("job_ids", f"their error messages take {total} bytes", allowed)
        _, jobs = await self.get_summaries(unique_ids)
        for job in jobs:
            if isinstance(job, StoreCorrupt):
                raise job
        missing = [job_id for job_id, job in zip(unique_ids, jobs, strict=True) if job is None]
        return JobBatch([job for job in jobs if isinstance(job, Job)], missing)

    async def get_summaries(self, job_ids: Sequence[str]) -> tuple[int, list[Job | StoreCorrupt | None]]:
        """Return the time of Redis (µs), the latest of its nodes, and per id the job without its large fields.

        The error message is included. A missing job is `None`, an unreadable one a `StoreCorrupt`.
        """
        return await read_jobs(self._client, job_ids, [*FIELDS, "error_message"])

    async def get_running_job_count(self, *, leased: bool | None = None) -> int:
        """Return how many jobs are running: all, or only those with (`True`) or without (`False`) a live lease."""
        counts = await count_jobs(self._client, Status.RUNNING)
        running = sum(count for _, _, count in counts.rows)
        if leased is None:
            return running
        return counts.live_leases if leased else running - counts.live_leases

    async def get_stats(self) -> Stats:
        """Return exact job counts per status and queue, and the oldest pending job.

        With several partitions each job is counted once, in a status that it had during the call.
        """
        counts = await count_jobs(self._client)
        statuses = dict.fromkeys(Status, 0)
        queues: dict[str, dict[Status, int]] = {}
        for queue, state, count in counts.rows:
            statuses[STATUS_OF_STATE[state]] += count
            queues.setdefault(queue, dict.fromkeys(Status, 0))[STATUS_OF_STATE[state]] += count
        leased = counts.live_leases
        return Stats(
            at=format_timestamp(counts.now),
            statuses=statuses,
            delayed=counts.delayed,
            queues=dict(sorted(queues.items())),
            running=RunningCount(leased=leased, unleased=statuses[Status.RUNNING] - leased),
            oldest_pending=await self._oldest(Status.PENDING),
        )

    async def get_drain_status(self, until: str | None, *, is_partial: bool = False) -> DrainStatus:
        """Return the running jobs, under a drain that ends at `until` (ISO 8601), or under none.

        With `is_partial`, not all partitions have the drain yet, so the others may still give out jobs.
        """
        counts = await count_jobs(self._client, Status.RUNNING)
        return DrainStatus(
            draining=until is not None,
            until=until,
            running=sum(count for _, _, count in counts.rows),
            leased=counts.live_leases,
            oldest=await self._oldest(Status.RUNNING),
            safe_to_stop=until is not None and counts.live_leases == 0 and not is_partial,
        )

    async def get_store_health(self) -> list[StoreHealth]:
        """Return the version, memory and durability of each Redis node that is not away.

        Raises `StoreAccessDenied` if INFO lacks a field.
        """
        return await read_store_health(self._client)

    def _record(self, job_id: str) -> str:
        """Return the key of a job's record."""
        return self._client.partitions.of(job_id).job(job_id)

    async def _oldest(self, status: Status) -> OldestJob | None:
        replies = await self._client.run_in_all_partitions(scripts.FIND_OLDEST, [MAX_EXPIRED_SCAN, status])
        found = [reply[1:] for reply in replies if reply[0] == "OLDEST"]
        if not found:
            return None
        job_id, queue, created = min(found, key=lambda one: int(one[2]))
        return OldestJob(job_id.decode(), queue.decode(), format_timestamp(int(created)))
