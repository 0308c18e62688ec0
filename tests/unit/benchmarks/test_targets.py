"""The bars of `docs/benchmarks.md` are what its tables say."""

import re

import pytest

from benchmarks.report import Table
from benchmarks.targets import BARS, Bar, table
from tests.helpers.paths import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def tables_of(text: str) -> list[Table]:
    found = []
    for title, lines in re.findall(r"^### (.+)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        head, _, *rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines.splitlines()]
        one = Table(title, head)
        for row in rows:
            one.row(*row)
        found.append(one)
    return found


*MEASURED, PUBLISHED = tables_of(DOCUMENT.read_text())


def test_the_published_bars_are_read_off_the_published_tables() -> None:
    assert str(table(MEASURED)) == str(PUBLISHED)
    assert "not measured" not in str(PUBLISHED)


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.what)
def test_a_bar_is_reached_on_its_side_of_the_figure(bar: Bar) -> None:
    better = bar.must / 2 if bar.is_most else bar.must * 2
    assert bar.is_reached(bar.must)
    assert bar.is_reached(better)
    assert not bar.is_reached(bar.must * bar.must / better)


def test_what_was_not_measured_is_no_failure_of_the_whole() -> None:
    without = [one for one in MEASURED if not one.title.startswith("create, 50")]
    rows = {row[0]: row[-1] for row in table(without).rows}
    assert rows["create, 50 at once, against bullmq"] == "not measured"
    assert rows["read, 50 at once, against redis-benchmark"] != "not measured"
