"""`jobstate watch`: see a job to its end."""

import sys

import click

from jobstate_cli.command import JOB_ID, Command, run, service_options
from jobstate_cli.exits import Exit
from jobstate_cli.follow import follow
from jobstate_cli.service import open_client
from jobstate_cli.target import ClientConfig
from jobstate_cli.terminal import console
from jobstate_cli.views import view_on

#: How long a command that follows a job may take.
timeout_option = click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after so long; the job goes on.",
)


@click.command(cls=Command, short_help="Follow a job to its end.")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@timeout_option
@service_options
def watch(target: ClientConfig, as_json: bool, job_id: str, seconds: float | None) -> None:
    """Follow a job to its end, and print its result or error.

    Draws a progress bar on a terminal, writes one line for each change elsewhere, and with --json the events as JSON
    lines, the last with the whole record. Once it has seen the job, it outlasts a service that is away.
    """
    sys.exit(run(_watch(target, as_json, job_id, seconds)))


async def _watch(target: ClientConfig, as_json: bool, job_id: str, seconds: float | None) -> Exit:
    async with open_client(target) as service:
        with view_on(console(), lambda: service.now, as_json=as_json) as view:
            return await follow(service, job_id, view, seconds)
