"""Long polls and streams of single jobs, woken by events instead of polling."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Final

from msgspec.structs import replace

from service.domain import constraints
from service.domain.errors import JobStateError, StoreTimeout
from service.domain.events import Event, EventKind
from service.domain.jobs import Job
from service.domain.shutdown import Shutdown
from service.domain.states import FINAL_STATUSES, Status
from service.domain.timestamps import parse_timestamp
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.events.hub import KEEP_ALIVE_INTERVAL, EventHub, Subscription
from service.store.events.reader import RETRY_DELAY
from service.store.partition import Partition
from service.store.queries import JobReader

#: Seconds after a change in which newer progress may have no event: the scripts emit one per second and job.
PROGRESS_SETTLE_TIME: Final = 1.1
#: The most jobs that are read in one round trip.
READ_BATCH: Final = 100


class JobSubscription(Subscription):
    """One watcher of one job. It wakes up when the job may have changed, or when its client has disconnected."""

    def __init__(self, job_id: str) -> None:
        super().__init__(("job", job_id))
        #: The creation time of the job (µs), once it is known. Another job with the same id has another one.
        self.created: int | None = None
        #: Terminal events. The job may be deleted before it is read in its final state.
        self._terminal_events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Receive an event of the job."""
        super().on_event(event)
        is_terminal = event.kind is not EventKind.CHANGED or event.status in FINAL_STATUSES
        if is_terminal and self.created in (None, event.created):
            self._terminal_events.append(event)

    def terminal_events(self, job: Job, now: float) -> list[Event]:
        """Return the last events of a job that was deleted or has expired: its final status if received, then the end.

        `job` is its last known record. An end that was not received is inferred from `now` (s).
        """
        created = parse_timestamp(job.created_at)
        received = {event.kind: event for event in self._terminal_events if event.created == created}
        final = [received[EventKind.CHANGED]] if EventKind.CHANGED in received else []
        end = received.get(EventKind.DELETED) or received.get(EventKind.EXPIRED) or _inferred_end(job, final, now)
        if end.kind is EventKind.EXPIRED:
            end = replace(end, revision=final[0].revision if final else job.revision)
        return [*final, end]


