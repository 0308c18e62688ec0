"""A seed says which faults come in which order."""

import pytest

from tests.chaos.environment import NARROW
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import schedule


def names(seed: int, rounds: int) -> list[tuple[str, str]]:
    return [
        (block.setting.name, "+".join(fault.name for fault in played))
        for block in schedule(seed, rounds)
        for played in block.rounds
    ]


def test_a_seed_replays_its_faults() -> None:
    assert names(7, 100) == names(7, 100)
    assert names(7, 100) != names(8, 100)


@pytest.mark.parametrize("rounds", [1, len(FAULTS), 200])
def test_there_are_as_many_rounds_as_asked_for(rounds: int) -> None:
    assert len(names(7, rounds)) == rounds


def test_every_fault_comes_once_in_a_lap_and_those_of_several_processes_on_several() -> None:
    lap = names(7, len(FAULTS))
    assert sorted(fault for _, fault in lap) == sorted(fault.name for fault in FAULTS)
    assert {fault.name for fault in FAULTS if fault.workers} <= {
        fault for setting, fault in lap if setting == NARROW.name
    }
