"""The results in docs/benchmarks.md match its tables."""

import pytest

from benchmarks.report import read_tables
from benchmarks.targets import TARGETS, Target
from benchmarks.targets import table as results_table
from tests.helpers.paths import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"


*MEASURED, PUBLISHED = read_tables(DOCUMENT.read_text())


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
