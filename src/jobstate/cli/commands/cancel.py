"""`jobstate cancel`."""

import click

from jobstate._requests import cancel_job
from jobstate.cli.command import Command
from jobstate.cli.connection import send
from jobstate.cli.exit_codes import Exit
from jobstate.cli.options import JOB_ID, service_options
from jobstate.cli.output import print_json, print_line
from jobstate.config import ClientConfig


@click.command(cls=Command, exit_codes=(Exit.NOT_FOUND,))
@click.argument("job_id", metavar="ID", type=JOB_ID)
@service_options
def cancel(config: ClientConfig, as_json: bool, job_id: str) -> None:
    """Cancel a job. A leased job continues until its worker stops; the worker may still complete it."""
    record = send(config, cancel_job(job_id))
    if as_json:
        print_json(record.json)
    else:
        print_line("cancelled" if record.job.status == "cancelled" else "cancellation requested")
