"""Jobs as tables on a terminal."""

from collections.abc import Iterable, Sequence

from msgspec import Raw
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobstate._responses import decode_json
from jobstate.cli.output import escape_control_chars
from jobstate.cli.render.listing import COLUMNS, cells, print_more_hint
from jobstate.cli.render.terminal import status_text
from jobstate.models import Job


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
            job_id, status, *rest = cells(decode_json(item, Job))
            self._table.add_row(
                Text(escape_control_chars(job_id)),
                status_text(status),
                *(Text(escape_control_chars(cell)) for cell in rest),
            )

    def end(self, next_cursor: str | None) -> None:
        """Write the table, and a hint if more jobs exist."""
        self._console.print(self._table)
        print_more_hint(next_cursor)


def print_fields(out: Console, fields: Iterable[tuple[str, str]]) -> None:
    """Print the names and values of a record's fields."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields:
        cell = status_text(value) if name == "status" else Text(escape_control_chars(value), overflow="fold")
        table.add_row(Text(escape_control_chars(name), "bold"), cell)
    out.print(table)
