"""A seed determines the order of the faults."""

import pytest

from tests.chaos.environment import TWO_PROCESSES
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import schedule


def names(seed: int, rounds: int) -> list[tuple[str, str]]:
    return [
        (block.topology.name, "+".join(fault.name for fault in faults))
        for block in schedule(seed, rounds)
        for faults in block.rounds
    ]


def test_a_seed_replays_the_same_faults() -> None:
    assert names(7, 100) == names(7, 100)
    assert names(7, 100) != names(8, 100)


@pytest.mark.parametrize("rounds", [1, len(FAULTS), 200])
def test_the_number_of_rounds_is_as_requested(rounds: int) -> None:
    assert len(names(7, rounds)) == rounds


def test_every_fault_comes_once_and_multi_process_faults_get_several_processes() -> None:
    scheduled = names(7, len(FAULTS))
    assert sorted(fault for _, fault in scheduled) == sorted(fault.name for fault in FAULTS)
    assert {fault.name for fault in FAULTS if fault.multi_process} <= {
        fault for topology, fault in scheduled if topology == TWO_PROCESSES.name
    }
