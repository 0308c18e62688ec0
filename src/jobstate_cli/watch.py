"""`jobstate watch`."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobstate_cli.command import JOB_ID, Command, run, service_options
from jobstate_cli.config import ClientConfig
from jobstate_cli.exit_codes import FOLLOWING, Exit
from jobstate_cli.follow import follow
from jobstate_cli.output import console
from jobstate_cli.service import open_client
from jobstate_cli.views import view_on

C = TypeVar("C", bound=Callable[..., Any])


def timeout_option(text: str) -> Callable[[C], C]:
    """Return the option `--timeout` for a command that follows a job; `text` is its help."""
    limit = click.FloatRange(min=0, min_open=True)
    return click.option("--timeout", "seconds", type=limit, metavar="SECONDS", help=text)


@click.command(cls=Command, exit_codes=FOLLOWING, short_help="Follow a job until it is finished.")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@timeout_option("Maximum time to wait. The job continues.")
@service_options
def watch(config: ClientConfig, as_json: bool, job_id: str, seconds: float | None) -> None:
    """Follow a job until it is finished, and print its result or error.

    Draws a progress bar on a terminal, and writes one line for each change elsewhere. With --json it writes one JSON
    line for each event, the last with the complete record. Once it has received an event, it reconnects after outages.
    """
    sys.exit(run(_watch(config, as_json, job_id, seconds)))


async def _watch(config: ClientConfig, as_json: bool, job_id: str, seconds: float | None) -> Exit:
    async with open_client(config) as service:
        with view_on(console(), lambda: service.now, as_json=as_json) as view:
            return await follow(service, job_id, view, seconds)
