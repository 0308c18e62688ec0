"""One attempt of a job, from the claim to its outcome."""

import asyncio
import threading
from typing import Final

from jobstate._flow import log
from jobstate.errors import ContentTooLarge, InvalidRequest, JobstateError, MalformedRequest, RequestRejected
from jobstate.models import Claim
from jobstate.worker.client import LEASE_LOST, WorkerClient
from jobstate.worker.context import JobContext
from jobstate.worker.executors import Runner
from jobstate.worker.outcomes import JobUpdate, failure_update, unsendable
from jobstate.worker.shutdown import cancel_and_wait

#: Minimum seconds between two progress reports.
PROGRESS_INTERVAL: Final = 1.0
#: Seconds for releasing jobs at shutdown. A job that is not released becomes pending when its lease expires.
RELEASE_TIMEOUT: Final = 5.0
#: The errors that reject the content or the size of a body.
_BODY_REJECTED: Final = (InvalidRequest, MalformedRequest, ContentTooLarge)


class RunTimedOut(Exception):
    """The function did not return in time. The service ends the attempt, and refuses what the worker would report."""


class Attempt:
    """Runs the function for one claimed job and reports the outcome; releases the job when it is cancelled."""

    def __init__(self, claim: Claim, client: WorkerClient, runner: Runner) -> None:
        self._claim = claim
        self._client = client
        self._runner = runner
        self._context = JobContext(claim.job)
        self._abandoned = threading.Event()

    async def run(self) -> None:
        """Run the function, send heartbeats meanwhile, and report the outcome."""
        log.info("job %s: claimed", self._context.job_id)
        try:
            await self._run_or_release()
        except JobstateError as error:
            log.warning("job %s: abandoned: %s", self._context.job_id, error)
        except RunTimedOut:
            log.warning("job %s: stopped at its run time-out", self._context.job_id)
        except TimeoutError:
            log.warning("job %s: giving up, service unavailable; the lease will expire", self._context.job_id)
        except Exception:
            log.exception("job %s: giving up, internal error; the lease will expire", self._context.job_id)

    async def _run_or_release(self) -> None:
        update = JobUpdate.release()
        try:
            update = await self._run_function()
            await self._apply(update)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # else Python 3.11.2 raises the end of this time limit as another cancellation
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._apply(update)

    async def _run_function(self) -> JobUpdate:
        run_task = asyncio.create_task(self._runner.run(self._context, self._abandoned), name=self._context.job_id)
        heartbeat_task = asyncio.create_task(self._heartbeat_loop(run_task))
        timed_out = False
        try:
            tasks = {run_task, heartbeat_task}
            done, _ = await asyncio.wait(tasks, timeout=self._run_timeout(), return_when=asyncio.FIRST_COMPLETED)
            timed_out = not done
            if timed_out or heartbeat_task in done:
                self._abandoned.set()
                self._stop(run_task)
                await asyncio.wait({run_task})
                if timed_out:
                    raise RunTimedOut
                heartbeat_task.result()
            error = run_task.exception()
            return failure_update(self._context, error) if error else run_task.result()
        except asyncio.CancelledError:
            self._abandoned.set()
            self._context.stop()
            await cancel_and_wait({run_task})
            if timed_out:
                raise RunTimedOut from None
            raise
        finally:
            heartbeat_task.cancel()

    def _run_timeout(self) -> float | None:
        """Return the seconds that the function may take; `None` for any number.

        They count from now, because the clock of the service is not known: a little later than those of the service.
        """
        return None if self._claim.job.run_deadline_at is None else self._claim.job.run_timeout_seconds

    async def _heartbeat_loop(self, run_task: asyncio.Future[JobUpdate]) -> None:
        """Send a heartbeat every third of the lease, and when there is new progress. Raises `LEASE_LOST`."""
        loop = asyncio.get_running_loop()
        interval = self._client.lease_seconds / 3
        due, sent = loop.time() + interval, None
        while True:
            await asyncio.sleep(min(PROGRESS_INTERVAL, interval))
            progress = self._context.latest
            if progress is sent and loop.time() < due:
                continue
            due = loop.time() + interval
            cancel_requested = False
            try:
                cancel_requested = await self._client.heartbeat(self._claim, None if progress is sent else progress)
            except LEASE_LOST:
                raise
            except RequestRejected as error:
                log.error("job %s: heartbeat rejected: %s", self._context.job_id, error)
            sent = progress
            if cancel_requested and not self._context.cancel_requested:
                log.info("job %s: cancellation requested", self._context.job_id)
                self._stop(run_task)

    def _stop(self, run_task: asyncio.Future[JobUpdate]) -> None:
        self._context.stop()
        if self._runner.cancellable:
            run_task.cancel()

    async def _apply(self, update: JobUpdate) -> None:
        """Send an update; if the service rejects its content for good, fail the job with the reason."""
        try:
            status = await self._send(update)
        except RequestRejected as error:
            if isinstance(error, LEASE_LOST) or not update.content:
                raise
            status = await self._send(unsendable(update.content, error, update.excerpt))
        log.info("job %s: %s", self._context.job_id, status)

    async def _send(self, update: JobUpdate) -> str:
        """Send an update; if the service rejects its body, send the next of its alternatives."""
        for alternative in update.alternatives:
            try:
                return await self._client.update_job(self._claim, update)
            except _BODY_REJECTED as error:
                log.warning("job %s: update rejected, sending a smaller one: %s", self._context.job_id, error)
            update = alternative
        return await self._client.update_job(self._claim, update)
