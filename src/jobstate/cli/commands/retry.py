"""`jobstate retry`."""

from typing import Any, cast

import click

from jobstate._options import RetryOptions
from jobstate._requests import retry_job
from jobstate.cli.command import Command
from jobstate.cli.connection import send
from jobstate.cli.exit_codes import Exit
from jobstate.cli.options import JOB_ID, service_options
from jobstate.cli.output import print_json, print_line
from jobstate.config import ClientConfig


@click.command(cls=Command, exit_codes=(Exit.NOT_FOUND,))
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--max-attempts", type=int, help="Number of attempts from now on; by default that of the job.")
@click.option("--delay", "delay_seconds", type=int, metavar="SECONDS", help="Time before the job may be claimed.")
@click.option("--priority", type=int, metavar="SECONDS", help="Seniority from now on; by default that of the job.")
@click.option(
    "--run-timeout",
    "run_timeout_seconds",
    type=int,
    metavar="SECONDS",
    help="Time from the start of an attempt after which it has failed; by default that of the job.",
)
@service_options
def retry(config: ClientConfig, as_json: bool, job_id: str, **options: Any) -> None:
    """Retry a failed or cancelled job. It is pending again, with all its attempts left."""
    record = send(config, retry_job(job_id, cast(RetryOptions, options)))
    if as_json:
        print_json(record.json)
    else:
        print_line(str(record.job.status))
