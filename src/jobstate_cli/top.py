"""`jobstate top`: what goes on in the service, live."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import click
from rich.console import Console, RenderableType
from rich.live import Live

from jobstate_cli.command import Command, run, service_options
from jobstate_cli.errors import RequestRejected, ServiceUnavailable
from jobstate_cli.picture import Snapshot, fetch_snapshot, render
from jobstate_cli.service import Service, open_client
from jobstate_cli.streams import ReconnectPolicy, events
from jobstate_cli.target import ClientConfig
from jobstate_cli.terminal import console, print_json, print_stderr

#: Seconds between two pictures: at least, however much happens, and at most, though nothing does.
MIN_REFRESH: Final = 0.5
MAX_REFRESH: Final = 5.0


@click.command(cls=Command, short_help="Show counts, queues and running jobs, live.")
@click.option("--once", is_flag=True, help="Print one picture and end; so it does where there is no terminal.")
@service_options
def top(target: ClientConfig, as_json: bool, once: bool) -> None:
    """Show counts, queues and running jobs, live; Ctrl-C ends it.

    With --json a line for each picture: the answers of /v1/stats, /v1/queues, /v1/drain, and the running jobs.
    """
    run(_top(target, as_json, once))


class Display(Protocol):
    """Shows one picture after the other."""

    def show(self, snapshot: Snapshot) -> None:
        """Show a new picture."""

    def show_error(self, reason: str) -> None:
        """Say why there is no newer picture."""


async def _top(target: ClientConfig, as_json: bool, once: bool) -> None:
    out = console()
    async with open_client(target) as service:
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
    """Show pictures without end, a new one when something has happened."""
    changed = asyncio.Event()
    listener = asyncio.create_task(_listen(service, changed.set))
    display.show(first)
    try:
        while True:
            await asyncio.sleep(MIN_REFRESH)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    MAX_REFRESH
                ):  # up to Python 3.11 `wait_for` may swallow the end that was asked for
                    await changed.wait()
            changed.clear()
            try:
                display.show(await fetch_snapshot(service))
            except ServiceUnavailable as error:
                display.show_error(str(error))
    finally:
        listener.cancel()


async def _listen(service: Service, on_change: Callable[[], None]) -> None:
    """Hear of every change, for as long as the service has a stream of them."""
    stream = events(service, "/v1/events", ReconnectPolicy(_RefreshOnReconnect(on_change)), already_exists=True)
    with contextlib.suppress(RequestRejected):
        async with contextlib.aclosing(stream):
            async for _ in stream:
                on_change()


class _RefreshOnReconnect:
    """Takes a new connection for a reason to look."""

    def __init__(self, happened: Callable[[], None]) -> None:
        self.on_reconnect = happened

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Leave it to the next picture to find out."""


class JsonLines:
    """Writes each picture as a line of JSON."""

    def show(self, snapshot: Snapshot) -> None:
        """Write it."""
        print_json(snapshot.json)

    def show_error(self, reason: str) -> None:
        """Tell people."""
        print_stderr(_unavailable_text(reason))


class Screen:
    """Draws the newest picture on the whole terminal; times go on between two."""

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
        """Draw a new picture."""
        self._snapshot, self._error = snapshot, ""

    def show_error(self, reason: str) -> None:
        """Keep the old picture, and say why."""
        self._error = _unavailable_text(reason)

    def _render(self) -> RenderableType:
        return render(self._snapshot, self._url, self._console.height, self._error)


def _unavailable_text(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}; trying again."
