"""`jobstate top`."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import click
from rich.console import Console, RenderableType
from rich.live import Live

from jobstate_cli.command import Command, run, service_options
from jobstate_cli.config import ClientConfig
from jobstate_cli.errors import RequestRejected, ServiceUnavailable
from jobstate_cli.output import console, print_json, print_stderr
from jobstate_cli.service import Service, open_client
from jobstate_cli.snapshot import Snapshot, fetch_snapshot, render
from jobstate_cli.streams import ReconnectPolicy, events

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
    async with open_client(config) as service:
        snapshot = await fetch_snapshot(service)
        if as_json and once:
            print_json(snapshot.json)
        elif as_json:
            await refresh(service, JsonLines(), snapshot)
        elif once or not out.is_interactive:
            out.print(render(snapshot, service.url, None))
        else:
            with Screen(out, service.url, snapshot).live() as screen:
                await refresh(service, screen, snapshot)


async def refresh(service: Service, display: Display, first: Snapshot) -> None:
    """Show a new snapshot whenever a job changes, and at least every `MAX_REFRESH` seconds, for ever."""
    changed = asyncio.Event()
    listener = asyncio.create_task(_listen(service, changed.set))
    display.show(first)
    try:
        while True:
            await asyncio.sleep(MIN_REFRESH)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_REFRESH):  # before Python 3.12 `wait_for` may swallow a cancellation
                    await changed.wait()
            changed.clear()
            try:
                display.show(await fetch_snapshot(service))
            except ServiceUnavailable as error:
                display.show_error(str(error))
    finally:
        listener.cancel()


async def _listen(service: Service, on_change: Callable[[], None]) -> None:
    """Call `on_change` for each event; return if the service has no event stream."""
    stream = events(service, "/v1/events", ReconnectPolicy(_RefreshOnReconnect(on_change)), already_exists=True)
    with contextlib.suppress(RequestRejected):
        async with contextlib.aclosing(stream):
            async for _ in stream:
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
        print_stderr(_unavailable_text(reason))


class Screen:
    """Draws the latest snapshot on the whole terminal, and updates the times twice a second."""

    def __init__(self, out: Console, url: str, first: Snapshot) -> None:
        self._console = out
        self._url = url
        self._snapshot = first
        self._error = ""

    @contextlib.contextmanager
    def live(self) -> Iterator["Screen"]:
        """Draw during the block."""
        with Live(get_renderable=self._render, console=self._console, screen=True, refresh_per_second=2):
            yield self

    def show(self, snapshot: Snapshot) -> None:
        """Draw a new snapshot."""
        self._snapshot, self._error = snapshot, ""

    def show_error(self, reason: str) -> None:
        """Keep the old snapshot, and show the error."""
        self._error = _unavailable_text(reason)

    def _render(self) -> RenderableType:
        return render(self._snapshot, self._url, self._console.height, self._error)


def _unavailable_text(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}; retrying."
