"""Watching one job: nobody polls, and nobody misses its end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextvars import Context
from typing import Final

from redis.asyncio import ConnectionPool

from service.domain import constraints
from service.domain.errors import JobStateError, StoreTimeout
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import Job
from service.domain.states import FINAL_STATUSES, Status
from service.domain.timestamps import parse_timestamp
from service.store import queries
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.events.reader import RETRY_DELAY, EventReader
from service.store.observer import NullObserver, Observer

#: Seconds after which those who watch are given a sign of life, and look by themselves.
KEEP_ALIVE_INTERVAL: Final = 15.0
#: Seconds after a change for which newer progress may come without an event of its own: a second, and then some.
PROGRESS_SETTLE_TIME: Final = 1.1
#: Records that are read in one round trip.
READ_BATCH: Final = 100


class JobSubscription:
    """One who watches a job; the bell rings when there may be something new, or nobody watches any more."""

    def __init__(self) -> None:
        self.is_over = False
        #: When the watched record was created (µs), once that is known: another of the same id is another job.
        self.created: int | None = None
        self._bell = asyncio.Event()
        #: What was heard of ends, by creation: a record may be gone before anybody has looked.
        self._ends: dict[int, dict[EventKind, Event]] = {}

    def wake(self) -> None:
        """Have the record looked at."""
        self._bell.set()

    def leave(self) -> None:
        """Note that nobody watches any more, or that the process ends."""
        self.is_over = True
        self._bell.set()

    def on_event(self, event: Event) -> None:
        """Take in what has happened to the job."""
        is_end = event.kind is not EventKind.CHANGED or event.status in FINAL_STATUSES
        if is_end and self.created in (None, event.created):
            self._ends.setdefault(event.created, {})[event.kind] = event
        self._bell.set()

    async def wait(self, timeout: float) -> bool:
        """Say whether the bell rings within so many seconds, and silence it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._bell.wait()
        rang = self._bell.is_set()
        self._bell.clear()
        return rang

    def terminal_events(self, job: Job, now: float) -> list[Event]:
        """Return what is left to be told of a job whose record went before its end was seen."""
        heard = self._ends.get(parse_timestamp(job.created_at), {})
        final = [heard[EventKind.CHANGED]] if EventKind.CHANGED in heard else []
        gone = heard.get(EventKind.DELETED) or heard.get(EventKind.EXPIRED)
        return [*final, gone or _inferred_end(job, now)]


