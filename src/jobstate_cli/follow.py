"""Follow one job until it is finished."""

import asyncio
import contextlib
from typing import Final, Protocol

from jobstate_cli.errors import JobDeleted, RequestRejected, ServiceUnavailable, TimedOut
from jobstate_cli.exit_codes import STATUS_EXIT_CODES, Exit
from jobstate_cli.records import Record
from jobstate_cli.service import Service, job_path
from jobstate_cli.streams import Event, Listener, ReconnectPolicy, events

#: The events after which there is no record, and their text.
_REMOVED: Final = {"deleted": "was deleted", "expired": "has expired"}


class View(Listener, Protocol):
    """Shows the changes of a job."""

    def changed(self, record: Record) -> None:
        """Show a changed record, which has no result."""

    def removed(self, event: Event) -> None:
        """Show that the job was deleted or expired."""

    def finished(self, record: Record) -> None:
        """Show the complete record of a finished job."""


async def follow(
    service: Service, job_id: str, view: View, seconds: float | None, *, already_exists: bool = False
) -> Exit:
    """Show every change of a job until it is finished, and return the exit code for its status.

    If the job `already_exists`, an unavailable service is retried from the start, else only after the first event.
    Raises `JobDeleted`, `RequestRejected`, `ServiceUnavailable`, and `TimedOut` after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await _follow(service, job_id, view, already_exists)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TimedOut(f"{job_id} did not finish within {seconds:g} s") from None


async def _follow(service: Service, job_id: str, view: View, already_exists: bool) -> Exit:
    policy = ReconnectPolicy(view)
    last = await _follow_changes(service, job_id, view, policy, already_exists)
    record = await _read_final_record(service, job_id, policy, last)
    view.finished(record)
    return STATUS_EXIT_CODES.get(record.job.status, Exit.ERROR)


async def _follow_changes(
    service: Service, job_id: str, view: View, policy: ReconnectPolicy, already_exists: bool
) -> Record | None:
    """Show every change, and return the final one; `None` if the stream ended without it."""
    async with contextlib.aclosing(
        events(service, f"{job_path(job_id)}/events", policy, already_exists=already_exists)
    ) as stream:
        async for event in stream:
            if event.name in _REMOVED:
                view.removed(event)
                raise JobDeleted(f"{job_id} {_REMOVED[event.name]}")
            if event.name == "changed":
                record = Record.of(event.data)
                view.changed(record)
                if record.job.status in STATUS_EXIT_CODES:
                    return record
    return None


async def _read_final_record(service: Service, job_id: str, policy: ReconnectPolicy, last: Record | None) -> Record:
    """Return the record with its result, or the `last` change if the job was deleted meanwhile.

    Raises `JobDeleted` if the deleted job was completed, because its result is lost.
    """
    while True:
        try:
            record = await service.job(job_id)
        except ServiceUnavailable as error:
            await policy.wait(error)
        except RequestRejected as error:
            if last is None or error.exit_code is not Exit.NOT_FOUND:
                raise
            if last.job.status == "completed":
                raise JobDeleted(f"{job_id} completed, but was deleted before its result was read") from error
            return last
        else:
            policy.connected()
            return record
