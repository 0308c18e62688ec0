"""Following one job to its end."""

import asyncio
import contextlib
from typing import Protocol

from jobstate_cli.errors import JobGone, ServiceAway, TimedOut
from jobstate_cli.exits import ENDS, Exit
from jobstate_cli.records import Record
from jobstate_cli.service import Service, address
from jobstate_cli.streams import Event, Listener, Patience, events


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
    stream = events(service, f"{address(job_id)}/events", patience, known=known)
    async with contextlib.aclosing(stream):
        async for event in stream:
            if event.name in {"deleted", "expired"}:
                view.gone(event)
                raise JobGone(f"{job_id} was deleted" if event.name == "deleted" else f"{job_id} has expired")
            if event.name == "changed":
                record = Record.of(event.data)
                view.changed(record)
                if record.job.status in ENDS:
                    break
    record = await _whole(service, job_id, patience)
    view.ended(record)
    return ENDS.get(record.job.status, Exit.REFUSED)


async def _whole(service: Service, job_id: str, patience: Patience) -> Record:
    while True:
        try:
            record = await service.job(job_id)
        except ServiceAway as away:
            await patience.wait(away)
        else:
            patience.connected()
            return record
