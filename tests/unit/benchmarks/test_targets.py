"""The results in docs/benchmarks.md match its tables."""

import re

import pytest

from benchmarks.report import Table
from benchmarks.targets import TARGETS, Target
from benchmarks.targets import table as results_table
from tests.helpers.paths import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def tables_of(text: str) -> list[Table]:
    tables = []
    for title, lines in re.findall(r"^### (.+)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        head, _, *rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines.splitlines()]
        table = Table(title, head)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


*MEASURED, PUBLISHED = tables_of(DOCUMENT.read_text())


def test_the_published_results_match_the_published_tables() -> None:
    assert str(results_table(MEASURED)) == str(PUBLISHED)
    assert "not measured" not in str(PUBLISHED)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_is_met_on_one_side_of_its_limit(target: Target) -> None:
    better = target.required / 2 if target.is_maximum else target.required * 2
    assert target.is_met(target.required)
    assert target.is_met(better)
    assert not target.is_met(target.required * target.required / better)


def test_a_missing_measurement_is_reported_as_not_measured() -> None:
    without = [measured for measured in MEASURED if not measured.title.startswith("create, 50")]
    rows = {row[0]: row[-1] for row in results_table(without).rows}
    assert rows["create, 50 concurrent / bullmq"] == "not measured"
    assert rows["read, 50 concurrent / redis-benchmark"] != "not measured"
