"""The short form of the fault tests: most faults once, several in a round; `just faults` plays many more rounds."""

import asyncio
import random

import pytest

from tests.chaos import report
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import Round, Scale, lap, play

SEED = 1
#: Faults that take long, and those that other tests show as well: see docs/faults.md.
LEFT_OUT = frozenset({"an-hour", "bad-bodies", "busy", "full-memory", "loading", "read-only", "stop-redis"}) | {
    f"line-{how}" for how in ("refused", "reset", "slow", "trickling", "unanswered")
}
SHORT = [fault for fault in FAULTS if fault.name not in LEFT_OUT]
SCALE = Scale(clients=16, before=0.3, hold=0.4, after=0.2)
FAULTS_A_ROUND = 4


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Round]:
    """Play all rounds; return the one of each fault."""
    blocks = lap(random.Random(SEED), SHORT, FAULTS_A_ROUND)

    async def play_all() -> list[Round]:
        return [one async for one in play(SEED, blocks, SCALE, tmp_path_factory.mktemp("faults"))]

    played = asyncio.run(play_all())
    print(report.table(played))
    return {name: one for one in played for name in one.faults}


@pytest.mark.parametrize("fault", [fault.name for fault in SHORT])
def test_no_promise_is_broken(rounds: dict[str, Round], fault: str) -> None:
    story = "\n".join(rounds[fault].stories)
    assert rounds[fault].violations == [], f"seed {SEED}, round {rounds[fault].number}\n{story}"
    assert rounds[fault].acknowledged > 0
