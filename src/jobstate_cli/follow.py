"""Following one job to its end."""

import asyncio
import contextlib
from typing import Final, Protocol

from jobstate_cli.errors import JobGone, Refused, ServiceAway, TimedOut
from jobstate_cli.exits import ENDS, Exit
from jobstate_cli.records import Record
from jobstate_cli.service import Service, address
from jobstate_cli.streams import Event, Listener, Patience, events

#: The events that end a record, and how.
_GONE: Final = {"deleted": "was deleted", "expired": "has expired"}


class View(Listener, Protocol):
    """Shows what becomes of a job."""

    def changed(self, record: Record) -> None:
        """Show a new state, without the job's result."""

    def gone(self, event: Event) -> None:
        """Show that the job was deleted or has expired."""

    def ended(self, record: Record) -> None:
        """Show the whole record of a job that has ended."""


async def follow(service: Service, job_id: str, view: View, seconds: float | None, *, known: bool = False) -> Exit:
    """Show every state of a job up to the last, and return what its end means.

    A job that is `known` is waited for also while the service is away. Raises `JobGone`, `Refused`, `ServiceAway`, and
    `TimedOut` after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await _to_the_end(service, job_id, view, known)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TimedOut(f"{job_id} has not ended within {seconds:g} s") from None


async def _to_the_end(service: Service, job_id: str, view: View, known: bool) -> Exit:
    patience = Patience(view)
    last = await _last_state(service, job_id, view, patience, known)
    record = await _whole(service, job_id, patience, last)
    view.ended(record)
    return ENDS.get(record.job.status, Exit.REFUSED)


async def _last_state(service: Service, job_id: str, view: View, patience: Patience, known: bool) -> Record | None:
    """Show every state, and return the last; `None` if the stream was over before it was told."""
    async with contextlib.aclosing(events(service, f"{address(job_id)}/events", patience, known=known)) as stream:
        async for event in stream:
            if event.name in _GONE:
                view.gone(event)
                raise JobGone(f"{job_id} {_GONE[event.name]}")
            if event.name == "changed":
                record = Record.of(event.data)
                view.changed(record)
                if record.job.status in ENDS:
                    return record
    return None


async def _whole(service: Service, job_id: str, patience: Patience, last: Record | None) -> Record:
    """Return the record with its result, or the `last` state of a job that is gone and had no result.

    Raises `JobGone` if it had: that is what it was watched for.
    """
    while True:
        try:
            record = await service.job(job_id)
        except ServiceAway as away:
            await patience.wait(away)
        except Refused as refused:
            if last is None or refused.exit_code is not Exit.GONE:
                raise
            if last.job.status == "completed":
                raise JobGone(f"{job_id} has completed, and was gone before its result was read") from refused
            return last
        else:
            patience.connected()
            return record
