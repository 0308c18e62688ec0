"""The short chaos run: most faults once, several in each round. `just faults` runs many more rounds."""

import asyncio
import random

import pytest

from tests.chaos import report
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import Round, Scale, run, shuffle

pytestmark = pytest.mark.standalone_only("the faults are those of one Redis")

SEED = 1
#: Slow faults, and faults that other tests cover: see docs/faults.md.
SKIPPED = frozenset({"expire-leases", "bad-bodies", "busy", "full-memory", "loading", "read-only", "stop-redis"}) | {
    f"connection-{fault}" for fault in ("refused", "reset", "slow", "trickling", "unanswered")
}
TESTED = [fault for fault in FAULTS if fault.name not in SKIPPED]
SCALE = Scale(clients=16, before=0.3, fault_seconds=0.4, after=0.2)
FAULTS_PER_ROUND = 4


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Round]:
    """Run all rounds; return the round of each fault."""
    blocks = shuffle(random.Random(SEED), TESTED, FAULTS_PER_ROUND)

    async def run_all() -> list[Round]:
        return [result async for result in run(SEED, blocks, SCALE, tmp_path_factory.mktemp("chaos"))]

    results = asyncio.run(run_all())
    print(report.table(results))
    return {name: result for result in results for name in result.faults}


@pytest.mark.parametrize("fault", [fault.name for fault in TESTED])
def test_a_fault_causes_no_violation(rounds: dict[str, Round], fault: str) -> None:
    job_reports = "\n".join(rounds[fault].job_reports)
    assert rounds[fault].violations == [], f"seed {SEED}, round {rounds[fault].number}\n{job_reports}"
    assert rounds[fault].acknowledged > 0
