"""Many waits of one client share one stream of the events of all jobs."""

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from jobstate._flow import Flow, Signal, call, log
from jobstate._requests import MAX_BATCH, all_events, batch_get
from jobstate._responses import decode_json
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate._sse import Event, EventStream
from jobstate.errors import RequestRejected
from jobstate.models import FINAL_STATUSES

#: Executes a flow in the background; returns a function that stops it.
Start: TypeAlias = Callable[[Flow[None]], Callable[[], object]]

#: The events after which no record exists.
REMOVALS: Final = frozenset({"deleted", "expired"})


class Subscription:
    """The jobs that one wait waits for. It is woken when one of them may have ended."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self._woken: dict[str, bool] = {}
        self._lock = threading.Lock()

    def wake(self, job_id: str, *, is_deleted: bool = False) -> None:
        """Tell the wait that a job may have ended, or was deleted. Thread-safe."""
        with self._lock:
            self._woken[job_id] = self._woken.get(job_id, False) or is_deleted
            self.signal.set()

    def take(self) -> dict[str, bool]:
        """Return the jobs that may have ended since the last call, with whether they were deleted."""
        with self._lock:
            woken, self._woken = self._woken, {}
            self.signal.clear()
            return woken


class _EventData(msgspec.Struct):
    job_id: str
    status: str = ""


class Hub:
    """Follows the stream while there are subscriptions, and wakes those whose jobs may have ended."""

    def __init__(self, start: Start, policy: RetryPolicy) -> None:
        self._start = start
        self._policy = policy
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._stop: Callable[[], object] | None = None
        self._lock = threading.RLock()

    @contextmanager
    def subscribed(self, job_ids: Iterable[str], signal: Signal) -> Generator[Subscription]:
        """Yield a subscription to jobs."""
        subscription, job_ids = Subscription(signal), list(job_ids)
        with self._lock:
            for job_id in job_ids:
                self._subscriptions.setdefault(job_id, set()).add(subscription)
            if self._stop is None:
                self._stop = self._start(self._follow())
        try:
            yield subscription
        finally:
            self._leave(subscription, job_ids)

    def stop(self) -> None:
        """Follow the stream no longer. Call it before its connection is closed: another thread may be reading."""
        with self._lock:
            if self._stop is not None:
                self._stop()

    def wake_all(self) -> None:
        """Wake all subscriptions."""
        with self._lock:
            for job_id in self._subscriptions:
                self._wake(job_id)

    def _leave(self, subscription: Subscription, job_ids: list[str]) -> None:
        with self._lock:
            for job_id in job_ids:
                others = self._subscriptions.get(job_id, set())
                others.discard(subscription)
                if not others:
                    self._subscriptions.pop(job_id, None)
            if not self._subscriptions and self._stop is not None:
                self._stop()
                self._stop = None

    def _follow(self) -> Flow[None]:
        """Follow the stream for ever. Without a stream, the waits look at their jobs from time to time."""
        stream = EventStream(all_events, self._retry())
        is_first = True
        try:
            while (event := (yield from stream.next())) is not None:
                if event.name == "reset" or (event.name == "hello" and is_first):
                    yield from self._read_again()
                is_first = False
                self._handle(event)
        except RequestRejected as error:
            log.warning("event stream rejected: %s", error)

    def _handle(self, event: Event) -> None:
        if event.name == "changed" or event.name in REMOVALS:
            data = decode_json(event.data, _EventData)
            if event.name in REMOVALS or data.status in FINAL_STATUSES:
                self._wake(data.job_id, is_deleted=event.name == "deleted")

    def _read_again(self) -> Flow[None]:
        """Read all jobs that are waited for: events about them may be lost."""
        with self._lock:
            job_ids = list(self._subscriptions)
        for job_id in (yield from ended(job_ids, self._retry())):
            self._wake(job_id)

    def _wake(self, job_id: str, *, is_deleted: bool = False) -> None:
        with self._lock:
            for subscription in self._subscriptions.get(job_id, ()):
                subscription.wake(job_id, is_deleted=is_deleted)

    def _retry(self) -> Retry:
        return Retry(self._policy, Deadline(None), persistent=True)


def ended(job_ids: Iterable[str], retry: Retry) -> Flow[list[str]]:
    """Return which of these jobs have ended, or do not exist."""
    found: list[str] = []
    remaining = iter(job_ids)
    while batch := list(islice(remaining, MAX_BATCH)):
        jobs = yield from call(batch_get(batch), retry)
        found += [job.job_id for job in jobs.items if job.is_final]
        found += jobs.not_found
    return found
