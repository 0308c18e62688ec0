"""Bulk actions on a terminal: the progress of one, and a table."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from jobstate._bulk_models import BulkAction
from jobstate.cli.output import escape_control_chars
from jobstate.cli.render.bulk import COLUMNS
from jobstate.cli.render.fitting import FittedTable
from jobstate.cli.render.messages import RECONNECTED, disconnected_text

#: The columns that are aligned right, and how a table becomes narrower.
_RIGHT: Final = frozenset({"MATCHED", "DONE", "REFUSED"})
_STEPS: Final = (("FILTER", 12), ("CREATED", 0), ("FILTER", 0), ("REFUSED", 0), ("DONE", 0), ("MATCHED", 0))


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator["ProgressBar"]:
    """Yield a bar that is drawn during the block, and removed after it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(24, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[numbers]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield ProgressBar(bar)


class ProgressBar:
    """Draws the progress of a bulk action."""

    def __init__(self, bar: Progress) -> None:
        """Use a bar that is already live."""
        self._bar = bar
        self._task = bar.add_task("", total=None, numbers="")

    def changed(self, action: BulkAction) -> None:
        """Draw a change: the jobs that are counted, then those that were tried."""
        refused = sum(action.refused.values())
        tried = action.done + refused
        is_counting = action.state == "counting"
        numbers = f"{action.matched} matched" if is_counting else f"{tried}/{action.matched}"
        self._bar.update(
            self._task,
            description=escape_control_chars(f"{action.action}: {action.state}"),
            total=None if is_counting else action.matched,
            completed=tried,
            numbers=f"{numbers}, {refused} refused" if refused else numbers,
        )

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Report a lost connection above the bar."""
        self._bar.console.print(Text(escape_control_chars(disconnected_text(reason, pause)), "yellow"))

    def on_reconnect(self) -> None:
        """Report a recovered connection."""
        self._bar.console.print(Text(RECONNECTED, "green"))


def print_table(out: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print a table of bulk actions; each row has the cells of `COLUMNS`."""
    table = FittedTable([f">{name}" if name in _RIGHT else name for name in COLUMNS], _STEPS, folded="ID")
    for row in rows:
        table.add_row(*(Text(escape_control_chars(cell)) for cell in row))
    out.print(table)
