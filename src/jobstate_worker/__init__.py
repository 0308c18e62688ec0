"""Run the jobs of a jobstate service in Python. The worker uses only the service's HTTP API.

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
from jobstate_worker.attempt import RELEASE_TIMEOUT, Attempt
from jobstate_worker.requests import Claim, ClaimRequest, JobUpdate
from jobstate_worker.service import RequestRefused, ServiceError, WorkerClient, log
from jobstate_worker.shutdown import DaemonThreadPool, cancel_all
from jobstate_worker.work import STOP_SIGNALS, Function, JobFailed, Work, runner_for

__all__ = ["JobFailed", "JobWorker", "RequestRefused", "Work"]

#: Minimum seconds between two claims that return no job.
MIN_CLAIM_INTERVAL: Final = 1.0

T = TypeVar("T")


class JobWorker:
    """Claims jobs and runs `function` for each of them, until it is stopped.

    `function` gets a `Work` and returns the job's result, any JSON. An async function runs in the event loop. A cancel
    request cancels its task. Any other function runs in a thread or in its own process (`in_`). To stop, it reads
    `Work.cancel_requested` and returns `None`. An exception counts as a failed attempt. `JobFailed` fails the job for
    good.
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
        """Prepare a worker for the service at `url`; it runs at most `concurrency` jobs concurrently.

        `api_key` defaults to the environment variable JOBSTATE_API_KEY and needs the scope `work`. `worker` is the name
        in the job's record, by default host name and process id. A claim waits up to `wait_seconds` (0 to 30) for a
        job. After a stop, running jobs have `drain_seconds` to finish, and are then released.

        Raises `ValueError` if `function` cannot run in the given way, `queues` is a string, `concurrency` is below 1,
        the API key is invalid, or the environment names an unusable proxy.
        """
        if isinstance(queues, str):
            raise ValueError(f"`queues` must be a list of names, such as [{queues!r}]")
        if concurrency < 1:
            raise ValueError("`concurrency` must be at least 1")
        self._url = url
        self._headers = authorization(os.environ.get("JOBSTATE_API_KEY", "") if api_key is None else api_key, url)
        self._connection = connection_options(url)
        self._queues = list(queues)
        self._runner = runner_for(function, in_)
        self._worker = worker or f"{socket.gethostname()[:64]}-{os.getpid()}"
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._drain_seconds = drain_seconds
        self._slots = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._force_stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Run jobs until SIGTERM or Ctrl-C; a second signal releases the running jobs at once.

        Call it in the main thread. It does not wait for threads or tasks that a function leaves running. Raises
        `RequestRefused` if the service rejects the claims for good.
        """
        loop = asyncio.new_event_loop()
        loop.set_default_executor(DaemonThreadPool())
        try:
            loop.run_until_complete(self._serve_until_signalled(loop))
        finally:
            loop.close()

    async def serve(self) -> None:
        """Run jobs in the current event loop until `stop` is called. Raises `RequestRefused` as `run` does."""
        self._loop = asyncio.get_running_loop()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=10.0, limits=limits, **self._connection
        ) as http:
            service = WorkerClient(http)
            log.info("waiting for jobs in queues: %s", ", ".join(self._queues))
            try:
                await self._claim_loop(service)
            finally:
                await self._drain()

    def stop(self) -> None:
        """Claim no more jobs, and end when the running jobs have finished. Thread-safe."""
        if self._loop is None:
            self._stopping.set()
        else:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve_until_signalled(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self.serve()
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
            await cancel_all()

    def _on_signal(self) -> None:
        (self._force_stop if self._stopping.is_set() else self._stopping).set()

    async def _claim_loop(self, service: WorkerClient) -> None:
        while not self._stopping.is_set():
            if await _first_of(self._stopping, self._slots.acquire()) is None:
                return
            next_claim_at = asyncio.get_running_loop().time() + MIN_CLAIM_INTERVAL
            claim = await self._claim(service)
            if claim is None:
                self._slots.release()
                await _first_of(self._stopping, asyncio.sleep(next_claim_at - asyncio.get_running_loop().time()))
            else:
                task = asyncio.create_task(Attempt(claim, service, self._runner).run())
                self._running.add(task)
                task.add_done_callback(self._on_attempt_done)

    def _on_attempt_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _claim(self, service: WorkerClient) -> Claim | None:
        """Claim a job. If `stop` interrupts the claim, release the job that it may have claimed."""
        claim_request = ClaimRequest(self._queues, self._worker, self._lease_seconds)
        claim = await _first_of(self._stopping, service.claim(claim_request, self._wait_seconds))
        if not self._stopping.is_set():
            return claim
        with contextlib.suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(RELEASE_TIMEOUT):
                claim = claim or await service.recover_claim(claim_request)
                if claim:
                    await service.update_job(claim, JobUpdate.release())
        return None

    async def _drain(self) -> None:
        if self._running:
            log.info("waiting up to %g s for %d running jobs", self._drain_seconds, len(self._running))
            await _first_of(self._force_stop, asyncio.wait(self._running, timeout=self._drain_seconds))
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        log.info("worker stopped")


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
