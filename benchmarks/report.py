"""The report of a benchmark run: printed as it grows, and written to docs/benchmarks.md."""

import os
import platform
import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.fixtures import describe_server

DOCUMENT: Final = Path("docs/benchmarks.md")
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Table:
    """A table with a title."""

    def __init__(self, title: str, columns: tuple[str, ...]) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def value(self, row: str, column: str) -> float:
        """Return the number in a cell. Raises `LookupError` if there is none."""
        at = self.columns.index(column) if column in self.columns else 0
        cells = next((cells for cells in self.rows if cells[0] == row), ())
        if not at or not cells:
            raise LookupError(f"{self.title}: {row}, {column}")
        return float(cells[at].lstrip("×").replace(",", ""))

    def __str__(self) -> str:
        numbers = "|".join([" --- ", *(" ---: " for _ in self.columns[1:])])
        lines = [f"### {self.title}", "", f"| {' | '.join(self.columns)} |", f"|{numbers}|"]
        return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in self.rows), ""])


def read_tables(text: str) -> list[Table]:
    """Return the tables of a document that have a title."""
    tables = []
    for title, lines in re.findall(r"^### (.+)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        head, _, *rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines.splitlines()]
        table = Table(title, head)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


class Report:
    """The sections, tables and charts of a run."""

    def __init__(self) -> None:
        self.machine = _describe_machine()
        self.tables: list[Table] = []
        #: The text of each section, by its title.
        self.sections: dict[str, str] = {}
        print(self.machine)

    def section(self, title: str) -> None:
        """Begin a section."""
        self._title = title
        self._append(f"## {title}\n")

    def add(self, table: Table) -> None:
        """Add a table."""
        self.tables.append(table)
        self._append(str(table))

    def add_text(self, line: str) -> None:
        """Add a line of text."""
        self._append(f"{line}\n")

    def _append(self, text: str) -> None:
        print(text, flush=True)
        self.sections[self._title] = self.sections.get(self._title, "") + f"\n{text}"

    def bar_chart(self, name: str, title: str, groups: dict[str, dict[str, float]]) -> None:
        """Add a bar chart: a group of bars for each key of `groups`, a bar for each member."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        members = list(dict.fromkeys(member for group in groups.values() for member in group))
        width = 0.8 / len(members)
        for number, member in enumerate(members):
            places = [place + width * number for place in range(len(groups))]
            axes.bar(places, [group.get(member, 0) for group in groups.values()], width, label=member)
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], list(groups))
        axes.set_title(title)
        axes.legend(fontsize="small")
        self._save_image(figure, name, title)

    def line_chart(self, name: str, title: str, across: list[int], lines: dict[str, list[float]], unit: str) -> None:
        """Add a line chart on logarithmic axes. A line may have fewer values than `across`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        for label, values in lines.items():
            axes.loglog(across[: len(values)], values, marker="o", label=label)
        axes.set_title(title)
        axes.set_ylabel(unit)
        axes.legend(fontsize="small", ncols=2)
        self._save_image(figure, name, title)

    def _save_image(self, figure: Any, name: str, title: str) -> None:
        figure.savefig(DOCUMENT.parent / "images" / f"{name}.svg", metadata={"Date": None})
        self._append(f"![{title}](images/{name}.svg)\n")

    def write(self) -> None:
        """Replace what stands between the markers in the document."""
        self._write(self.machine, self.sections)

    def write_sections(self, titles: Sequence[str], conclude: Callable[[Sequence[Table]], Table]) -> None:
        """Replace the measured sections in the document, each with its machine, and keep the others.

        `titles` are those of all sections, in their order. The last one gets what `conclude` makes of all tables.
        """
        _, _, rest = DOCUMENT.read_text().partition(_BEGIN)
        machine, *others = rest.partition(_END)[0].split("\n## ")
        kept = {one.partition("\n")[0]: f"\n## {one.rstrip()}\n" for one in others}
        new = {
            title: text.replace(f"## {title}\n", f"## {title}\n\n{self.machine}", 1)
            for title, text in self.sections.items()
        }
        *measured, last = titles
        sections = {title: (kept | new)[title] for title in measured if title in kept | new}
        sections[last] = f"\n## {last}\n\n{conclude(read_tables(''.join(sections.values())))}"
        self._write(f"{machine.strip()}\n", sections)

    def _write(self, machine: str, sections: dict[str, str]) -> None:
        before, _, rest = DOCUMENT.read_text().partition(_BEGIN)
        after = rest.partition(_END)[2]
        DOCUMENT.write_text(f"{before}{_BEGIN}\n\n{machine}{''.join(sections.values())}\n{_END}{after}")


def _describe_machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("litestar", "uvicorn", "redis", "hiredis", "msgspec"))
    lines = (
        f"{os.cpu_count()} CPUs ({_cpu()}), {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}, {libraries}",
        f"Redis: {describe_server()}; the load generator, the service and Redis share the CPUs and use loopback",
    )
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


#: A benchmark: called with the number of rounds and the report to add to.
Measurement = Callable[[int, Report], None]
