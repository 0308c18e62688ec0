"""The short chaos runs on Sentinel and on a cluster, for `just test-sentinel` and `just test-cluster`."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.environment import SINGLE_PROCESS
from tests.chaos.failovers import FAULTS_OF
from tests.chaos.replicated import REPLICAS, replicated
from tests.chaos.runner import Block, Round, Scale, run
from tests.helpers.deployments import DEPLOYMENT

SEED = 1
SCALE = Scale(clients=16, before=0.3, fault_seconds=0.4, after=0.2)
#: One of each kind; `just faults --backend` has all.
TESTED = ("kill-master", "planned-failover", "slot-migration")

pytestmark = pytest.mark.replicas_only("needs replicas: `just test-sentinel`, `just test-cluster`")


def test_failovers_lose_no_acknowledged_change(tmp_path: Path) -> None:
    faults = tuple(fault for fault in FAULTS_OF[DEPLOYMENT] if fault.name in TESTED)

    async def run_all() -> list[Round]:
        blocks = [Block(SINGLE_PROCESS, [faults])]
        start = replicated(DEPLOYMENT, REPLICAS[DEPLOYMENT])
        return [result async for result in run(SEED, blocks, SCALE, tmp_path, start=start)]

    [result] = asyncio.run(run_all())
    assert result.violations == [], f"seed {SEED}\n" + "\n".join(result.job_reports)
    assert result.lost == 0
    assert result.acknowledged > 0
