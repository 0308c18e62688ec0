"""One attempt of a job, from the claim to its outcome."""

import asyncio
import threading
from typing import Final

from jobstate_worker.outcomes import unsendable
from jobstate_worker.requests import Claim, JobUpdate
from jobstate_worker.service import BODY_REJECTED, RequestRefused, ServiceError, WorkerClient, log
from jobstate_worker.shutdown import cancel_and_wait
from jobstate_worker.work import Runner, Work, failure_update

#: Minimum seconds between two progress reports.
PROGRESS_INTERVAL: Final = 1.0
#: Seconds for releasing jobs at shutdown. A job that is not released becomes pending when its lease expires.
RELEASE_TIMEOUT: Final = 5.0


class Attempt:
    """Runs the function for one claimed job and reports the outcome; releases the job when it is cancelled."""

    def __init__(self, claim: Claim, service: WorkerClient, runner: Runner) -> None:
        self._claim = claim
        self._service = service
        self._runner = runner
        self._work = Work(claim.job)
        self._abandoned = threading.Event()

    async def run(self) -> None:
        """Run the function, send heartbeats meanwhile, and report the outcome."""
        log.info("job %s: claimed", self._work.job_id)
        try:
            await self._run_or_release()
        except ServiceError as error:
            log.warning("job %s: abandoned: %s", self._work.job_id, error)
        except TimeoutError:
            log.warning("job %s: giving up, service unavailable; the lease will expire", self._work.job_id)
        except Exception:
            log.exception("job %s: giving up, internal error; the lease will expire", self._work.job_id)

    async def _run_or_release(self) -> None:
        update = JobUpdate.release()
        try:
            update = await self._run_function()
            await self._apply(update)
        except asyncio.CancelledError:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._apply(update)

    async def _run_function(self) -> JobUpdate:
        run_task = asyncio.create_task(self._runner.run(self._work, self._abandoned), name=self._work.job_id)
        heartbeat_task = asyncio.create_task(self._heartbeat_loop(run_task))
        try:
            await asyncio.wait({run_task, heartbeat_task}, return_when=asyncio.FIRST_COMPLETED)
            if heartbeat_task.done():
                self._abandoned.set()
                self._stop(run_task)
                await asyncio.wait({run_task})
                heartbeat_task.result()
            error = run_task.exception()
            return failure_update(self._work, error) if error else run_task.result()
        except asyncio.CancelledError:
            self._abandoned.set()
            self._work.stop()
            await cancel_and_wait({run_task})
            raise
        finally:
            heartbeat_task.cancel()

    async def _heartbeat_loop(self, run_task: asyncio.Future[JobUpdate]) -> None:
        """Send a heartbeat every third of the lease, and when there is new progress. Raises `LeaseLost`."""
        loop = asyncio.get_running_loop()
        interval = self._claim.lease_seconds / 3
        due, sent = loop.time() + interval, None
        while True:
            await asyncio.sleep(min(PROGRESS_INTERVAL, interval))
            progress = self._work.latest
            if progress is sent and loop.time() < due:
                continue
            due = loop.time() + interval
            cancel_requested = False
            try:
                cancel_requested = await self._service.heartbeat(self._claim, None if progress is sent else progress)
            except RequestRefused as error:
                log.error("job %s: heartbeat rejected: %s", self._work.job_id, error)
            sent = progress
            if cancel_requested and not self._work.cancel_requested:
                log.info("job %s: cancellation requested", self._work.job_id)
                self._stop(run_task)

    def _stop(self, run_task: asyncio.Future[JobUpdate]) -> None:
        self._work.stop()
        if self._runner.cancellable:
            run_task.cancel()

    async def _apply(self, update: JobUpdate) -> None:
        """Send an update; if the service rejects its content for good, fail the job with the reason."""
        try:
            status = await self._send(update)
        except RequestRefused as error:
            if not update.content:
                raise
            status = await self._send(unsendable(update.content, error, update.excerpt))
        log.info("job %s: %s", self._work.job_id, status)

    async def _send(self, update: JobUpdate) -> str:
        """Send an update; if the service rejects its body, send the next of its alternatives."""
        for alternative in update.alternatives:
            try:
                return await self._service.update_job(self._claim, update)
            except RequestRefused as error:
                if error.status not in BODY_REJECTED:
                    raise
                log.warning("job %s: update rejected, sending a smaller one: %s", self._work.job_id, error)
            update = alternative
        return await self._service.update_job(self._claim, update)
