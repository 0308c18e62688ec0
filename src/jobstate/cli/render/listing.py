"""Pages of jobs as JSON, tab-separated columns, or a table."""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Raw

from jobstate._responses import decode_json
from jobstate.cli.output import format_progress, format_time, print_json, print_line, print_stderr
from jobstate.models import Job

COLUMNS: Final = ("JOB", "STATUS", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "SLATE", "WORKER")


class Listing(Protocol):
    """Writes the pages of a list."""

    def page(self, items: Sequence[Raw]) -> None:
        """Write the jobs of a page."""

    def end(self, next_cursor: str | None) -> None:
        """Finish the list; `next_cursor` is not `None` if more jobs exist."""


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
            print_line(*cells(decode_json(item, Job)))

    def end(self, next_cursor: str | None) -> None:
        """Print a hint if more jobs exist."""
        print_more_hint(next_cursor)


def cells(job: Job) -> tuple[str, ...]:
    """Return the text for each of `COLUMNS`."""
    return (
        job.job_id,
        job.status,
        job.queue,
        str(job.attempt),
        format_progress(job.progress),
        format_time(job.created_at),
        job.slate_id or "",
        job.worker or "",
    )


def print_more_hint(next_cursor: str | None) -> None:
    """Print a hint if more jobs exist."""
    if next_cursor:
        print_stderr("More jobs exist: use --limit N or --all.")
