"""`jobstate list`."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

import click
from msgspec import Raw
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobstate_cli.command import TEXT, Command, run, service_options
from jobstate_cli.config import ClientConfig
from jobstate_cli.output import (
    STYLES,
    console,
    escape_control_chars,
    print_json,
    print_line,
    print_stderr,
    status_text,
)
from jobstate_cli.records import Job, Page, decoded, format_time
from jobstate_cli.service import Query, Service, open_client

#: The maximum of jobs in one response, and the default of `--limit`.
MAX_PAGE: Final = 200
DEFAULT_LIMIT: Final = 50
COLUMNS: Final = ("JOB", "STATUS", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "SLATE", "WORKER")


@click.command("list", cls=Command, short_help="List jobs, newest first.")
@click.option("--status", type=click.Choice(list(STYLES)), help="Only jobs in this status.")
@click.option("--queue", type=TEXT, help="Only jobs of this queue.")
@click.option("--slate-id", type=TEXT, help="Only jobs of this slate.")
@click.option("--correlation-id", type=TEXT, help="Only jobs with this correlation id.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, show_default=True, help="Maximum number of jobs."
)
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--cursor", type=TEXT, help="Continue after the `next_cursor` of a list with the same filters.")
@service_options
def list_jobs(config: ClientConfig, as_json: bool, limit: int, everything: bool, **query: str | None) -> None:
    """List jobs, newest first: a table on a terminal, else tab-separated columns."""
    filters = {name: value for name, value in query.items() if value is not None}
    run(_list(config, filters, None if everything else limit, _listing(as_json)))


class Listing(Protocol):
    """Writes the pages of a list."""

    def page(self, items: Sequence[Raw]) -> None:
        """Write the jobs of a page."""

    def end(self, next_cursor: str | None) -> None:
        """Finish the list; `next_cursor` is not `None` if more jobs exist."""


async def _list(config: ClientConfig, query: Query, limit: int | None, listing: Listing) -> None:
    async with open_client(config) as service:
        next_cursor = None
        async for page in pages(service, query, limit):
            listing.page(page.items)
            next_cursor = page.next_cursor
        listing.end(next_cursor)


async def pages(service: Service, query: Query, limit: int | None) -> AsyncIterator[Page]:
    """Yield pages up to `limit` jobs in total. Any page may be short or empty."""
    remaining = limit
    while True:
        params = {**query, "limit": MAX_PAGE if remaining is None else min(remaining, MAX_PAGE)}
        page = decoded(Page, await service.read("/v1/jobs", params))
        yield page
        remaining = None if remaining is None else remaining - len(page.items)
        if page.next_cursor is None or remaining == 0:
            return
        query = {**query, "cursor": page.next_cursor}


class JsonListing:
    """Writes one JSON document with the fields of a page."""

    def __init__(self) -> None:
        self._begun = False

    def page(self, items: Sequence[Raw]) -> None:
        """Write the records byte for byte."""
        for item in items:
            self._write(b"," if self._begun else b'{"items":[', bytes(item))
            self._begun = True

    def end(self, next_cursor: str | None) -> None:
        """Write the cursor, if any."""
        self._write(b"]" if self._begun else b'{"items":[]')
        print_json(b',"next_cursor":"%b"}' % next_cursor.encode() if next_cursor else b"}")

    def _write(self, *parts: bytes) -> None:
        print_json(b"".join(parts), end=False)


class ColumnListing:
    """Writes one line for each job, with tab-separated columns."""

    def __init__(self) -> None:
        self._begun = False

    def page(self, items: Sequence[Raw]) -> None:
        """Write a line for each job, after a header line."""
        if not self._begun:
            print_line(*COLUMNS)
            self._begun = True
        for item in items:
            print_line(*cells(decoded(Job, item)))

    def end(self, next_cursor: str | None) -> None:
        """Print a hint if more jobs exist."""
        _print_more_hint(next_cursor)


class TableListing:
    """Writes a table after the last page, when the column widths are known."""

    def __init__(self, out: Console) -> None:
        self._console = out
        self._table = Table(box=None, pad_edge=False, header_style="bold")
        for column in COLUMNS:
            self._table.add_column(column, overflow="fold" if column == "JOB" else "ellipsis", no_wrap=column != "JOB")

    def page(self, items: Sequence[Raw]) -> None:
        """Add a row for each job."""
        for item in items:
            job_id, status, *rest = cells(decoded(Job, item))
            self._table.add_row(
                Text(escape_control_chars(job_id)),
                status_text(status),
                *(Text(escape_control_chars(cell)) for cell in rest),
            )

    def end(self, next_cursor: str | None) -> None:
        """Write the table, and a hint if more jobs exist."""
        self._console.print(self._table)
        _print_more_hint(next_cursor)


def cells(job: Job) -> tuple[str, ...]:
    """Return the text for each of `COLUMNS`."""
    return (
        job.job_id,
        job.status,
        job.queue,
        str(job.attempt),
        str(job.progress or ""),
        format_time(job.created_at),
        job.slate_id or "",
        job.worker or "",
    )


def _listing(as_json: bool) -> Listing:
    if as_json:
        return JsonListing()
    out = console()
    return TableListing(out) if out.is_terminal else ColumnListing()


def _print_more_hint(next_cursor: str | None) -> None:
    if next_cursor:
        print_stderr("More jobs exist: use --limit N or --all.")
