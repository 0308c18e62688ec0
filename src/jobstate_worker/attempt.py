"""One attempt of a job, from the claim to the change that ends it."""

import asyncio
import threading
from typing import Final

from jobstate_worker.ending import end
from jobstate_worker.outcomes import unsendable
from jobstate_worker.requests import Change, Claim
from jobstate_worker.service import BODY_REJECTED, RequestRefused, Service, ServiceError, log
from jobstate_worker.work import Runner, Work, broken

#: Seconds between two reports of progress at least.
REPORT_EVERY: Final = 1.0
#: Seconds for giving jobs back at the end; those of which the service hears nothing are taken when their lease is over.
FAREWELL: Final = 5.0


class Attempt:
    """One claimed job's way to its end; cancelled, it gives the job back."""

    def __init__(self, claim: Claim, service: Service, runner: Runner) -> None:
        self._claim = claim
        self._service = service
        self._runner = runner
        self._work = Work(claim.job)
        self._given_up = threading.Event()

    async def see_through(self) -> None:
        """Run the function, be heard of meanwhile, and say what came out."""
        log.info("took %s", self._work.job_id)
        try:
            await self._do_or_give_back()
        except ServiceError as error:
            log.warning("%s is left alone: %s", self._work.job_id, error)
        except TimeoutError:
            log.warning("%s is left to the end of its lease: the service is away", self._work.job_id)
        except Exception:
            log.exception("%s is left to the end of its lease", self._work.job_id)

    async def _do_or_give_back(self) -> None:
        change = Change.release()
        try:
            change = await self._run()
            await self._apply(change)
        except asyncio.CancelledError:
            async with asyncio.timeout(FAREWELL):
                await self._apply(change)

    async def _run(self) -> Change:
        doing = asyncio.create_task(self._runner.run(self._work, self._given_up), name=self._work.job_id)
        beating = asyncio.create_task(self._be_heard_of(doing))
        try:
            await asyncio.wait({doing, beating}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                self._given_up.set()
                self._stop(doing)
                await asyncio.wait({doing})
                beating.result()
            error = doing.exception()
            return broken(self._work, error) if error else doing.result()
        except asyncio.CancelledError:
            self._given_up.set()
            self._work.stop()
            await end({doing})
            raise
        finally:
            beating.cancel()

    async def _be_heard_of(self, doing: asyncio.Future[Change]) -> None:
        """Send a heartbeat at each third of the lease, and new progress; raises `JobLost`."""
        loop = asyncio.get_running_loop()
        every = self._claim.lease_seconds / 3
        due, sent = loop.time() + every, None
        while True:
            await asyncio.sleep(min(REPORT_EVERY, every))
            progress = self._work.latest
            if progress is sent and loop.time() < due:
                continue
            due = loop.time() + every
            cancel_requested = False
            try:
                cancel_requested = await self._service.heartbeat(self._claim, None if progress is sent else progress)
            except RequestRefused as refused:
                log.error("%s: the heartbeat was refused: %s", self._work.job_id, refused)
            sent = progress
            if cancel_requested and not self._work.cancel_requested:
                log.info("%s is to be cancelled", self._work.job_id)
                self._stop(doing)

    def _stop(self, doing: asyncio.Future[Change]) -> None:
        self._work.stop()
        if self._runner.cancellable:
            doing.cancel()

    async def _apply(self, change: Change) -> None:
        """Send what becomes of the job; if the service never accepts its content, fail the job with the reason."""
        try:
            status = await self._change(change)
        except RequestRefused as refused:
            if not change.content:
                raise
            status = await self._change(unsendable(change.content, refused, change.excerpt))
        log.info("%s is %s", self._work.job_id, status)

    async def _change(self, change: Change) -> str:
        """Send a change, or the first of its alternatives that the service does not reject for its body."""
        for alternative in change.alternatives:
            try:
                return await self._service.change(self._claim, change)
            except RequestRefused as refused:
                if refused.status not in BODY_REJECTED:
                    raise
                log.warning("%s: a change was rejected, a smaller one follows: %s", self._work.job_id, refused)
            change = alternative
        return await self._service.change(self._claim, change)
