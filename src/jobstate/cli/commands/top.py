"""`jobstate top`."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, Protocol

import click

from jobstate._flow import Flow
from jobstate._requests import all_events, get_drain, get_stats, list_jobs, list_queues
from jobstate._responses import decode_json, read_bytes
from jobstate._sse import EventStream
from jobstate.cli.command import Command, run
from jobstate.cli.connection import AsyncClient, ReconnectRetry, open_async_client
from jobstate.cli.exit_codes import error_text
from jobstate.cli.options import service_options
from jobstate.cli.output import print_json, print_stderr
from jobstate.cli.render.dashboard import Screen, Snapshot, render, unavailable_text
from jobstate.cli.render.terminal import console
from jobstate.config import ClientConfig
from jobstate.errors import RequestRejected, ServiceUnavailable
from jobstate.models import DrainStatus, JobPage, QueueList, Stats

#: The maximum of running jobs that are requested.
MAX_RUNNING_JOBS: Final = 100
#: Minimum and maximum seconds between two snapshots.
MIN_REFRESH: Final = 0.5
MAX_REFRESH: Final = 5.0


@click.command(cls=Command, short_help="Show counts, queues and running jobs, live.")
@click.option("--once", is_flag=True, help="Print one snapshot and exit. The default if the output is not a terminal.")
@service_options
def top(config: ClientConfig, as_json: bool, once: bool) -> None:
    """Show counts, queues and running jobs, live. Stop with Ctrl-C.

    With --json, write a line for each snapshot: the responses of /v1/stats, /v1/queues and /v1/drain, and the running
    jobs.
    """
    run(_top(config, as_json, once))


class Display(Protocol):
    """Shows snapshots."""

    def show(self, snapshot: Snapshot) -> None:
        """Show a new snapshot."""

    def show_error(self, reason: str) -> None:
        """Show why there is no new snapshot."""


async def _top(config: ClientConfig, as_json: bool, once: bool) -> None:
    out = console()
    async with open_async_client(config) as client:
        snapshot = await fetch_snapshot(client)
        if as_json and once:
            print_json(snapshot.json)
        elif as_json:
            await refresh(client, JsonLines(), snapshot)
        elif once or not out.is_interactive:
            out.print(render(snapshot, client.url, None))
        else:
            with Screen(out, client.url, snapshot).live() as screen:
                await refresh(client, screen, snapshot)


async def fetch_snapshot(client: AsyncClient) -> Snapshot:
    """Request a snapshot. Raises `ServiceUnavailable` and `RequestRejected`."""
    running_jobs = list_jobs(status="running", limit=MAX_RUNNING_JOBS)
    requests = [request.reading(read_bytes) for request in (get_stats(), list_queues(), get_drain(), running_jobs)]
    stats, queues, drain, running = await asyncio.gather(*map(client.send, requests))
    return Snapshot(
        stats=decode_json(stats, Stats),
        queues=decode_json(queues, QueueList).items,
        drain=decode_json(drain, DrainStatus),
        running=decode_json(running, JobPage).items,
        json=b'{"stats":%b,"queues":%b,"drain":%b,"running":%b}' % (stats, queues, drain, running),
        fetched_at=time.monotonic(),
    )


async def refresh(client: AsyncClient, display: Display, first: Snapshot) -> None:
    """Show a new snapshot whenever a job changes, and at least every `MAX_REFRESH` seconds, for ever."""
    changed = asyncio.Event()
    listener = asyncio.create_task(_listen(client, changed.set))
    display.show(first)
    try:
        while True:
            await asyncio.sleep(MIN_REFRESH)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_REFRESH):  # before Python 3.12 `wait_for` may swallow a cancellation
                    await changed.wait()
            changed.clear()
            try:
                display.show(await fetch_snapshot(client))
            except ServiceUnavailable as error:
                display.show_error(error_text(error))
    finally:
        listener.cancel()


async def _listen(client: AsyncClient, on_change: Callable[[], None]) -> None:
    """Call `on_change` for each event; return if the service has no event stream."""
    with contextlib.suppress(RequestRejected):
        await client.run(_follow_events(on_change))


def _follow_events(on_change: Callable[[], None]) -> Flow[None]:
    retry = ReconnectRetry(_RefreshOnReconnect(on_change), already_exists=True)
    stream = EventStream(lambda last_id: retry.observed(all_events(last_id)), retry)
    while (yield from stream.next()) is not None:
        on_change()


class _RefreshOnReconnect:
    """Requests a new snapshot after each reconnect."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.on_reconnect = on_change

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Do nothing: the next snapshot fails, too."""


class JsonLines:
    """Writes each snapshot as a line of JSON."""

    def show(self, snapshot: Snapshot) -> None:
        """Write a snapshot."""
        print_json(snapshot.json)

    def show_error(self, reason: str) -> None:
        """Write the error to standard error."""
        print_stderr(unavailable_text(reason))
