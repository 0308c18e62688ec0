"""A worker that runs jobs in the process of the tests, on request."""

from collections.abc import Sequence
from typing import Any

from jobstate import JobContext, JobHandle, Jobs, Worker
from jobstate.worker.executors import Function, is_async


class WorkerFactory:
    """Makes workers for one service."""

    def __init__(self, jobs: Jobs, url: str) -> None:
        self._jobs = jobs
        self._url = url

    def __call__(self, function: Function, queues: Sequence[str] = ("default",), **options: Any) -> "TriggeredWorker":
        """Return a worker that runs `function` for the jobs in `queues`. `options` are those of `jobstate.Worker`."""
        return TriggeredWorker(self._jobs, self._url, function, queues, options)


class TriggeredWorker:
    """Runs jobs that are due with `jobstate.Worker`, and returns when none is left.

    An exception of the function ends the attempt, as in production: see the status and `error_message` of the job.
    """

    def __init__(
        self, jobs: Jobs, url: str, function: Function, queues: Sequence[str], options: dict[str, Any]
    ) -> None:
        self._jobs = jobs
        self._job_ids: list[str] = []
        function = _recording(function, self._job_ids)
        self._worker = Worker(url, queues, function, **{"worker": "pytest", "drain_seconds": 0, **options})

    def run_one(self) -> JobHandle[Any] | None:
        """Run the first job that is due. Returns its handle after the attempt, or `None` if no job is due."""
        self._worker.run_until_idle(max_jobs=1)
        return next(iter(self._handles()), None)

    def run_all(self) -> list[JobHandle[Any]]:
        """Run jobs until none is due, also those that are created meanwhile. Returns their handles in this order."""
        self._worker.run_until_idle()
        return self._handles()

    async def async_run_one(self) -> JobHandle[Any] | None:
        """Do what `run_one` does, in the event loop of the test."""
        await self._worker.serve_until_idle(max_jobs=1)
        return next(iter(self._handles()), None)

    async def async_run_all(self) -> list[JobHandle[Any]]:
        """Do what `run_all` does, in the event loop of the test."""
        await self._worker.serve_until_idle()
        return self._handles()

    def _handles(self) -> list[JobHandle[Any]]:
        job_ids = list(dict.fromkeys(self._job_ids))
        self._job_ids.clear()
        return [self._jobs.get(job_id) for job_id in job_ids]


def _recording(function: Function, job_ids: list[str]) -> Function:
    """Return `function`, so that each call appends the id of its job to `job_ids`."""
    if is_async(function):

        async def record_async(context: JobContext) -> Any:
            job_ids.append(context.job_id)
            return await function(context)

        return record_async

    def record(context: JobContext) -> Any:
        job_ids.append(context.job_id)
        return function(context)

    return record
