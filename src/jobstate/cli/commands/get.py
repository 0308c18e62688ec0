"""`jobstate get`."""

import sys
from collections.abc import Iterator
from typing import Final

import click
import msgspec
from msgspec import Raw

from jobstate._requests import get_job, get_result
from jobstate._responses import decode_json
from jobstate.cli.command import Command
from jobstate.cli.connection import send
from jobstate.cli.exit_codes import Exit
from jobstate.cli.options import JOB_ID, service_options
from jobstate.cli.output import on_one_line, print_json, print_line
from jobstate.config import ClientConfig

#: The fields that contain any JSON. They are shown as JSON.
FREE: Final = frozenset({"input_params", "result", "error_message"})


@click.command(cls=Command, exit_codes=(Exit.FAILED, Exit.CANCELLED, Exit.NOT_FOUND))
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--result", "only_result", is_flag=True, help="Print only the result. Exit 3 if failed, 4 if cancelled.")
@service_options
def get(config: ClientConfig, as_json: bool, job_id: str, only_result: bool) -> None:
    """Show a job's record. The exit code does not depend on the job's status, except with --result."""
    if only_result:
        if result := send(config, get_result(job_id)):
            print_json(result)
        return
    record = send(config, get_job(job_id)).json
    if as_json:
        print_json(record)
    else:
        print_record(record)


def print_record(record: bytes) -> None:
    """Print the fields of a record: a table on a terminal, else a line for each."""
    fields = format_fields(record)
    if sys.stdout.isatty():
        from jobstate.cli.render.tables import print_fields  # rich takes long to import
        from jobstate.cli.render.terminal import console

        print_fields(console(), fields)
        return
    for name, value in fields:
        print_line(name, value)


def format_fields(record: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name and the value as text of every field in the record, also of unknown ones."""
    for name, value in decode_json(record, dict[str, Raw]).items():
        text = bytes(value).decode()
        yield name, msgspec.json.decode(value) if text.startswith('"') and name not in FREE else on_one_line(text)
