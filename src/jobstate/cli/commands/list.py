"""`jobstate list`."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import click
from msgspec import Raw, Struct

from jobstate._options import JobFilter
from jobstate._requests import list_jobs as request_of
from jobstate._responses import read_json
from jobstate.cli.command import Command
from jobstate.cli.connection import Client, open_client
from jobstate.cli.options import TEXT, filter_options, service_options
from jobstate.cli.render.listing import ColumnListing, JsonListing, Listing
from jobstate.config import ClientConfig

#: The maximum of jobs in one response, and the default of `--limit`.
MAX_PAGE: Final = 200
DEFAULT_LIMIT: Final = 50


@click.command("list", cls=Command, short_help="List jobs, newest first.")
@filter_options
@click.option(
    "--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, show_default=True, help="Maximum number of jobs."
)
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--cursor", type=TEXT, help="Continue after the `next_cursor` of a list with the same filters.")
@service_options
def list_jobs(config: ClientConfig, as_json: bool, limit: int, everything: bool, **query: Any) -> None:
    """List jobs, newest first: a table on a terminal, else tab-separated columns.

    Times have an offset, such as 2026-11-29T10:00:00Z.
    """
    filters = {name: value for name, value in query.items() if value is not None}
    listing = _listing(as_json)
    next_cursor = None
    with open_client(config) as client:
        for page in pages(client, filters, None if everything else limit):
            listing.page(page.items)
            next_cursor = page.next_cursor
    listing.end(next_cursor)


class Page(Struct, frozen=True):
    """One page of a list, whose jobs are JSON byte for byte, and the cursor of the next one."""

    items: list[Raw]
    next_cursor: str | None = None


def pages(client: Client, query: Mapping[str, Any], limit: int | None) -> Iterator[Page]:
    """Yield pages up to `limit` jobs in total. Any page may be short or empty."""
    remaining = limit
    cursor = query.get("cursor")
    filters = cast(JobFilter, {name: value for name, value in query.items() if name != "cursor"})
    while True:
        size = MAX_PAGE if remaining is None else min(remaining, MAX_PAGE)
        request = request_of(limit=size, cursor=cursor, **filters).reading(read_json(Page))
        page: Page = client.send(request)
        yield page
        remaining = None if remaining is None else remaining - len(page.items)
        cursor = page.next_cursor
        if cursor is None or remaining == 0:
            return


def _listing(as_json: bool) -> Listing:
    if as_json:
        return JsonListing()
    if not sys.stdout.isatty():
        return ColumnListing()
    from jobstate.cli.render.tables import TableListing  # rich takes long to import
    from jobstate.cli.render.terminal import console

    return TableListing(console())
