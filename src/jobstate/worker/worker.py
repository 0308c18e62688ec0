"""The worker: its options, and the ways to start and stop it."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Literal

import httpx

from jobstate._http import client_options
from jobstate.config import configure
from jobstate.worker.claims import ClaimLoop
from jobstate.worker.client import WorkerClient
from jobstate.worker.executors import STOP_SIGNALS, Function, check_not_importing, runner_for
from jobstate.worker.shutdown import DaemonThreadPool, cancel_all


class Worker:
    """Claims jobs and runs `function` for each of them, until it is stopped.

    ```python
    async def greet(context: JobContext) -> str:
        return f"Hello, {context.input_params['name']}"

    Worker("https://jobs.internal", ["greetings"], greet).run()
    ```

    `function` gets a `JobContext` and returns the job's result, any JSON. An async function runs in the event loop. A
    cancel request cancels its task. Any other function runs in a thread or in its own process (`executor`). To stop, it
    reads `JobContext.cancel_requested` and returns `None`. An exception counts as a failed attempt. `PermanentFailure`
    fails the job for good.
    """

    def __init__(
        self,
        url: str | None,
        queues: Sequence[str],
        function: Function,
        *,
        api_key: str | None = None,
        worker: str | None = None,
        concurrency: int = 1,
        executor: Literal["thread", "process"] = "thread",
        lease_seconds: int = 30,
        wait_seconds: int = 20,
        drain_seconds: float = 60.0,
        transport: object | None = None,
    ) -> None:
        """Prepare a worker for the service at `url`; it runs at most `concurrency` jobs concurrently.

        `url` and `api_key` default to the environment, as those of `Jobs` do; the key needs the scope `work`. `worker`
        is the name in the job's record, by default host name and process id. A worker has 1 to 100 `queues`, and leases
        of 5 to 3600 `lease_seconds`. A claim waits up to `wait_seconds` (0 to 30) for a job. After a stop, running jobs
        have `drain_seconds` to finish, and are then released. `transport` is an `httpx.AsyncBaseTransport` that
        replaces the network, for tests.

        Raises `ValueError` if `function` cannot run in the given way or an argument is out of its range, and
        `ConfigurationError`, also a `ValueError`, if the URL, the API key or the proxy cannot be used.
        """
        if isinstance(queues, str):
            raise ValueError(f"`queues` must be a list of names, such as [{queues!r}]")
        if concurrency < 1:
            raise ValueError("`concurrency` must be at least 1")
        _check_range("`lease_seconds`", lease_seconds, 5, 3600)
        _check_range("`wait_seconds`", wait_seconds, 0, 30)
        _check_range("the number of `queues`", len(queues), 1, 100)
        self._connection = client_options(configure(url, api_key), transport, httpx.AsyncBaseTransport)
        self._queues = list(queues)
        self._runner = runner_for(function, executor)
        self._name = worker or f"{socket.gethostname()[:64]}-{os.getpid()}"
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._drain_seconds = drain_seconds
        self._is_stopped = False
        self._claim_loop: ClaimLoop | None = None

    def run(self) -> None:
        """Run jobs until SIGTERM or Ctrl-C; a second signal releases the running jobs at once.

        Call it in the main thread. It does not wait for threads or tasks that a function leaves running. Raises
        `RequestRejected` if the service rejects the claims for good, and `RuntimeError` in a process of
        `multiprocessing` that imports the main module.
        """
        loop = asyncio.new_event_loop()
        loop.set_default_executor(DaemonThreadPool())
        try:
            loop.run_until_complete(self._serve_until_signalled(loop))
        finally:
            loop.close()

    async def serve(self) -> None:
        """Run jobs in the current event loop until `stop` is called. Raises `RequestRejected` as `run` does."""
        await self._serve(self._wait_seconds, until_idle=False, max_jobs=None)

    def run_until_idle(self, *, max_jobs: int | None = None) -> int:
        """Run jobs until no job is due, at most `max_jobs`, and return how many attempts were run.

        For tests and scheduled batches. It also runs jobs that are created meanwhile, and attempts that become due, but
        does not wait for delays. It waits while the service is unavailable. Raises `RequestRejected` as `run` does.
        """
        return asyncio.run(self.serve_until_idle(max_jobs=max_jobs))

    async def serve_until_idle(self, *, max_jobs: int | None = None) -> int:
        """Do what `run_until_idle` does, in the current event loop."""
        return await self._serve(0, until_idle=True, max_jobs=max_jobs)

    def stop(self) -> None:
        """Claim no more jobs, and end when the running jobs have finished. Thread-safe."""
        self._is_stopped = True
        if self._claim_loop is not None:
            self._claim_loop.stop()

    async def _serve(self, wait_seconds: int, *, until_idle: bool, max_jobs: int | None) -> int:
        check_not_importing()
        async with httpx.AsyncClient(**self._connection) as http:
            client = WorkerClient(http, self._queues, self._name, self._lease_seconds)
            loop = ClaimLoop(client, self._runner, self._concurrency, wait_seconds)
            self._claim_loop = loop
            if self._is_stopped:
                loop.stop()
            try:
                return await loop.run(until_idle=until_idle, max_jobs=max_jobs)
            finally:
                await loop.drain(self._drain_seconds)
                self._claim_loop = None

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
        if self._is_stopped and self._claim_loop is not None:
            self._claim_loop.force_stop()
        self.stop()


def _check_range(name: str, value: float, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
