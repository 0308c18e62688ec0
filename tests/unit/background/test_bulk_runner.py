"""How the task shares its time between bulk actions, and what it does when one fails."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.background import bulk_runner
from service.background.bulk_runner import MAX_JOBS, MIN_JOBS, BulkRunner
from service.domain.bulk import BulkAction, BulkKind, BulkState
from service.domain.errors import StoreCorrupt, StoreTimeout
from service.domain.jobs import JobFilter
from service.store.partition import Partition
from service.store.partitions import Partitions

PARTITIONS = Partitions(4)


class Steps:
    """Actions that go on for ever in all partitions, unless a test says otherwise."""

    def __init__(self, *action_ids: str) -> None:
        self.active = list(action_ids)
        self.left = list(PARTITIONS)
        #: The steps taken, by action and partition, and the jobs of each.
        self.taken: Counter[tuple[str, int]] = Counter()
        self.sizes: list[int] = []
        self.kept: list[bool] = []
        self.away: set[int] = set()
        self.failures: dict[str, Exception] = {}
        self.seconds = 0.0
        self.search: Exception | None = None
        self.is_stopped = self.is_lost = False
        self.calls: list[str] = []

    async def find_active(self) -> list[str]:
        if self.search is not None:
            raise self.search
        return self.active

    async def take(self, action_id: str, *, is_kept: bool) -> Any:
        self.kept.append(is_kept)
        if action_id in self.failures:
            raise self.failures[action_id]
        action = BulkAction(
            kind=BulkKind.RETRY,
            filters=JobFilter(queue="q"),
            action_id=action_id,
            state=BulkState.RUNNING,
            matched=1,
            done=0,
            refused={},
            examples=[],
            by="",
            created_at="",
        )
        return SimpleNamespace(decode=lambda: action, is_stopped=self.is_stopped, is_lost=self.is_lost)

    def unfinished(self, *_: object) -> list[Partition]:
        return self.left

    def is_away(self, partition: Partition) -> bool:
        return partition.number in self.away

    async def step(self, _: object, action: BulkAction, partition: Partition, jobs: int) -> bool:
        name = (action.action_id, partition.number)
        if (failure := self.failures.get(f"{partition.number}")) is not None:
            raise failure
        self.taken[name] += 1
        self.sizes.append(jobs)
        await asyncio.sleep(self.seconds)
        return self.taken[name] > 2

    async def move_on(self, *_: object) -> BulkState:
        return self._end("move_on", BulkState.DONE)

    async def give_up(self, *_: object) -> BulkState:
        return self._end("give_up", BulkState.ABORTED)

    async def finish_abort(self, *_: object) -> BulkState:
        return self._end("finish_abort", BulkState.ABORTED)

    def _end(self, call: str, state: BulkState) -> BulkState:
        self.calls.append(call)
        return state


@pytest.fixture(autouse=True)
def short_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_runner, "POLL_INTERVAL", timedelta(seconds=0.01))


def runner_of(steps: Steps) -> BulkRunner:
    untyped: Any = steps
    return BulkRunner(untyped)


async def test_every_action_gets_its_turn() -> None:
    steps = Steps("a", "b")
    await runner_of(steps).run_once()
    assert {name for name, _ in steps.taken} == {"a", "b"}


async def test_a_failing_action_is_left_alone_for_a_while_logged_once_and_delays_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps("bad", "good")
    steps.failures["bad"] = StoreCorrupt("odd")
    runner = runner_of(steps)
    with capture_logs() as log:
        for _ in range(3):
            await runner.run_once()
        assert len(steps.kept) == 4, "the bad one was taken once"
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 10)
        await runner.run_once()
        assert len(steps.kept) == 6
    assert [(line["event"], line["bulk_action_id"]) for line in log] == [("bulk action failed", "bad")]
    assert {name for name, _ in steps.taken} == {"good"}


@pytest.mark.parametrize("failure", [StoreCorrupt("odd"), StoreTimeout("slow")], ids=lambda one: type(one).__name__)
async def test_a_partition_that_fails_keeps_no_other_from_its_steps(failure: Exception) -> None:
    steps = Steps("a")
    steps.failures["1"] = failure
    with capture_logs() as log:
        await runner_of(steps).run_once()
    assert {number for _, number in steps.taken} == {0, 2, 3}
    assert log == []


async def test_partitions_that_are_away_are_not_asked() -> None:
    steps = Steps("a")
    steps.away = {0, 1}
    steps.failures = {"0": AssertionError("it is away"), "1": AssertionError("it is away")}
    await runner_of(steps).run_once()
    assert {number for _, number in steps.taken} == {2, 3}


async def test_an_action_is_kept_longer_only_after_it_came_forward() -> None:
    steps = Steps("a")
    runner = runner_of(steps)
    await runner.run_once()
    await runner.run_once()
    steps.away = {0, 1, 2, 3}
    await runner.run_once()
    await runner.run_once()
    assert steps.kept == [False, True, True, False]


@pytest.mark.parametrize("failure", [StoreCorrupt("odd"), RuntimeError("a bug"), StoreTimeout("slow")], ids=str)
async def test_a_failed_search_ends_nothing_and_is_logged_once(failure: Exception) -> None:
    steps = Steps("a")
    steps.search = failure
    runner = runner_of(steps)
    with capture_logs() as log:
        await runner.run_once()
        await runner.run_once()
    expected = [] if isinstance(failure, StoreTimeout) else ["search for bulk actions failed"]
    assert [line["event"] for line in log] == expected
    steps.search = None
    await runner.run_once()
    assert steps.taken


async def test_a_start_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_runner, "POLL_INTERVAL", timedelta(seconds=60))
    runner = runner_of(Steps())
    waiting = asyncio.create_task(runner.run_once())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    runner.wake()
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize(
    ("change", "call"),
    [
        (lambda steps: steps.left.clear(), "move_on"),
        (lambda steps: setattr(steps, "is_lost", True), "give_up"),
        (lambda steps: setattr(steps, "is_stopped", True), "finish_abort"),
    ],
    ids=["a pass has ended", "a part is lost", "it is aborted in part"],
)
async def test_an_action_without_steps_is_moved_on(change: Callable[[Steps], None], call: str) -> None:
    steps = Steps("a")
    change(steps)
    with capture_logs() as log:
        await runner_of(steps).run_once()
    assert steps.calls == [call]
    assert not steps.taken
    assert [line["event"] for line in log] == ["bulk action ended"]


async def test_slow_steps_have_fewer_jobs_and_longer_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, pauses, sleep = Steps("a"), list[float](), asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    steps.seconds = 0.03
    monkeypatch.setattr(asyncio, "sleep", note)
    now = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now) * 0.03)
    await runner_of(steps).run_once()
    assert steps.sizes[0] == MAX_JOBS
    assert steps.sizes[-1] == MIN_JOBS
    assert [round(one, 3) for one in pauses if one != steps.seconds] == [0.09] * len(steps.sizes)
