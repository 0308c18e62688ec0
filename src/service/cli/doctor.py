"""The command `jobstate doctor`."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any, Final, NoReturn

import click
import msgspec
from rich.text import Text

from jobstate.cli.command import Command, run
from jobstate.cli.output import escape_control_chars, print_json, print_line, print_stderr
from jobstate.cli.render.terminal import console
from service import libraries  # noqa: F401
from service.cli.options import describe, merge_environment, options
from service.domain.errors import JobStateError
from service.embedded import attach_or_start
from service.observability import logs
from service.server.signals import exit_on_signals
from service.settings import VARIABLES, Settings, SettingsError, redact_url
from service.store.client import StoreClient
from service.store.doctor import RATE, CheckStats, Issue, check
from service.store.opening import open_store
from service.store.partition_count import read_partition_count
from service.store.queries import JobReader


class Exit(IntEnum):
    """The exit codes of the command."""

    OK = 0
    ISSUES_FOUND = 1
    USAGE = 2
    CHECK_FAILED = 3


HELP: Final = """\
Exit codes: 0 no issues, or all are repaired; 1 unrepaired issues; 2 wrong usage; 3 the check failed; 130 Ctrl-C."""
_REDIS_FIELDS: Final = {"redis_url", "redis_host", "redis_port", "redis_partitions", "data"}
_REDIS_OPTIONS: Final = [variable for variable in VARIABLES if variable.field in _REDIS_FIELDS]
#: How many issues are printed on a terminal.
MAX_PRINTED: Final = 50


@click.command(cls=Command, epilog=HELP, short_help="Check the data in Redis, and repair it.")
@options(*_REDIS_OPTIONS)
@click.option("--repair", is_flag=True, help="Repair indexes from the job records, and missing times to live.")
@click.option(
    "--rate",
    type=click.FloatRange(1, 1_000_000),
    default=RATE,
    show_default=True,
    help="Maximum keys and index entries that are checked per second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_context
def doctor(ctx: click.Context, /, repair: bool, rate: float, as_json: bool, **given: str | None) -> None:
    """Check Redis for inconsistent keys and indexes, and optionally repair them, while the service runs.

    It checks the Redis that `serve` uses in the same environment. An embedded server need not run. Without
    REDIS_PARTITIONS it takes the number of partitions that Redis has.
    """
    exit_on_signals(128 + signal.SIGTERM)
    try:
        environment = merge_environment(os.environ, given)
        settings = Settings.from_environment(environment)
    except SettingsError as error:
        _exit_with_error(ctx, Exit.USAGE, describe(error, given))
    logs.configure("warning", settings.log_format)
    try:
        with _redis(settings) as (redis_url, location):
            report = Report(location, as_json)
            partitions = settings.redis_partitions if environment.get("REDIS_PARTITIONS") else None
            run(_check(redis_url, partitions, repair, rate, report))
    except Exception as error:  # exit code 1 is for issues only
        _exit_with_error(ctx, Exit.CHECK_FAILED, str(error) or type(error).__name__)
    report.end()
    ctx.exit(Exit.ISSUES_FOUND if report.unrepaired else Exit.OK)


class Durability(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether durability could be checked, and what puts jobs at risk."""

    checked: bool
    warnings: list[str] = []
    detail: str = ""


class Report:
    """The report of a check, as text or as JSON."""

    def __init__(self, location: str, as_json: bool) -> None:
        """Report on the Redis at `location`, a text for people to read."""
        self.stats = CheckStats()
        self.partitions = 1
        #: Of a cluster: the names of its nodes.
        self.nodes: list[str] = []
        self.durability = Durability(checked=False)
        self._location, self._as_json = location, as_json
        self._issues: list[Issue] = []
        self._started = time.monotonic()
        self._out = console()

    @property
    def unrepaired(self) -> int:
        """The number of issues that are not repaired."""
        return sum(not issue.repaired for issue in self._issues)

    def add(self, issue: Issue) -> None:
        """Add an issue; as text it is printed at once."""
        self._issues.append(issue)
        if self._as_json or (self._out.is_terminal and len(self._issues) > MAX_PRINTED):
            return
        columns = (issue.type, issue.key, issue.member or "", issue.detail)
        ending = "repaired" if issue.repaired else ""
        if not self._out.is_terminal:
            print_line(*columns, ending)
            return
        self._out.print(_coloured(columns, ending), soft_wrap=True)

    def end(self) -> None:
        """Print the summary."""
        stats, seconds = self.stats, time.monotonic() - self._started
        found, left = len(self._issues), self.unrepaired
        if self._as_json:
            place: dict[str, Any] = {"redis": self._location, "partitions": self.partitions}
            if self.nodes:
                place["nodes"] = self.nodes
            checked = {**place, **msgspec.to_builtins(stats), "durability": self.durability}
            summary = {"found": found, "repaired": found - left, "left": left, "seconds": round(seconds, 3)}
            print_json(msgspec.json.encode({**checked, **summary, "findings": self._issues}) + b"\n", end=False)
            return
        if self._out.is_terminal and found > MAX_PRINTED:
            print_line(f"… and {found - MAX_PRINTED:,} more, which --json shows")
        print_line(f"{stats.jobs:,} jobs and {stats.entries:,} index entries in {seconds:.1f} s in {self._location}")
        if self.partitions > 1:
            nodes = f" on {len(self.nodes)} nodes: {', '.join(self.nodes)}" if self.nodes else ""
            print_line(f"{self.partitions:,} partitions{nodes}")
        if not stats.counted:
            print_line("counts not compared: jobs changed during the check")
        for warning in self.durability.warnings:
            print_line(f"jobs at risk: {warning}")
        if not self.durability.checked:
            print_line(f"durability not checked: {self.durability.detail}")
        print_line(f"{found:,} found, {found - left:,} repaired, {left:,} left" if found else "no issues found")


def _coloured(columns: Sequence[str], ending: str) -> Text:
    issue_type, key, member, detail = map(escape_control_chars, columns)
    text = f" {member}: {detail}" if member else f" {detail}"
    colour = "yellow" if ending else "bold red"
    return Text.assemble((f"{issue_type:<9}", colour), (key, "bold"), text, (f" {ending}", "green"))


def _redis(settings: Settings) -> AbstractContextManager[tuple[str, str]]:
    """Return a context manager that yields the URL of Redis, and its location for people to read."""
    if settings.redis_url is None:
        return attach_or_start(settings.data)
    return nullcontext((settings.redis_url, redact_url(settings.redis_url)))


async def _check(redis_url: str, partitions: int | None, repair: bool, rate: float, report: Report) -> None:
    report.partitions = partitions or await read_partition_count(redis_url)
    async with open_store(redis_url, partitions=report.partitions, max_connections=2) as client:
        async for issue in check(client, repair=repair, rate=rate, stats=report.stats):
            report.add(issue)
        if client.deployment.is_cluster:
            report.nodes = [node.name for node in client.deployment.nodes]
        report.durability = await _durability(client)


async def _durability(client: StoreClient) -> Durability:
    try:
        nodes = await JobReader(client).get_store_health()
        return Durability(checked=True, warnings=[warning for health in nodes for warning in health.labelled_warnings])
    except JobStateError as error:
        return Durability(checked=False, detail=str(error))


def _exit_with_error(ctx: click.Context, code: Exit, reason: str) -> NoReturn:
    print_stderr(f"Error: {reason}")
    ctx.exit(code)
