"""The short chaos runs on Sentinel and on a cluster, for `just test-sentinel` and `just test-cluster`."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.chaos.environment import OWN_CLOCKS, SINGLE_PROCESS
from tests.chaos.failovers import FAULTS_OF
from tests.chaos.nemesis import Fault
from tests.chaos.replicated import REPLICAS, replicated
from tests.chaos.runner import Block, Round, Scale, run
from tests.helpers import network
from tests.helpers.deployments import DEPLOYMENT

SEED = 1
SCALE = Scale(clients=16, before=0.3, fault_seconds=0.4, after=0.2)
#: One of each kind; `just faults --backend` has all.
TESTED = ("kill-master", "planned-failover", "slot-migration")

pytestmark = pytest.mark.replicas_only("needs replicas: `just test-sentinel`, `just test-cluster`")


#: Those that need more of the machine.
SPECIAL = [
    fault
    for fault in FAULTS_OF[DEPLOYMENT]
    if fault.name in {"cut-master", "lagging-failover", "clock-skew", "atomic-slot-migration"}
]


def inject(folder: Path, *faults: Fault) -> Round:
    """Run a round with these faults."""
    topology = OWN_CLOCKS if any(fault.sets_clocks for fault in faults) else SINGLE_PROCESS

    async def run_all() -> list[Round]:
        start = replicated(DEPLOYMENT, REPLICAS[DEPLOYMENT])
        return [result async for result in run(SEED, [Block(topology, [faults])], SCALE, folder, start=start)]

    [result] = asyncio.run(run_all())
    return result


def assert_nothing_lost(result: Round) -> None:
    assert result.violations == [], f"seed {SEED}\n" + "\n".join(result.job_reports)
    assert result.lost == 0
    assert result.acknowledged > 0


def test_failovers_lose_no_acknowledged_change(tmp_path: Path) -> None:
    assert_nothing_lost(inject(tmp_path, *(fault for fault in FAULTS_OF[DEPLOYMENT] if fault.name in TESTED)))


@pytest.mark.parametrize("fault", SPECIAL, ids=lambda fault: fault.name)
def test_a_fault_that_needs_more_of_the_machine_loses_no_acknowledged_change(tmp_path: Path, fault: Fault) -> None:
    if (reason := fault.why_not()) is not None:
        pytest.skip(f"{fault.name} is left out, because {reason}")
    with network.own() if fault.why_not is network.why_not else contextlib.nullcontext():
        assert_nothing_lost(inject(tmp_path, fault))