class JobWatcher:
    """Watches single jobs for the requests of this process.

    No change is missed: a subscriber receives events before it first reads the job, and reads it again after each. It
    sees the job as read, so several changes may appear as one. Concurrent reads share a round trip.
    """

    def __init__(self, client: StoreClient, hub: EventHub, shutdown: Shutdown) -> None:
        """Subscribe to `hub` while a job is watched, read jobs through `client`, and end all streams at `shutdown`."""
        self._client = client
        self._hub = hub
        self._shutdown = shutdown
        #: By a partition (`StoreClient.clock_of`): the reads of one node do not wait for those of another.
        self._reads: dict[Partition, _SharedReads] = {}

    def watch(self, job_id: str) -> AbstractContextManager[JobSubscription]:
        """Subscribe to a job inside the `with` block. Enter it before reading the job. Raises `InvalidValue`."""
        constraints.JOB_ID.validate("job_id", job_id)
        return self._hub.subscribe(JobSubscription(job_id))

    async def follow(
        self, subscription: JobSubscription, job: Job, known_version: str | None
    ) -> AsyncGenerator[Job | Event | None]:
        """Yield the job in each new state, until its end, a disconnect of the client, or the shutdown of the process.

        `job` must be read after `watch`; it is yielded first, unless `known_version` is its version. A final state is
        always yielded, last. If the job is deleted or expires, the last item is that event; the event of a final status
        that was not read precedes it. `None` is a keep-alive. Failures of Redis are waited out.
        """
        subscription.created = parse_timestamp(job.created_at)
        last_seen = job if job.version == known_version else None
        is_settled = False
        while True:
            if job.version != known_version or _differs(job, last_seen):
                yield job
                last_seen, known_version, is_settled = job, job.version, False
            if job.is_final or subscription.is_disconnected or self._shutdown.has_begun:
                return
            timeout = self._next_timeout(job, is_settled)
            is_settled = not await subscription.wait(timeout)
            if is_settled and timeout > PROGRESS_SETTLE_TIME:
                yield None
            try:
                latest = await self.get_job(job.job_id)
            except JobStateError:
                await asyncio.sleep(RETRY_DELAY)
                subscription.wakeup.set()
                yield None
                continue
            if latest is None or latest.created_at != job.created_at:
                for event in subscription.terminal_events(job, self._now(job)):
                    yield event
                return
            job = latest

    def _reads_of(self, job_id: str) -> "_SharedReads":
        clock = self._client.clock_of(self._client.partitions.of(job_id))
        if clock not in self._reads:
            self._reads[clock] = _SharedReads(JobReader(self._client))
        return self._reads[clock]

    def _now(self, job: Job) -> float:
        """Return the time of the Redis with a job, in seconds since 1970."""
        return time.time() + self._reads_of(job.job_id).clock_offset

    def _next_timeout(self, job: Job, is_settled: bool) -> float:
        """Return the seconds after which the job must be read even without an event."""
        if job.status is Status.RUNNING and not is_settled:
            return PROGRESS_SETTLE_TIME
        if job.lease_expires_at is None or job.stale:
            return KEEP_ALIVE_INTERVAL
        left = parse_timestamp(job.lease_expires_at) / 1e6 - self._now(job)
        return min(KEEP_ALIVE_INTERVAL, left + 0.1) if left > 0 else KEEP_ALIVE_INTERVAL

    async def get_job(self, job_id: str) -> Job | None:
        """Return the job as of some time after the call, without `input_params` and `result`; `None` if there is none.

        Raises `StoreUnavailable` within 3 s, or `StoreCorrupt`.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                result = await self._reads_of(job_id).get(job_id)
        except TimeoutError as error:
            raise StoreTimeout(f"{StoreTimeout.default_detail} (no answer)") from error
        if isinstance(result, Exception):
            raise result
        return result


class _SharedReads:
    """Reads jobs, one read at a time; those that are requested meanwhile share the next one."""

    def __init__(self, jobs: JobReader) -> None:
        self._jobs = jobs
        #: The ids of jobs that the next read returns.
        self._requested: set[str] = set()
        self._next_read: asyncio.Task[dict[str, Job | Exception | None]] | None = None
        self._is_reading = asyncio.Lock()
        #: The clock of Redis minus that of this machine, in seconds.
        self.clock_offset = 0.0

    async def get(self, job_id: str) -> Job | Exception | None:
        """Return a job as of some time after the call, `None` if there is none, or why it cannot be read."""
        self._requested.add(job_id)
        if self._next_read is None:  # in an empty context: the task belongs to no request
            self._next_read = asyncio.create_task(self._read_requested(), name="job reads", context=Context())
        return (await asyncio.shield(self._next_read))[job_id]

    async def _read_requested(self) -> dict[str, Job | Exception | None]:
        """Read all jobs that are requested until the last read has ended."""
        async with self._is_reading:
            job_ids, self._requested, self._next_read = [*self._requested], set(), None
            batches = (job_ids[start : start + READ_BATCH] for start in range(0, len(job_ids), READ_BATCH))
            found = await asyncio.gather(*map(self._fetch, batches))
            return {job_id: job for jobs in found for job_id, job in jobs.items()}

    async def _fetch(self, job_ids: list[str]) -> dict[str, Job | Exception | None]:
        try:
            now, jobs = await self._jobs.get_summaries(job_ids)
            self.clock_offset = now / 1e6 - time.time()
            return dict(zip(job_ids, jobs, strict=True))
        except Exception as error:
            return dict.fromkeys(job_ids, error)


def _differs(job: Job, last_seen: Job | None) -> bool:
    """Return whether a job differs from the last one seen. Versions may be equal if Redis has lost changes."""
    return last_seen is not None and (job.status, job.updated_at) != (last_seen.status, last_seen.updated_at)


def _inferred_end(job: Job, final: list[Event], now: float) -> Event:
    """Return the event for a job without a record whose end was not received: expired if it may have been by `now` (s).

    `final` has the event of its final status, if that was received. The record that was read before it does not show
    for how long the job was kept then.
    """
    status, revision = (final[0].status, final[0].revision) if final else (job.status, None)
    due = parse_timestamp(job.expires_at)
    if final and not job.is_final:
        due = min(due, final[0].at + constraints.RETENTION_SECONDS.minimum * 1_000_000)
    has_expired = due / 1e6 <= now
    return Event(
        position="",
        kind=EventKind.EXPIRED if has_expired else EventKind.DELETED,
        job_id=job.job_id,
        status=status,
        revision=(revision or job.revision) + 1,
        queue=job.queue,
        created=parse_timestamp(job.created_at),
        slate_id=job.slate_id,
    )
