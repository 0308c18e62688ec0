"""`jobstate watch`."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import datetime

import click

from jobstate.cli.command import Command, run
from jobstate.cli.connection import open_async_client
from jobstate.cli.exit_codes import FOLLOWING, Exit
from jobstate.cli.follow import View, follow
from jobstate.cli.options import JOB_ID, service_options, timeout_option
from jobstate.cli.render.json import JsonLines
from jobstate.cli.render.text import Lines
from jobstate.config import ClientConfig


@click.command(cls=Command, exit_codes=FOLLOWING, short_help="Follow a job until it is finished.")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@timeout_option("Maximum time to wait. The job continues.")
@service_options
def watch(config: ClientConfig, as_json: bool, job_id: str, seconds: float | None) -> None:
    """Follow a job until it is finished, and print its result or error.

    Draws a progress bar on a terminal, and writes one line for each change elsewhere. With --json it writes one JSON
    line for each event, the last with the complete record. Once it has received an event, it reconnects after outages.
    """
    sys.exit(run(follow_job(config, as_json, job_id, seconds)))


async def follow_job(
    config: ClientConfig, as_json: bool, job_id: str, seconds: float | None, *, already_exists: bool = False
) -> Exit:
    """Follow a job as `watch` does, and return the exit code for its status. Raises as `follow`."""
    async with open_async_client(config) as client:
        with _view(lambda: client.now, as_json) as view:
            return await follow(client, job_id, view, seconds, already_exists=already_exists)


@contextlib.contextmanager
def _view(now: Callable[[], datetime], as_json: bool) -> Iterator[View]:
    """Yield the view for the output; `now` returns the service's time."""
    if as_json or not sys.stdout.isatty():
        yield JsonLines() if as_json else Lines()
        return
    from jobstate.cli.render.progress import progress_bar  # rich takes long to import
    from jobstate.cli.render.terminal import console

    out = console()
    if not out.is_interactive:  # TERM=dumb
        yield Lines()
        return
    with progress_bar(out, now) as view:
        yield view
