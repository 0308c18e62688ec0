"""Claims jobs, and runs an attempt of each, in one event loop."""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from jobstate._flow import log
from jobstate.errors import JobstateError
from jobstate.models import Claim
from jobstate.worker.attempt import RELEASE_TIMEOUT, Attempt
from jobstate.worker.client import WorkerClient
from jobstate.worker.executors import Runner
from jobstate.worker.outcomes import JobUpdate

#: Minimum seconds between two claims that return no job.
MIN_CLAIM_INTERVAL: Final = 1.0
#: Seconds that a free slot waits for others to become free, so that one claim fills them all.
CLAIM_DELAY: Final = 0.005

T = TypeVar("T")


class ClaimLoop:
    """Runs at most `concurrency` jobs concurrently, until it is stopped."""

    def __init__(self, client: WorkerClient, runner: Runner, concurrency: int, wait_seconds: int) -> None:
        self._client = client
        self._runner = runner
        self._concurrency = concurrency
        self._wait_seconds = wait_seconds
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._force_stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Claim no more jobs. Thread-safe."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._stopping.set)

    def force_stop(self) -> None:
        """End the drain: release the running jobs."""
        self._force_stop.set()

    async def run(self, *, until_idle: bool, max_jobs: int | None) -> int:
        """Claim and start jobs, at most `max_jobs`, and return how many; `until_idle` ends when no job is due."""
        log.info("waiting for jobs in queues: %s", ", ".join(self._client.queues))
        started = 0
        while not self._stopping.is_set() and started != max_jobs:
            next_claim_at = self._loop.time() + MIN_CLAIM_INTERVAL
            if not (slots := self._concurrency - len(self._running)):
                await self._wait_for_running(asyncio.FIRST_COMPLETED)
                await self._wait_for_running(asyncio.ALL_COMPLETED, CLAIM_DELAY)
            elif claims := await self._claim(slots if max_jobs is None else min(slots, max_jobs - started)):
                started += len(claims)
                for claim in claims:
                    self._start(claim)
            elif not until_idle:
                await _first_of(self._stopping, asyncio.sleep(next_claim_at - self._loop.time()))
            elif self._running:
                await self._wait_for_running(asyncio.FIRST_COMPLETED)
            else:
                break
        if until_idle:
            await self._wait_for_running(asyncio.ALL_COMPLETED)
        return started

    async def drain(self, seconds: float) -> None:
        """Wait for the running jobs, at most some seconds, and release those that still run."""
        if self._running:
            log.info("waiting up to %g s for %d running jobs", seconds, len(self._running))
            await _first_of(self._force_stop, asyncio.wait(set(self._running), timeout=seconds))
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        log.info("worker stopped")

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(Attempt(claim, self._client, self._runner).run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _wait_for_running(self, return_when: str, seconds: float | None = None) -> None:
        """Wait for running jobs, at most `seconds`, or until it is stopped."""
        if self._running:
            running = set(self._running)  # which may be empty before `asyncio.wait` begins
            await _first_of(self._stopping, asyncio.wait(running, timeout=seconds, return_when=return_when))

    async def _claim(self, max_jobs: int) -> Sequence[Claim]:
        """Claim jobs. If `stop` interrupts the claim, release those that it may have claimed."""
        claim_request = self._client.new_claim(max_jobs)
        claims = await _first_of(self._stopping, self._client.claim(claim_request, self._wait_seconds))
        if not self._stopping.is_set():
            return claims or ()
        with contextlib.suppress(TimeoutError, JobstateError):
            async with asyncio.timeout(RELEASE_TIMEOUT):
                claims = claims or await self._client.recover_claim(claim_request)
                await asyncio.gather(*map(self._release, claims))
        return ()

    async def _release(self, claim: Claim) -> None:
        with contextlib.suppress(JobstateError):
            await self._client.update_job(claim, JobUpdate.release())


async def _first_of(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return the result of `work`; if `event` is set first, cancel `work` and return `None`."""
    work_task, event_task = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({work_task, event_task}, return_when=asyncio.FIRST_COMPLETED)
        return work_task.result() if work_task.done() else None
    finally:
        work_task.cancel()
        event_task.cancel()
        await asyncio.wait({work_task, event_task})
