"""The task that carries out bulk actions, a few jobs at a time, between the calls of everyone else."""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Final

import structlog

from service.domain.bulk import ENDED_STATES, BulkAction, BulkState
from service.domain.errors import JobStateError, StoreUnavailable
from service.store.bulk_records import StoredAction
from service.store.bulk_steps import TAKEN_MS, BulkSteps
from service.store.partition import Partition

#: How long the task waits until it looks for actions that another process has left.
POLL_INTERVAL: Final = timedelta(seconds=1)
#: How long it works on one action before it goes on with the next one.
SLICE: Final = timedelta(seconds=0.5)
#: How long it leaves an action alone that it could not carry out, so that another process can take it.
BACK_OFF: Final = timedelta(milliseconds=2 * TAKEN_MS)
#: Jobs of one step, at least and at most. The most take Redis about 5 ms.
MIN_JOBS, MAX_JOBS = 25, 100
#: How long a step may take from the call to its reply; a longer one has fewer jobs next time.
STEP_TIME: Final = timedelta(seconds=0.01)
#: The pause after a step, in times of its own duration, and the longest one. So the steps of a process take at most a
#: quarter of the time of an idle Redis, and less of a busy one, which replies later.
PAUSE_FACTOR: Final = 3
MAX_PAUSE: Final = timedelta(seconds=0.5)

#: Log events.
BULK_ACTION_ENDED: Final = "bulk action ended"
BULK_ACTION_FAILED: Final = "bulk action failed"
SEARCH_FAILED: Final = "search for bulk actions failed"

_log = structlog.get_logger(__name__)


class BulkRunner:
    """Carries out the bulk actions that no other process has taken, each for a while in turn."""

    def __init__(self, steps: BulkSteps) -> None:
        self._steps = steps
        self._jobs = MAX_JOBS
        self._started = asyncio.Event()
        #: The actions that this process has brought forward since it last took them.
        self._moved: set[str] = set()
        #: Until when (s, as `time.monotonic`) it leaves actions alone that have failed.
        self._retry_at: dict[str, float] = {}
        self._is_search_failing = False

    def wake(self) -> None:
        """Look for actions at once, because one was started."""
        self._started.set()

    async def run_once(self) -> float:
        """Work on each action for a `SLICE`, and return the seconds until the next call.

        If there was nothing to do, wait for `wake` or `POLL_INTERVAL` first.
        """
        self._started.clear()
        has_worked = [await self._run(action_id) for action_id in await self._find()]
        if not any(has_worked):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL.total_seconds()):
                    await self._started.wait()
        return 0.0

    async def _find(self) -> list[str]:
        """Return the actions to work on. A failure is logged once; the sweeper logs that Redis is unavailable."""
        try:
            found = await self._steps.find_active()
        except Exception as error:
            if not (self._is_search_failing or isinstance(error, StoreUnavailable)):
                _log.exception(SEARCH_FAILED)
                self._is_search_failing = True
            return []
        self._is_search_failing = False
        self._retry_at = {one: until for one, until in self._retry_at.items() if one in found}
        return [one for one in found if time.monotonic() >= self._retry_at.get(one, 0)]

    async def _run(self, action_id: str) -> bool:
        """Work on an action, and return whether it came forward. After a failure leave it alone for a while."""
        try:
            has_worked = await self._work(action_id)
        except Exception as error:
            if action_id not in self._retry_at:
                traceback = None if isinstance(error, JobStateError) else error
                _log.error(BULK_ACTION_FAILED, bulk_action_id=action_id, detail=str(error), exc_info=traceback)
            self._retry_at[action_id] = time.monotonic() + BACK_OFF.total_seconds()
            return False
        if has_worked:
            self._moved.add(action_id)
            self._retry_at.pop(action_id, None)
        return has_worked

    async def _work(self, action_id: str) -> bool:
        stored = await self._steps.take(action_id, is_kept=action_id in self._moved)
        self._moved.discard(action_id)
        if stored is None:
            return False
        action = stored.decode()
        if stored.is_stopped:
            state = await self._steps.finish_abort(action)
        elif stored.is_lost:
            state = await self._steps.give_up(action)
        elif left := self._steps.unfinished(stored, action):
            return await self._take_steps(stored, action, left)
        else:
            state = await self._steps.move_on(stored, action)
        if state in ENDED_STATES:
            _log_end(action, state)
        return state is not action.state

    async def _take_steps(self, stored: StoredAction, action: BulkAction, left: list[Partition]) -> bool:
        """Take steps in these partitions until the `SLICE` is over. Raises the last error if none succeeds."""
        end, failure, has_worked = time.monotonic() + SLICE.total_seconds(), None, False
        for partition in left:
            is_end = self._steps.is_away(partition)
            while not is_end and time.monotonic() < end:
                try:
                    is_end = await self._step(stored, action, partition)
                except JobStateError as error:  # perhaps only in this partition
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
        await asyncio.sleep(min(PAUSE_FACTOR * seconds, MAX_PAUSE.total_seconds()))
        return is_end


def _log_end(action: BulkAction, state: BulkState) -> None:
    numbers = {"matched": action.matched, "done": action.done, "refused": sum(action.refused.values())}
    _log.info(BULK_ACTION_ENDED, bulk_action_id=action.action_id, action=action.kind, state=state, **numbers)
