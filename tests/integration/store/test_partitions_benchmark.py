"""The benchmark of several partitions, with small numbers."""

import pytest

from benchmarks import partitions
from benchmarks.report import Report


def test_the_benchmark_counts_scripts_and_looks_for_each_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUMBERS": (1, 4), "JOBS": 60, "CALLS": 5, "WORKERS": 10, "IDLE_SECONDS": 0.3}.items():
        monkeypatch.setattr(partitions, name, value)
    report = Report()
    report.section("Partitions")

    partitions.measure(1, report)

    [table] = report.tables
    for column, number in {"1 partition": 1, "4 partitions": 4}.items():
        assert table.value("page of 50: scripts", column) >= number
        assert table.value("stats: scripts", column) == 2 * number
        assert table.value("stats: round trips", column) == 2
        assert table.value("create and claim: scripts of claims", column) >= 1
        assert table.value("change to its watcher: CPU of the process, µs", column) > 0
        assert (table.value("idle workers: looks per second", column) > 0) is (number > 1)
