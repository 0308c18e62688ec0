"""Jobs as tables on a terminal."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Raw
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from jobstate._responses import decode_json
from jobstate.cli.output import escape_control_chars
from jobstate.cli.render.fitting import FittedTable, Time
from jobstate.cli.render.listing import COLUMNS, cells, print_more_hint
from jobstate.cli.render.terminal import status_text
from jobstate.models import Job

#: How a list becomes narrower. Ids as the service generates them (36 characters) stay whole.
_STEPS: Final = (
    ("CREATED", 7),
    ("SLATE", 8),
    ("SLATE", 0),
    ("WORKER", 8),
    ("WORKER", 0),
    ("ATTEMPT", 0),
    ("JOB", 36),
    ("QUEUE", 8),
    ("PROGRESS", 0),
    ("CREATED", 0),
    ("QUEUE", 0),
    ("JOB", 1),
)


class TableListing:
    """Writes a table after the last page, when the column widths are known."""

    def __init__(self, out: Console) -> None:
        self._console = out
        self._table = FittedTable(COLUMNS, _STEPS, folded="JOB")

    def page(self, items: Sequence[Raw]) -> None:
        """Add a row for each job."""
        for item in items:
            job = decode_json(item, Job)
            row: dict[str, RenderableType] = {
                name: Text(escape_control_chars(cell)) for name, cell in zip(COLUMNS, cells(job), strict=True)
            }
            row |= {"STATUS": status_text(job.status), "CREATED": Time(job.created_at)}
            self._table.add_row(*row.values())

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
