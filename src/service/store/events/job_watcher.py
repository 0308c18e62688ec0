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
from service.domain.events import Event, EventKind, Notice
from service.domain.jobs import Job
from service.domain.states import FINAL, Status
from service.domain.timestamps import micros
from service.store import queries
from service.store.client import Gateway
from service.store.deadlines import DEADLINE
from service.store.events.reader import AGAIN, Feed
from service.store.observer import NoObserver, Observer

#: Seconds after which those who watch are given a sign of life, and look by themselves.
SIGN_OF_LIFE: Final = 15.0
#: Seconds after a change for which newer progress may come without an event of its own: a second, and then some.
UNSETTLED: Final = 1.1
#: Records that are read in one round trip.
GLANCED: Final = 100


class Watch:
    """One who watches a job; the bell rings when there may be something new, or nobody watches any more."""

    def __init__(self) -> None:
        self.is_over = False
        #: When the watched record was created (µs), once that is known: another of the same id is another job.
        self.created: int | None = None
        self._bell = asyncio.Event()
        #: What was heard of ends, by creation: a record may be gone before anybody has looked.
        self._ends: dict[int, dict[EventKind, Event]] = {}

    def ring(self) -> None:
        """Have the record looked at."""
        self._bell.set()

    def leave(self) -> None:
        """Note that nobody watches any more, or that the process ends."""
        self.is_over = True
        self._bell.set()

    def hear(self, event: Event) -> None:
        """Take in what has happened to the job."""
        is_end = event.kind is not EventKind.CHANGED or event.status in FINAL
        if is_end and self.created in (None, event.created):
            self._ends.setdefault(event.created, {})[event.kind] = event
        self._bell.set()

    async def rings(self, patience: float) -> bool:
        """Say whether the bell rings within so many seconds, and silence it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._bell.wait()
        rang = self._bell.is_set()
        self._bell.clear()
        return rang

    def ends_of(self, job: Job, now: float) -> list[Event]:
        """Return what is left to be told of a job whose record went before its end was seen."""
        heard = self._ends.get(micros(job.created_at), {})
        final = [heard[EventKind.CHANGED]] if EventKind.CHANGED in heard else []
        gone = heard.get(EventKind.DELETED) or heard.get(EventKind.EXPIRED)
        return [*final, gone or _silent_end(job, now)]


class Watching:
    """All who watch single jobs in this process.

    No wake-up is lost: whoever watches hears of events before the record is read, and it is read again after each.
    Events say when to look, not what is seen: changes in between may collapse, and all who look at one time share a
    round trip.
    """

    def __init__(self, pool: ConnectionPool, feed: Feed, *, observer: Observer | None = None) -> None:
        """Hear of events from `feed` while any job is watched, and read records through `pool`."""
        self._gateway = Gateway(pool, observer or NoObserver())
        self._feed = feed
        self._watches: dict[str, set[Watch]] = {}
        self._wanted: dict[str, asyncio.Future[Job | Exception | None]] = {}
        self._glancing: asyncio.Task[None] | None = None
        #: By how many seconds the clock of Redis is ahead of this machine's.
        self._ahead = 0.0
        self.is_closed = False

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Hear of a job for the length of the block; to be entered before its record is read. Raises `InvalidValue`."""
        constraints.JOB_ID.require("job_id", job_id)
        watch = Watch()
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

    async def follow(self, watch: Watch, job: Job, shown: str | None) -> AsyncGenerator[Job | Event | None]:
        """Yield the record `job` unless its version is `shown`, then what becomes of it.

        `watch` was there before `job` was read. The final state is never left out, and the last thing yielded; of a
        record that has gone it is the event that says so, after that of a final state that nobody had read. `None` is
        a sign of life. Redis may come and go meanwhile. Without an end it ends where the watch is over.
        """
        watch.created = micros(job.created_at)
        seen = job if job.version == shown else None
        is_settled = False
        while True:
            if job.version != shown or _differs(job, seen):
                yield job
                seen, shown, is_settled = job, job.version, False
            if job.is_final or watch.is_over:
                return
            patience = self._patience(job, is_settled)
            is_settled = not await watch.rings(patience)
            if is_settled and patience > UNSETTLED:
                yield None
            try:
                latest = await self.look(job.job_id)
            except JobStateError:  # nothing is known for now
                await asyncio.sleep(AGAIN)
                watch.ring()
                yield None
                continue
            if latest is None or latest.created_at != job.created_at:
                for event in watch.ends_of(job, self._now):
                    yield event
                return
            job = latest

    def close(self) -> None:
        """End every watch, those too that are still to come."""
        self.is_closed = True
        for watch in self._all():
            watch.leave()

    def hear(self, events: Sequence[Event | Notice]) -> None:
        """Tell those who watch the jobs that something has happened to."""
        for event in events:
            if isinstance(event, Event):
                for watch in self._watches.get(event.job_id, ()):
                    watch.hear(event)

    def look_again(self, position: str) -> None:
        """Have every watched record looked at."""
        for watch in self._all():
            watch.ring()

    @property
    def _now(self) -> float:
        """What Redis would say the time is, in seconds since 1970."""
        return time.time() + self._ahead

    def _patience(self, job: Job, is_settled: bool) -> float:
        """Return for how many seconds nothing is to be seen of a job unless the bell rings."""
        if job.status is Status.RUNNING and not is_settled:
            return UNSETTLED
        if job.lease_expires_at is None or job.stale:
            return SIGN_OF_LIFE
        left = micros(job.lease_expires_at) / 1e6 - self._now
        return min(SIGN_OF_LIFE, left + 0.1) if left > 0 else SIGN_OF_LIFE

    def _all(self) -> list[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]

    async def look(self, job_id: str) -> Job | None:
        """Return the record as it is at a moment after the call, without `input_params` and `result`.

        Raises `StoreUnavailable` within 3 s, or `StoreCorrupt`.
        """
        wanted = self._wanted.setdefault(job_id, asyncio.get_running_loop().create_future())
        if self._glancing is None:
            self._glancing = asyncio.create_task(self._glance(), name="glances", context=Context())
        try:
            async with asyncio.timeout(DEADLINE):
                found = await asyncio.shield(wanted)
        except TimeoutError as error:
            raise StoreTimeout(f"{StoreTimeout.__doc__} (no answer)") from error
        if isinstance(found, Exception):
            raise found
        return found

    async def _glance(self) -> None:
        """Read what is wanted, as much at a time as a round trip may carry, until nothing is."""
        try:
            while self._wanted:
                taken = {job_id: self._wanted.pop(job_id) for job_id in list(self._wanted)[:GLANCED]}
                found = await self._found(list(taken))
                for job_id, answer in taken.items():
                    answer.set_result(found[job_id])
        finally:
            self._glancing = None

    async def _found(self, job_ids: list[str]) -> dict[str, Job | Exception | None]:
        try:
            now, jobs = await queries.glance(self._gateway, job_ids)
            self._ahead = now / 1e6 - time.time()
            return dict(zip(job_ids, jobs, strict=True))
        except Exception as error:
            return dict.fromkeys(job_ids, error)


def _differs(job: Job, seen: Job | None) -> bool:
    """Say whether a record is another than the one seen, though its version is not: Redis may have lost changes."""
    return seen is not None and (job.status, job.updated_at) != (seen.status, seen.updated_at)


def _silent_end(job: Job, now: float) -> Event:
    """Return what to say of a record that has gone by `now` (s) and of whose end nothing was heard."""
    is_over = micros(job.expires_at) / 1e6 <= now
    return Event(
        position="",
        kind=EventKind.EXPIRED if is_over else EventKind.DELETED,
        job_id=job.job_id,
        status=job.status,
        revision=job.revision + 1,
        queue=job.queue,
        created=micros(job.created_at),
        slate_id=job.slate_id,
    )
