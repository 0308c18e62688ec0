"""A worker in ten lines: it does the jobs of a jobstate service, and knows it over HTTP alone.

from jobstate_worker import JobWorker, Work


async def build(work: Work) -> object:
    for step in range(10):
        ...
        work.progress(step + 1, 10)
    return {"seed": work.input_params["seed"]}


JobWorker("http://127.0.0.1:8000", ["default"], build).run()
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Sequence
from typing import Final, Literal, TypeVar

import httpx

from jobstate.connections import authorization, connection_options
from jobstate_worker.attempt import FAREWELL, Attempt
from jobstate_worker.ending import DaemonThreads, end_all
from jobstate_worker.requests import Asking, Change, Claim
from jobstate_worker.service import RequestRefused, Service, ServiceError, log
from jobstate_worker.work import ENDING, Function, JobFailed, Work, runner_for

__all__ = ["JobFailed", "JobWorker", "RequestRefused", "Work"]

#: Seconds between two claims that bring nothing at least, for those that did not wait at the service.
CLAIM_EVERY: Final = 1.0

T = TypeVar("T")


class JobWorker:
    """Claims jobs and sees each of them through, until it is told to stop.

    `function` gets a `Work` and returns the job's result, any JSON. An async one runs in the event loop and is
    cancelled when its job is to be; any other runs in a thread or in a process of its own (`in_`), looks at
    `cancel_requested` and stops by returning `None`. What it raises counts as a failed attempt, but for `JobFailed`,
    which ends the job.
    """

    def __init__(
        self,
        url: str,
        queues: Sequence[str],
        function: Function,
        *,
        api_key: str | None = None,
        worker: str | None = None,
        concurrency: int = 1,
        in_: Literal["thread", "process"] = "thread",
        lease_seconds: int = 30,
        wait_seconds: int = 20,
        drain_seconds: float = 60.0,
    ) -> None:
        """Do at most `concurrency` jobs at once; `worker` is a name for people (host and process id by default).

        A service with API keys is shown `api_key`, by default that of the variable JOBSTATE_API_KEY; scope: work.
        A claim waits at the service for a job, up to `wait_seconds` (0 to 30). Jobs that run when the worker is stopped
        have `drain_seconds` to end, and are given back then. Raises `ValueError` for a function that cannot run as
        asked, for a string in place of several queues, for a concurrency below 1, for what is no API key, and for a
        proxy in the environment that cannot be used.
        """
        if isinstance(queues, str):
            raise ValueError(f"queues must be a list of names, such as [{queues!r}]")
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self._url = url
        self._headers = authorization(os.environ.get("JOBSTATE_API_KEY", "") if api_key is None else api_key, url)
        self._connection = connection_options(url)
        self._queues = list(queues)
        self._runner = runner_for(function, in_)
        self._worker = worker or f"{socket.gethostname()[:64]}-{os.getpid()}"
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._drain_seconds = drain_seconds
        self._free = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Work until SIGTERM or Ctrl-C, which stop the worker; a second one gives the running jobs back at once.

        It does not wait for what a function has left behind, in a thread or in a task that heeds no cancellation. To be
        called in the main thread. Raises `RequestRefused` when the service will never accept its claims.
        """
        loop = asyncio.new_event_loop()
        loop.set_default_executor(DaemonThreads())
        try:
            loop.run_until_complete(self._serve_until_signalled(loop))
        finally:
            loop.close()

    async def serve(self) -> None:
        """Work until `stop`, in a loop that is there already. Raises `RequestRefused` as `run` does."""
        self._loop = asyncio.get_running_loop()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=10.0, limits=limits, **self._connection
        ) as http:
            service = Service(http)
            log.info("waiting for jobs in %s", ", ".join(self._queues))
            try:
                await self._take_jobs(service)
            finally:
                await self._drain()

    def stop(self) -> None:
        """Claim no more, and end when the running jobs have; may be called from any thread."""
        if self._loop is None:
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve_until_signalled(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in ENDING:
            loop.add_signal_handler(number, self._note_signal)
        try:
            await self.serve()
        finally:
            for number in ENDING:
                loop.remove_signal_handler(number)
            await end_all()

    def _note_signal(self) -> None:
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def _take_jobs(self, service: Service) -> None:
        while not self._stopping.is_set():
            if await _before(self._stopping, self._free.acquire()) is None:
                return
            earliest = asyncio.get_running_loop().time() + CLAIM_EVERY
            claim = await self._claim(service)
            if claim is None:
                self._free.release()
                await _before(self._stopping, asyncio.sleep(earliest - asyncio.get_running_loop().time()))
            else:
                task = asyncio.create_task(Attempt(claim, service, self._runner).see_through())
                self._running.add(task)
                task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.release()

    async def _claim(self, service: Service) -> Claim | None:
        """Claim a job; one that a claim has got that was cut off by the stop is given back."""
        asking = Asking(self._queues, self._worker, self._lease_seconds)
        claim = await _before(self._stopping, service.claim(asking, self._wait_seconds))
        if not self._stopping.is_set():
            return claim
        with contextlib.suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(FAREWELL):
                claim = claim or await service.claim_unheard(asking)
                if claim:
                    await service.change(claim, Change.release())
        return None

    async def _drain(self) -> None:
        if self._running:
            log.info("waiting up to %g s for %d running", self._drain_seconds, len(self._running))
            await _before(self._hurrying, asyncio.wait(self._running, timeout=self._drain_seconds))
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        log.info("ended")


async def _before(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return what `work` does, or `None`, with the work cancelled, where the event comes first."""
    doing, coming = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, coming}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        doing.cancel()
        coming.cancel()
        await asyncio.wait({doing, coming})
