"""The task that carries out bulk actions, a few jobs at a time, between the calls of everyone else."""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Final

import structlog

from service.domain.bulk import ENDED_STATES, BulkAction
from service.domain.errors import JobStateError, StoreUnavailable
from service.store.bulk_records import StoredAction
from service.store.bulk_steps import BulkSteps
from service.store.partition import Partition

#: How long the task waits until it looks for actions that another process has left.
POLL_INTERVAL: Final = timedelta(seconds=1)
#: How long it works on one action before it goes on with the next one.
SLICE: Final = timedelta(seconds=0.5)
#: Jobs of one step: at first, at least and at most. The most take Redis about 5 ms.
FIRST_JOBS, MIN_JOBS, MAX_JOBS = 50, 20, 100
#: How long a step may take from the call to its reply; a longer one has fewer jobs next time.
STEP_TIME: Final = timedelta(seconds=0.005)
#: The pause after a step, in times of its own duration. So steps take at most a quarter of the time of an idle Redis,
#: and less of a busy one, which replies later.
PAUSE_FACTOR: Final = 3

#: Log events.
BULK_ACTION_ENDED: Final = "bulk action ended"
BULK_ACTION_FAILED: Final = "bulk action failed"

_log = structlog.get_logger(__name__)


class BulkRunner:
    """Carries out the bulk actions that no other process has taken, each for a while in turn."""

    def __init__(self, steps: BulkSteps) -> None:
        self._steps = steps
        self._jobs = FIRST_JOBS
        self._started = asyncio.Event()
        #: The actions whose failure is logged.
        self._failed: set[str] = set()

    def wake(self) -> None:
        """Look for actions at once, because one was started."""
        self._started.set()

    async def run_once(self) -> float:
        """Work on each action for a `SLICE`, and return the seconds until the next call.

        If there was nothing to do, wait for `wake` or `POLL_INTERVAL` first.
        """
        self._started.clear()
        try:
            has_worked = [await self._run(action_id) for action_id in await self._steps.find_active()]
        except StoreUnavailable:  # the sweeper logs it
            has_worked = []
        if not any(has_worked):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL.total_seconds()):
                    await self._started.wait()
        return 0.0

    async def _run(self, action_id: str) -> bool:
        """Work on an action, and return whether it came forward."""
        try:
            has_worked = await self._work(action_id)
        except Exception as error:
            if action_id not in self._failed:
                self._failed.add(action_id)
                is_expected = isinstance(error, JobStateError)
                _log.error(
                    BULK_ACTION_FAILED,
                    bulk_action=action_id,
                    detail=str(error),
                    exc_info=None if is_expected else error,
                )
            return False
        self._failed.discard(action_id)
        return has_worked

    async def _work(self, action_id: str) -> bool:
        stored = await self._steps.take(action_id)
        if stored is None:
            return False
        action = stored.decode()
        left = self._steps.unfinished(stored, action)
        if not left:
            following = await self._steps.move_on(action)
            if following in ENDED_STATES:
                numbers = {"matched": action.matched, "done": action.done, "refused": sum(action.refused.values())}
                _log.info(BULK_ACTION_ENDED, bulk_action_id=action_id, action=action.kind, state=following, **numbers)
            return True
        return await self._take_steps(stored, action, left)

    async def _take_steps(self, stored: StoredAction, action: BulkAction, left: list[Partition]) -> bool:
        """Take steps in these partitions until the `SLICE` is over. Raises the last error if none succeeds."""
        end, failure, has_worked = time.monotonic() + SLICE.total_seconds(), None, False
        for partition in left:
            is_end = False
            while not is_end and time.monotonic() < end:
                try:
                    is_end = await self._step(stored, action, partition)
                except StoreUnavailable as error:  # perhaps only this partition is away
                    failure = error
                    break
                has_worked = True
        if failure is not None and not has_worked:
            raise failure
        return has_worked

    async def _step(self, stored: StoredAction, action: BulkAction, partition: Partition) -> bool:
        """Take a step and pause. Returns whether the pass has come to its end in this partition."""
        started = time.perf_counter()
        is_end = await self._steps.step(stored, action, partition, self._jobs)
        seconds = time.perf_counter() - started
        wanted = int(self._jobs * STEP_TIME.total_seconds() / seconds)
        self._jobs = max(MIN_JOBS, min(wanted, 2 * self._jobs, MAX_JOBS))
        await asyncio.sleep(PAUSE_FACTOR * seconds)
        return is_end
