"""`jobstate top`: what goes on in the service, live."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import click
from rich.console import Console, RenderableType
from rich.live import Live

from jobstate_cli.command import Command, run, service_options
from jobstate_cli.errors import Refused, ServiceAway
from jobstate_cli.picture import Picture, drawn, take
from jobstate_cli.service import Service, connected
from jobstate_cli.streams import Patience, events
from jobstate_cli.target import Target
from jobstate_cli.terminal import console, print_json, say

#: Seconds between two pictures: at least, however much happens, and at most, though nothing does.
LEAST: Final = 0.5
MOST: Final = 5.0


@click.command(cls=Command, short_help="Show counts, queues and running jobs, live.")
@click.option("--once", is_flag=True, help="Print one picture and end; so it does where there is no terminal.")
@service_options
def top(target: Target, as_json: bool, once: bool) -> None:
    """Show counts, queues and running jobs, live; Ctrl-C ends it.

    With --json a line for each picture: the answers of /v1/stats, /v1/queues, /v1/drain, and the running jobs.
    """
    run(_top(target, as_json, once))


class Display(Protocol):
    """Shows one picture after the other."""

    def show(self, picture: Picture) -> None:
        """Show a new picture."""

    def away(self, reason: str) -> None:
        """Say why there is no newer picture."""


async def _top(target: Target, as_json: bool, once: bool) -> None:
    out = console()
    async with connected(target) as service:
        first = await take(service)
        if as_json and once:
            print_json(first.json)
        elif as_json:
            await refresh(service, JsonLines(), first)
        elif once or not out.is_interactive:
            out.print(drawn(first, service.url, None))
        else:
            with Screen(out, service.url, first).live() as screen:
                await refresh(service, screen, first)


async def refresh(service: Service, display: Display, first: Picture) -> None:
    """Show pictures without end, a new one when something has happened."""
    happened = asyncio.Event()
    listening = asyncio.create_task(_listen(service, happened.set))
    display.show(first)
    try:
        while True:
            await asyncio.sleep(LEAST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST):  # up to Python 3.11 `wait_for` may swallow the end that was asked for
                    await happened.wait()
            happened.clear()
            try:
                display.show(await take(service))
            except ServiceAway as away:
                display.away(str(away))
    finally:
        listening.cancel()


async def _listen(service: Service, happened: Callable[[], None]) -> None:
    """Hear of every change, for as long as the service has a stream of them."""
    stream = events(service, "/v1/events", Patience(_Waking(happened)), known=True)
    with contextlib.suppress(Refused):
        async with contextlib.aclosing(stream):
            async for _ in stream:
                happened()


class _Waking:
    """Takes a new connection for a reason to look."""

    def __init__(self, happened: Callable[[], None]) -> None:
        self.back = happened

    def lost(self, reason: str, pause: float) -> None:
        """Leave it to the next picture to find out."""


class JsonLines:
    """Writes each picture as a line of JSON."""

    def show(self, picture: Picture) -> None:
        """Write it."""
        print_json(picture.json)

    def away(self, reason: str) -> None:
        """Tell people."""
        say(_away(reason))


class Screen:
    """Draws the newest picture on the whole terminal; times go on between two."""

    def __init__(self, out: Console, url: str, first: Picture) -> None:
        self._console = out
        self._url = url
        self._picture = first
        self._trouble = ""

    @contextlib.contextmanager
    def live(self) -> Iterator["Screen"]:
        """Draw during the block."""
        with Live(get_renderable=self._drawn, console=self._console, screen=True, refresh_per_second=2):
            yield self

    def show(self, picture: Picture) -> None:
        """Draw a new picture."""
        self._picture, self._trouble = picture, ""

    def away(self, reason: str) -> None:
        """Keep the old picture, and say why."""
        self._trouble = _away(reason)

    def _drawn(self) -> RenderableType:
        return drawn(self._picture, self._url, self._console.height, self._trouble)


def _away(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}; trying again."