class JobWatcher:
    """All who watch single jobs in this process.

    No wake-up is lost: whoever watches hears of events before the record is read, and it is read again after each.
    Events say when to look, not what is seen: changes in between may collapse, and all who look at one time share a
    round trip.
    """

    def __init__(self, pool: ConnectionPool, feed: EventReader, *, observer: Observer | None = None) -> None:
        """Hear of events from `feed` while any job is watched, and read records through `pool`."""
        self._gateway = StoreClient(pool, observer or NullObserver())
        self._feed = feed
        self._watches: dict[str, set[JobSubscription]] = {}
        self._wanted: dict[str, asyncio.Future[Job | Exception | None]] = {}
        self._read_task: asyncio.Task[None] | None = None
        #: By how many seconds the clock of Redis is ahead of this machine's.
        self._clock_offset = 0.0
        self.is_closed = False

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[JobSubscription]:
        """Hear of a job for the length of the block; to be entered before its record is read. Raises `InvalidValue`."""
        constraints.JOB_ID.validate("job_id", job_id)
        watch = JobSubscription()
        watch.is_over = self.is_closed
        if not self._watches:
            self._feed.add(self)
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[job_id].remove(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]
            if not self._watches:
                self._feed.remove(self)

    async def follow(self, watch: JobSubscription, job: Job, shown: str | None) -> AsyncGenerator[Job | Event | None]:
        """Yield the record `job` unless its version is `shown`, then what becomes of it.

        `watch` was there before `job` was read. The final state is never left out, and the last thing yielded; of a
        record that has gone it is the event that says so, after that of a final state that nobody had read. `None` is
        a sign of life. Redis may come and go meanwhile. Without an end it ends where the watch is over.
        """
        watch.created = parse_timestamp(job.created_at)
        seen = job if job.version == shown else None
        is_settled = False
        while True:
            if job.version != shown or _differs(job, seen):
                yield job
                seen, shown, is_settled = job, job.version, False
            if job.is_final or watch.is_over:
                return
            patience = self._next_timeout(job, is_settled)
            is_settled = not await watch.wait(patience)
            if is_settled and patience > PROGRESS_SETTLE_TIME:
                yield None
            try:
                latest = await self.get_job(job.job_id)
            except JobStateError:  # nothing is known for now
                await asyncio.sleep(RETRY_DELAY)
                watch.wake()
                yield None
                continue
            if latest is None or latest.created_at != job.created_at:
                for event in watch.terminal_events(job, self._now):
                    yield event
                return
            job = latest

    def close(self) -> None:
        """End every watch, those too that are still to come."""
        self.is_closed = True
        for watch in self._all():
            watch.leave()

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Tell those who watch the jobs that something has happened to."""
        for event in events:
            if isinstance(event, Event):
                for watch in self._watches.get(event.job_id, ()):
                    watch.on_event(event)

    def on_gap(self, position: str) -> None:
        """Have every watched record looked at."""
        for watch in self._all():
            watch.wake()

    @property
    def _now(self) -> float:
        """What Redis would say the time is, in seconds since 1970."""
        return time.time() + self._clock_offset

    def _next_timeout(self, job: Job, is_settled: bool) -> float:
        """Return for how many seconds nothing is to be seen of a job unless the bell rings."""
        if job.status is Status.RUNNING and not is_settled:
            return PROGRESS_SETTLE_TIME
        if job.lease_expires_at is None or job.stale:
            return KEEP_ALIVE_INTERVAL
        left = parse_timestamp(job.lease_expires_at) / 1e6 - self._now
        return min(KEEP_ALIVE_INTERVAL, left + 0.1) if left > 0 else KEEP_ALIVE_INTERVAL

    def _all(self) -> list[JobSubscription]:
        return [watch for watches in self._watches.values() for watch in watches]

    async def get_job(self, job_id: str) -> Job | None:
        """Return the record as it is at a moment after the call, without `input_params` and `result`.

        Raises `StoreUnavailable` within 3 s, or `StoreCorrupt`.
        """
        wanted = self._wanted.setdefault(job_id, asyncio.get_running_loop().create_future())
        if self._read_task is None:
            self._read_task = asyncio.create_task(self._read_batch(), name="glances", context=Context())
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                found = await asyncio.shield(wanted)
        except TimeoutError as error:
            raise StoreTimeout(f"{StoreTimeout.default_detail} (no answer)") from error
        if isinstance(found, Exception):
            raise found
        return found

    async def _read_batch(self) -> None:
        """Read what is wanted, as much at a time as a round trip may carry, until nothing is."""
        try:
            while self._wanted:
                taken = {job_id: self._wanted.pop(job_id) for job_id in list(self._wanted)[:READ_BATCH]}
                found = await self._found(list(taken))
                for job_id, answer in taken.items():
                    answer.set_result(found[job_id])
        finally:
            self._read_task = None

    async def _found(self, job_ids: list[str]) -> dict[str, Job | Exception | None]:
        try:
            now, jobs = await queries.get_summaries(self._gateway, job_ids)
            self._clock_offset = now / 1e6 - time.time()
            return dict(zip(job_ids, jobs, strict=True))
        except Exception as error:
            return dict.fromkeys(job_ids, error)


def _differs(job: Job, seen: Job | None) -> bool:
    """Say whether a record is another than the one seen, though its version is not: Redis may have lost changes."""
    return seen is not None and (job.status, job.updated_at) != (seen.status, seen.updated_at)


def _inferred_end(job: Job, now: float) -> Event:
    """Return what to say of a record that has gone by `now` (s) and of whose end nothing was heard."""
    is_over = parse_timestamp(job.expires_at) / 1e6 <= now
    return Event(
        position="",
        kind=EventKind.EXPIRED if is_over else EventKind.DELETED,
        job_id=job.job_id,
        status=job.status,
        revision=job.revision + 1,
        queue=job.queue,
        created=parse_timestamp(job.created_at),
        slate_id=job.slate_id,
    )
