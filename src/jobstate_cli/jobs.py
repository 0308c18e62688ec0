"""`jobstate get` and `jobstate cancel`."""

from collections.abc import Iterator
from typing import Final

import click
import msgspec
from msgspec import Raw
from rich.table import Table
from rich.text import Text

from jobstate_cli.command import JOB_ID, Command, run, service_options
from jobstate_cli.config import ClientConfig
from jobstate_cli.exit_codes import Exit
from jobstate_cli.output import console, escape_control_chars, on_one_line, print_json, print_line, status_text
from jobstate_cli.records import Record, decoded
from jobstate_cli.service import open_client

#: The fields that contain any JSON. They are shown as JSON.
FREE: Final = frozenset({"input_params", "result", "error_message"})


@click.command(cls=Command, exit_codes=(Exit.FAILED, Exit.CANCELLED, Exit.NOT_FOUND))
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--result", "only_result", is_flag=True, help="Print only the result. Exit 3 if failed, 4 if cancelled.")
@service_options
def get(config: ClientConfig, as_json: bool, job_id: str, only_result: bool) -> None:
    """Show a job's record. The exit code does not depend on the job's status, except with --result."""
    if only_result:
        if result := run(_result(config, job_id)):
            print_json(result)
        return
    record = run(_record(config, job_id))
    if as_json:
        print_json(record.json)
    else:
        _show(record)


@click.command(cls=Command, exit_codes=(Exit.NOT_FOUND,))
@click.argument("job_id", metavar="ID", type=JOB_ID)
@service_options
def cancel(config: ClientConfig, as_json: bool, job_id: str) -> None:
    """Cancel a job. A leased job continues until its worker stops; the worker may still complete it."""
    record = run(_cancelled(config, job_id))
    if as_json:
        print_json(record.json)
    else:
        print_line("cancelled" if record.job.status == "cancelled" else "cancellation requested")


async def _record(config: ClientConfig, job_id: str) -> Record:
    async with open_client(config) as service:
        return await service.job(job_id)


async def _result(config: ClientConfig, job_id: str) -> bytes:
    async with open_client(config) as service:
        return await service.result(job_id)


async def _cancelled(config: ClientConfig, job_id: str) -> Record:
    async with open_client(config) as service:
        return await service.cancel(job_id)


def _show(record: Record) -> None:
    out = console()
    if not out.is_terminal:
        for name, value in format_fields(record):
            print_line(name, value)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in format_fields(record):
        cell = status_text(value) if name == "status" else Text(escape_control_chars(value), overflow="fold")
        table.add_row(Text(escape_control_chars(name), "bold"), cell)
    out.print(table)


def format_fields(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the name and the value as text of every field in the record, also of unknown ones."""
    for name, value in decoded(dict[str, Raw], record.json).items():
        text = bytes(value).decode()
        yield name, msgspec.json.decode(value) if text.startswith('"') and name not in FREE else on_one_line(text)
