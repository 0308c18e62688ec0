"""The command `jobstate copy`."""

import os
import signal
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import click

from jobstate.cli.command import Command, run
from jobstate.cli.output import print_line, print_stderr
from service.cli.options import describe, merge_environment, options
from service.embedded import attach_or_start
from service.observability import logs
from service.server.signals import exit_on_signals
from service.settings import VARIABLES, Settings, SettingsError, redact_url
from service.store.copy import copy_database
from service.store.deployments import open_deployment
from service.store.opening import open_store
from service.store.partition_count import read_partition_count


class Exit(IntEnum):
    """The exit codes of the command."""

    OK = 0
    NOT_COPIED = 1
    USAGE = 2


HELP: Final = "Exit codes: 0 copied; 1 not copied, and services refuse TO; 2 wrong usage; 130 Ctrl-C."
#: Seconds between two lines of progress about the same step.
INTERVAL: Final = 1.0
_PARTITIONS: Final = next(variable for variable in VARIABLES if variable.field == "redis_partitions")


class Database(click.ParamType[str]):
    """A Redis URL, or the data directory of an embedded server."""

    name = "database"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text if the URL is valid."""
        if "://" in value:
            try:
                Settings.from_environment({"REDIS_URL": value})
            except SettingsError as error:
                self.fail(str(error).removeprefix("REDIS_URL="), param, ctx)
        return str(value)


@click.command(cls=Command, epilog=HELP, short_help="Copy all jobs into an empty database.")
@click.argument("from", type=Database())
@click.argument("to", type=Database())
@options(_PARTITIONS)
@click.pass_context
def copy(ctx: click.Context, /, to: str, **given: Any) -> None:
    """Copy all jobs from the database FROM into the empty database TO, which gets REDIS_PARTITIONS partitions.

    FROM and TO are Redis URLs, or data directories of embedded servers. FROM is only read. It must be drained, and all
    services of both must be stopped. Jobs keep their leases and their history. Not copied: the drain, events, and what
    is remembered of claims, deletions and rate limits. An interrupted copy is refused by services; run it again.
    """
    exit_on_signals(128 + signal.SIGTERM)
    source = given.pop("from")
    try:
        settings = Settings.from_environment(merge_environment(_environment(to), given))
    except SettingsError as error:
        print_stderr(f"Error: {describe(error, given)}")
        ctx.exit(Exit.USAGE)
    logs.configure("warning", settings.log_format)
    try:
        with _open(source) as (from_url, location), _open(to) as (to_url, target):
            counts = run(_copy(from_url, to_url, settings.redis_partitions))
    except Exception as error:
        print_stderr(f"Error: {error or type(error).__name__}")
        ctx.exit(Exit.NOT_COPIED)
    for (queue, status), count in sorted(counts.items()):
        print_line(queue, status, f"{count:,}")
    print_line(f"{sum(counts.values()):,} jobs copied from {location} to {target}")


def _environment(to: str) -> dict[str, str]:
    """Return what the settings of TO depend on."""
    partitions = {name: value for name, value in os.environ.items() if name == _PARTITIONS.name}
    return {**partitions, "REDIS_URL": to if "://" in to else ""}


def _open(database: str) -> AbstractContextManager[tuple[str, str]]:
    """Return a context manager that yields the URL of a database, and its location for people to read."""
    if "://" in database:
        return nullcontext((database, redact_url(database)))
    return attach_or_start(Path(database))


async def _copy(from_url: str, to_url: str, partitions: int) -> Counter[tuple[str, str]]:
    count = await read_partition_count(from_url)
    print_stderr(f"from {count:,} to {partitions:,} partitions")
    target = open_deployment(to_url, partitions=partitions, max_connections=2)
    try:
        async with open_store(from_url, partitions=count, max_connections=2) as source:
            return await copy_database(source, target, ProgressLines())
    finally:
        await target.aclose()
        await target.pool.disconnect()


class ProgressLines:
    """Writes progress to standard error, a line a second for each step."""

    def __init__(self) -> None:
        self._step, self._printed = "", 0.0

    def __call__(self, step: str, jobs: int) -> None:
        """Report what is done, and for how many jobs."""
        if step == self._step and time.monotonic() - self._printed < INTERVAL:
            return
        self._step, self._printed = step, time.monotonic()
        print_stderr(f"{step} {jobs:,} jobs")
