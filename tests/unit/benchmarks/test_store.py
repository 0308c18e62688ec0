"""The comparison of two versions of the store, on versions that tell what they were asked."""

from typing import Any

import pytest

from benchmarks.report import read_tables
from benchmarks.store import BASELINE, COMMANDS, CPU, OURS, RATIO, VERBS, Side, count_commands, sample, tables
from benchmarks.targets import TARGETS


class FakeSide(Side):
    """A version whose call takes as many µs as its round has begun before, times `factor`."""

    def __init__(self, name: str, factor: float, asked: list[str]) -> None:
        self._name, self._factor, self._asked, self._round = name, factor, asked, 0

    def begin_round(self) -> None:
        self._round += 1

    def run(self, verb: str, count: int) -> dict[tuple[str, str], float]:
        self._asked.append(f"{self._name} {verb}")
        return {(CPU, verb): self._round * self._factor}


def run(rounds: int) -> tuple[list[str], Any]:
    asked: list[str] = []
    return asked, sample({OURS: FakeSide("ours", 1, asked), BASELINE: FakeSide("theirs", 4, asked)}, rounds, jobs=1)


def test_the_versions_are_measured_in_turn_and_each_begins_half_of_the_rounds() -> None:
    asked, _ = run(rounds=1)
    both = len(VERBS) * 2
    assert [asked[at : at + 2] for at in range(0, both, 2)] == [[f"theirs {verb}", f"ours {verb}"] for verb in VERBS]
    assert [asked[at : at + 2] for at in range(both, 2 * both, 2)] == [
        [f"ours {verb}", f"theirs {verb}"] for verb in VERBS
    ]


def test_the_first_round_is_not_counted() -> None:
    _, samples = run(rounds=3)
    assert samples[CPU, "claim"] == {OURS: [2, 3, 4], BASELINE: [8, 12, 16]}


def test_a_table_has_medians_and_the_median_of_the_ratios() -> None:
    [table] = tables({(CPU, "claim"): {OURS: [1.0, 2.0, 9.0], BASELINE: [2.0, 10.0, 10.0]}})
    assert (table.value("claim", OURS), table.value("claim", BASELINE)) == (2, 10)
    assert table.value("claim", RATIO) == 0.5


def test_commands_within_scripts_are_counted_and_those_of_the_client_are_not() -> None:
    stats = {
        name: {"calls": calls}
        for name, calls in {
            "cmdstat_hset": 3,
            "cmdstat_zadd": 2,
            "cmdstat_evalsha": 7,
            "cmdstat_script|load": 1,
        }.items()
    }
    assert count_commands(stats) == 5


@pytest.mark.parametrize("verb", VERBS)
def test_each_call_has_a_target_for_its_cpu_time_and_its_commands(verb: str) -> None:
    titles = {target.table for target in TARGETS if target.row == verb and target.is_maximum}
    assert {CPU, COMMANDS} <= titles


def test_a_printed_table_is_read_back() -> None:
    written = tables({(CPU, "claim"): {OURS: [1.0], BASELINE: [2.0]}})
    assert [str(table) for table in read_tables("\n".join(map(str, written)))] == [str(table) for table in written]
