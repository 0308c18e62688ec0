"""Follow one job until it is finished."""

import asyncio
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from jobstate._flow import Flow, call
from jobstate._requests import get_job, job_events
from jobstate._responses import decode_json
from jobstate._sse import Event, EventStream
from jobstate.cli.connection import AsyncClient, Listener, ReconnectRetry
from jobstate.cli.exit_codes import STATUS_EXIT_CODES, Exit
from jobstate.errors import JobDeleted, JobExpired, JobNotFound, UnexpectedResponse, WaitTimeout
from jobstate.models import Job

#: The errors for events after which there is no record.
_REMOVED: Final = {"deleted": (JobDeleted, "was deleted"), "expired": (JobExpired, "has expired")}


class Change(NamedTuple):
    """The state of a job after a change, and its JSON byte for byte; `job` is `None` if it was deleted unread."""

    status: str
    job: Job | None
    json: bytes

    @property
    def outcome(self) -> bytes:
        """The job's result, else its error message, as JSON; empty if it has neither."""
        return bytes(self.job.raw_result or self.job.raw_error_message) if self.job else b""


class View(Listener, Protocol):
    """Shows the changes of a job."""

    def changed(self, change: Change) -> None:
        """Show a change; its record has no result."""

    def removed(self, event: Event) -> None:
        """Show that the job was deleted or expired."""

    def finished(self, change: Change) -> None:
        """Show the complete record of a finished job."""


async def follow(
    client: AsyncClient, job_id: str, view: View, seconds: float | None, *, already_exists: bool = False
) -> Exit:
    """Show every change of a job until it is finished, and return the exit code for its status.

    If the job `already_exists`, an unavailable service is retried from the start, else only after the first event.
    Raises `JobExpired`, `RequestRejected`, `ServiceUnavailable`, and `WaitTimeout` after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await client.run(_follow(job_id, view, ReconnectRetry(view, already_exists=already_exists)))
    except TimeoutError:
        if not deadline.expired():
            raise
        raise WaitTimeout(f"{job_id} did not finish within {seconds:g} s", job_ids=[job_id]) from None


def _follow(job_id: str, view: View, retry: ReconnectRetry) -> Flow[Exit]:
    last = yield from _follow_changes(job_id, view, retry)
    change = yield from _read_final_record(job_id, retry, last)
    view.finished(change)
    return STATUS_EXIT_CODES.get(change.status, Exit.ERROR)


def _follow_changes(job_id: str, view: View, retry: ReconnectRetry) -> Flow[Change | None]:
    """Show every change, and return the final one; `None` if the stream ended without it."""
    stream = EventStream(lambda last_id: retry.observed(job_events(job_id, last_id)), retry)
    shown_id = ""
    while (event := (yield from stream.next())) is not None:
        if event.name in _REMOVED:
            view.removed(event)
            error, what = _REMOVED[event.name]
            raise error(f"{job_id} {what}")
        if event.name == "changed" and (event.id != shown_id or not shown_id):
            shown_id = event.id
            change = change_of(event.data)
            view.changed(change)
            if change.status in STATUS_EXIT_CODES:
                return change
    return None


def _read_final_record(job_id: str, retry: ReconnectRetry, last: Change | None) -> Flow[Change]:
    """Return the record with its result, or the `last` change if the job was deleted meanwhile.

    Raises `JobDeleted` if the deleted job was completed, because its result is lost.
    """
    try:
        tagged = yield from call(retry.observed(get_job(job_id)), retry)
    except JobNotFound as error:
        if last is None:
            raise
        if last.status == "completed":
            raise JobDeleted(f"{job_id} completed, but was deleted before its result was read") from error
        return last
    return Change(tagged.job.status, tagged.job, tagged.json)


class _Status(Struct):
    status: str


def change_of(json: bytes) -> Change:
    """Return the change in an event. Raises `UnexpectedResponse` if it is none."""
    try:
        job = decode_json(json, Job)
    except UnexpectedResponse:
        return Change(decode_json(json, _Status).status, None, json)
    return Change(job.status, job, json)
