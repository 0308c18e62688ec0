"""Tables that fit the width of the terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jobstate.cli.output import format_time

#: A column's name, and the width to which it may shrink in this step; 0 drops it.
Step: TypeAlias = tuple[str, int]
#: The spaces between two columns.
_GAP: Final = 2


class FittedTable:
    """A table whose least important columns shrink or are dropped until it fits.

    If it is too wide, the columns without values are dropped first. Then each of `steps` is taken in turn, until it
    fits. A name with the prefix `>` is a column that is aligned right. The first column is never dropped.
    """

    def __init__(self, names: Sequence[str], steps: Sequence[Step], *, folded: str = "") -> None:
        """Cut texts that are too long with an ellipsis, except those of the column `folded`: they are folded."""
        self._names = [name.lstrip(">") for name in names]
        self._right = {name[1:] for name in names if name.startswith(">")}
        self._steps = steps
        self._folded = folded
        self._rows: list[Sequence[RenderableType]] = []

    def add_row(self, *cells: RenderableType) -> None:
        """Add a row. Cells at its end may be missing."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for the width of the console."""
        widths = self._widths(console, options)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, width in widths.items():
            justify: Literal["right", "left"] = "right" if name in self._right else "left"
            folds = name == self._folded
            overflow: Literal["fold", "ellipsis"] = "fold" if folds else "ellipsis"
            table.add_column(name, width=width, justify=justify, no_wrap=not folds, overflow=overflow)
        for row in self._rows:
            cells = dict(zip(self._names, row, strict=False))
            table.add_row(*(cells.get(name, "") for name in widths))
        yield table

    def _widths(self, console: Console, options: ConsoleOptions) -> dict[str, int]:
        """Return the columns that are shown, and the width of each."""
        columns = {name: self._cells(at) for at, name in enumerate(self._names)}
        widths = {
            name: max(len(name), *(Measurement.get(console, options, cell).maximum for cell in ("", *cells)))
            for name, cells in columns.items()
        }
        if _excess(widths, options) > 0:
            first = self._names[0]
            widths = {name: at for name, at in widths.items() if name == first or any(map(_has_value, columns[name]))}
        for name, least in self._steps:
            excess = max(0, _excess(widths, options))
            if name in widths and excess:
                widths[name] = max(min(least, widths[name]), widths[name] - excess) if least else 0
                widths = {name: width for name, width in widths.items() if width}
        return widths

    def _cells(self, at: int) -> list[RenderableType]:
        return [row[at] for row in self._rows if at < len(row)]


def _excess(widths: dict[str, int], options: ConsoleOptions) -> int:
    return sum(widths.values()) + _GAP * len(widths) - options.max_width


def _has_value(cell: RenderableType) -> bool:
    return str(cell) not in {"", "-"} if isinstance(cell, str | Text) else True


class Time:
    """A time in a table: to the second, or its age if the column is narrower."""

    def __init__(self, at: datetime, now: datetime | None = None) -> None:
        """Use the clock of this machine if `now` is `None`."""
        self._full = format_time(at)
        self._age = f"{age_text((now or datetime.now(UTC)) - at)} ago"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the longest form that fits."""
        yield Text(self._full if options.max_width >= len(self._full) else self._age, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the width of the short and of the long form."""
        return Measurement(len(self._age), len(self._full))


def age_text(passed: timedelta) -> str:
    """Return a duration in its largest whole unit, such as `5m`; clocks may differ, so a negative one is `0s`."""
    seconds = max(0, int(passed.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
