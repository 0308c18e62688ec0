"""The command `jobstate doctor`."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from types import FrameType
from typing import Final, NoReturn

import click
import msgspec
from rich.text import Text

from jobstate_cli.command import Command, run
from jobstate_cli.output import console, escape_control_chars, print_json, print_line, print_stderr
from service.cli.options import merge_environment, options
from service.domain.errors import JobStateError
from service.embedded import attach_or_start
from service.observability import logs
from service.server.signals import end_as_sigint
from service.settings import VARIABLES, Settings, SettingsError, redact_url
from service.store.client import StoreClient
from service.store.doctor import RATE, CheckStats, Issue, check
from service.store.observer import NullObserver
from service.store.pool import create_pool
from service.store.queries import store_health


class Exit(IntEnum):
    """How the command ended."""

    OK = 0
    ISSUES_FOUND = 1
    USAGE = 2
    CHECK_FAILED = 3


HELP: Final = """\
Exit codes: 0 all is well, or everything was repaired; 1 something is not as it should be; 2 wrong usage; 3 it could not
be looked at; 130 Ctrl-C."""
_REDIS_OPTIONS: Final = [one for one in VARIABLES if one.field in {"redis_url", "redis_host", "redis_port", "data"}]
#: How many findings a person is shown.
MAX_PRINTED: Final = 50


@click.command(cls=Command, epilog=HELP, short_help="Say what in Redis does not fit together, and repair it.")
@options(*_REDIS_OPTIONS)
@click.option("--repair", is_flag=True, help="Put right what can be: indexes, out of the records; times to live.")
@click.option(
    "--rate",
    type=click.FloatRange(1, 1_000_000),
    default=RATE,
    show_default=True,
    help="Keys and index entries looked at in a second, at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
@click.pass_context
def doctor(ctx: click.Context, /, repair: bool, rate: float, as_json: bool, **given: str | None) -> None:
    """Walk over all that the service keeps in Redis, beside the running service, and say what does not fit together.

    The Redis is the one that `serve` works on in the same environment; of the embedded server it may run or not.
    """
    signal.signal(signal.SIGTERM, _terminate)
    end_as_sigint()
    try:
        settings = Settings.from_environment(merge_environment(os.environ, given))
    except SettingsError as error:
        _exit_with_error(ctx, Exit.USAGE, str(error))
    logs.configure("warning", settings.log_format)
    try:
        with _redis(settings) as (redis_url, home):
            report = Report(home, as_json)
            run(_examine(redis_url, repair, rate, report))
    except Exception as error:  # for what ends with 1 is drift
        _exit_with_error(ctx, Exit.CHECK_FAILED, str(error) or type(error).__name__)
    report.end()
    ctx.exit(Exit.ISSUES_FOUND if report.unrepaired else Exit.OK)


class Durability(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether Redis let the doctor check that it keeps what it acknowledges; if so, what puts jobs at risk."""

    checked: bool
    concerns: list[str] = []
    detail: str = ""

    def lines(self) -> Iterator[str]:
        """Yield what a person should know."""
        yield from (f"jobs at risk: {concern}" for concern in self.concerns)
        if not self.checked:
            yield f"durability not checked: {self.detail}"


class Report:
    """What has been found, for people or as JSON."""

    def __init__(self, home: str, as_json: bool) -> None:
        """Report on the Redis at `home`, which is words."""
        self.tally = CheckStats()
        self.durability = Durability(checked=False)
        self._home, self._as_json = home, as_json
        self._found: list[Issue] = []
        self._started = time.monotonic()
        self._out = console()

    @property
    def unrepaired(self) -> int:
        """How much is not as it should be."""
        return sum(not one.repaired for one in self._found)

    def add(self, finding: Issue) -> None:
        """Take in what is found, and show it to people at once."""
        self._found.append(finding)
        if self._as_json or (self._out.is_terminal and len(self._found) > MAX_PRINTED):
            return
        columns = (finding.type, finding.key, finding.member or "", finding.detail)
        ending = "repaired" if finding.repaired else ""
        if not self._out.is_terminal:
            print_line(*columns, ending)
            return
        self._out.print(_coloured(columns, ending), soft_wrap=True)

    def end(self) -> None:
        """Show the sum."""
        found, seconds = len(self._found), time.monotonic() - self._started
        if self._as_json:
            summary = {
                "found": found,
                "repaired": found - self.unrepaired,
                "left": self.unrepaired,
                "seconds": round(seconds, 3),
            }
            durability = msgspec.to_builtins(self.durability)
            looked_at = {"redis": self._home, **msgspec.to_builtins(self.tally), "durability": durability}
            print_json(msgspec.json.encode({**looked_at, **summary, "findings": self._found}) + b"\n", end=False)
            return
        if self._out.is_terminal and found > MAX_PRINTED:
            print_line(f"… and {found - MAX_PRINTED:,} more, which --json shows")
        for line in self._summary(found, seconds):
            print_line(line)

    def _summary(self, found: int, seconds: float) -> Iterator[str]:
        yield f"{self.tally.jobs:,} jobs and {self.tally.entries:,} index entries in {seconds:.1f} s in {self._home}"
        if not self.tally.counted:
            yield "counts were not compared: something changed meanwhile"
        yield from self.durability.lines()
        yield (
            f"{found:,} found, {found - self.unrepaired:,} repaired, {self.unrepaired:,} left"
            if found
            else "nothing has drifted"
        )


def _coloured(columns: Sequence[str], ending: str) -> Text:
    drift, key, member, detail = map(escape_control_chars, columns)
    return Text.assemble(
        (f"{drift:<9}", "yellow" if ending else "bold red"),
        (key, "bold"),
        " ",
        member,
        ": " if member else "",
        detail,
        (f" {ending}", "green"),
    )


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the URL of the Redis to look at, and where that is in words for people."""
    if settings.redis_url is not None:
        yield settings.redis_url, redact_url(settings.redis_url)
    else:
        with attach_or_start(settings.data) as found:
            yield found


async def _examine(redis_url: str, repair: bool, rate: float, report: Report) -> None:
    pool = create_pool(redis_url, max_connections=2)
    gateway = StoreClient(pool, NullObserver())
    try:
        async for finding in check(gateway, repair=repair, rate=rate, tally=report.tally):
            report.add(finding)
        report.durability = await _durability(gateway)
    finally:
        await pool.disconnect()


async def _durability(gateway: StoreClient) -> Durability:
    try:
        return Durability(checked=True, concerns=(await store_health(gateway)).warnings)
    except JobStateError as error:
        return Durability(checked=False, detail=str(error))


def _exit_with_error(ctx: click.Context, code: Exit, why: str) -> NoReturn:
    print_stderr(f"Error: {why}")
    ctx.exit(code)


def _terminate(_: int, __: FrameType | None) -> None:
    """Leave by way of every `finally`, so that a server that was started is ended."""
    sys.exit(128 + signal.SIGTERM)
