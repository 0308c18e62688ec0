"""`jobstate bulk`."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import click
from msgspec import Raw, Struct

from jobstate._bulk import (
    BulkKind,
    abort_bulk_action,
    ended_flow,
    error_of,
    get_bulk_action,
    list_bulk_actions,
    read_bulk_action,
    start_bulk_action,
)
from jobstate._bulk_models import BulkAction
from jobstate._options import JobFilter
from jobstate._requests import Request
from jobstate._responses import Response, decode_json, read_bytes
from jobstate.cli.command import Command
from jobstate.cli.commands.get import print_record
from jobstate.cli.connection import Client, ReconnectRetry, open_client, send
from jobstate.cli.exit_codes import ABOUT_BULK, BULK, Exit
from jobstate.cli.options import JOB_ID, filter_options, service_options
from jobstate.cli.output import print_json, print_line, print_stderr
from jobstate.cli.render.bulk import Messages, View, cells, print_columns, summary
from jobstate.config import ClientConfig
from jobstate.errors import AccessDenied, ServiceUnavailable

_STARTING: Final = """At least one filter is needed. Jobs that are created meanwhile do not match. The last line has how
many jobs matched, were done and were refused. Ctrl-C ends the command, but not the bulk action."""
_GOES_ON: Final = "The bulk action {0} goes on. To end it: jobstate bulk abort {0}"
_MAY_GO_ON: Final = "The bulk action may have been started. To see it: jobstate bulk list"


@click.group(short_help="Cancel, retry or delete all jobs that match.")
def bulk() -> None:
    """Cancel, retry or delete all jobs that match.

    The service carries it out, also after the command has ended.
    """


def _add_command(action: BulkKind, text: str) -> None:
    """Add the command that starts this action."""

    @bulk.command(action, cls=Command, exit_codes=BULK, short_help=text, help=f"{text}\n\n{_STARTING}")
    @filter_options
    @click.option("--dry-run", is_flag=True, help="Only count the jobs.")
    @click.option("--expect", type=click.IntRange(min=0), metavar="N", help="Change nothing unless N jobs match.")
    @click.option("--no-wait", is_flag=True, help="Print the id of the bulk action instead of waiting for its end.")
    @service_options
    def start(
        config: ClientConfig, as_json: bool, dry_run: bool, expect: int | None, no_wait: bool, **filters: Any
    ) -> None:
        if all(value is None for value in filters.values()):
            raise click.UsageError("No filter is given, so that all jobs would match: use --queue or another one.")
        request = start_bulk_action(action, cast(JobFilter, filters), dry_run=dry_run, expect=expect)
        with open_client(config) as client:
            _carry_out(client, request, as_json, no_wait)


_add_command("cancel", "Cancel all jobs that match.")
_add_command("retry", "Retry all failed or cancelled jobs that match.")
_add_command("delete", "Delete all ended jobs that match.")


@bulk.command(cls=Command, exit_codes=ABOUT_BULK)
@click.argument("action_id", metavar="ID", type=JOB_ID)
@service_options
def abort(config: ClientConfig, as_json: bool, action_id: str) -> None:
    """End a bulk action. What it has done stays."""
    reader = _Reader()
    action = send(config, abort_bulk_action(action_id).reading(reader))
    _print(action, reader.json, as_json)


@bulk.command(cls=Command, exit_codes=ABOUT_BULK)
@click.argument("action_id", metavar="ID", type=JOB_ID)
@service_options
def show(config: ClientConfig, as_json: bool, action_id: str) -> None:
    """Show a bulk action. The exit code does not depend on its state."""
    record = send(config, get_bulk_action(action_id).reading(read_bytes))
    if as_json:
        print_json(record)
    else:
        print_record(record)


@bulk.command("list", cls=Command)
@service_options
def list_actions(config: ClientConfig, as_json: bool) -> None:
    """List the bulk actions of the last day, newest first, at most 100."""
    listed = send(config, list_bulk_actions().reading(read_bytes))
    if as_json:
        print_json(listed)
        return
    rows = [cells(decode_json(bytes(item), BulkAction)) for item in decode_json(listed, _Items).items]
    if not sys.stdout.isatty():
        print_columns(rows)
        return
    from jobstate.cli.render.bulk_terminal import print_table  # rich takes long to import
    from jobstate.cli.render.terminal import console

    print_table(console(), rows)


class _Items(Struct):
    items: list[Raw]


class _Reader:
    """Reads bulk actions, and keeps the JSON of the last one byte for byte."""

    json: bytes = b""

    def __call__(self, response: Response) -> BulkAction:
        action = read_bulk_action(response)
        self.json = response.body
        return action


def _carry_out(client: Client, request: Request[BulkAction], as_json: bool, no_wait: bool) -> None:
    """Start a bulk action, wait for its end unless `no_wait`, print it, and exit with its code."""
    reader = _Reader()
    action = _start(client, request.reading(reader))
    if no_wait:
        print_json(reader.json) if as_json else print_line(action.bulk_action_id)
        return
    try:
        with _view(as_json) as view:
            retry = ReconnectRetry(view, already_exists=True)
            reading = retry.observed(get_bulk_action(action.bulk_action_id).reading(reader))
            action = client.run(ended_flow(reading, retry, view.changed))
    except (KeyboardInterrupt, SystemExit, AccessDenied):  # AccessDenied: the key may write, but not read
        print_stderr(_GOES_ON.format(action.bulk_action_id))
        raise
    _print(action, reader.json, as_json)
    sys.exit(_exit_code(action))


def _start(client: Client, request: Request[BulkAction]) -> BulkAction:
    try:
        return client.send(request)
    except (KeyboardInterrupt, SystemExit, ServiceUnavailable) as error:
        if not isinstance(error, ServiceUnavailable) or error.outcome_unknown:
            print_stderr(_MAY_GO_ON)
        raise


def _exit_code(action: BulkAction) -> Exit:
    """Return the exit code for the end of a bulk action. Raises the error for which it was aborted."""
    if (error := error_of(action)) is not None:
        raise error
    if action.state == "aborted":
        print_stderr(f"Error: the bulk action {action.bulk_action_id} was aborted.")
        return Exit.CANCELLED
    if action.state != "done":
        return Exit.ERROR
    return Exit.FAILED if action.refused else Exit.OK


def _print(action: BulkAction, json: bytes, as_json: bool) -> None:
    if as_json:
        print_json(json)
    else:
        print_line(summary(action))


@contextlib.contextmanager
def _view(as_json: bool) -> Iterator[View]:
    """Yield what shows the progress: a bar on a terminal, and nothing but outages elsewhere."""
    show_bar: Callable[..., contextlib.AbstractContextManager[View]] | None = None
    if sys.stdout.isatty() and not as_json:
        from jobstate.cli.render.bulk_terminal import progress_bar  # rich takes long to import
        from jobstate.cli.render.terminal import console

        out = console()
        show_bar = progress_bar if out.is_interactive else None  # not with TERM=dumb
    if show_bar is None:
        yield Messages()
        return
    with show_bar(out) as view:
        yield view
