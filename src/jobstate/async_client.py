"""The asynchronous client."""

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Generic, Literal, Self, TypeVar, Unpack, overload

import httpx

from jobstate import _requests
from jobstate._batches import submit_many_flow
from jobstate._bulk_async_client import AsyncBulkMethods
from jobstate._flow import Flow, log
from jobstate._handle import BaseHandle, call_once, list_flow, wait_all_flow, wait_flow
from jobstate._http import client_options
from jobstate._options import JobFilter, JobOptions, NewJob, RetryOptions
from jobstate._requests import Request
from jobstate._retry import RetryPolicy
from jobstate._runners import AsyncRunner
from jobstate._waits import Waits, changes_of
from jobstate.config import configure
from jobstate.errors import JobstateError
from jobstate.models import History, Job, Stats

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class AsyncJobs(AsyncBulkMethods):
    """A client of a jobstate service for asyncio. Share one in the whole event loop, and close it at the end.

    ```python
    async with AsyncJobs("https://jobs.internal") as jobs:
        job = await jobs.submit({"seed": 42}, queue="lineups", id="sunday", result_type=Lineups)
        lineups = await job.wait(timeout=600)
    ```

    Each method sends its request again after lost connections, 429 and 5xx, and raises the last `ServiceUnavailable`
    when `timeout` is over. A change takes effect once, however often it is sent.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = 30.0,
        retry: RetryPolicy | None = None,
        transport: object | None = None,
    ) -> None:
        """Create a client for the service at `url`. Nothing is sent yet.

        `url` defaults to `JOBSTATE_URL`, else to the address of `jobstate serve` in the same environment; `api_key` to
        `JOBSTATE_API_KEY`. `timeout` is the seconds that a call may take with all its retries, `None` for no limit;
        `wait` has its own. `transport` is an `httpx.AsyncBaseTransport` that replaces the network, for tests.

        Raises `ConfigurationError`.
        """
        self._timeout = timeout
        self._policy = retry or RetryPolicy()
        config = configure(url, api_key)
        self._http = httpx.AsyncClient(**client_options(config, transport, httpx.AsyncBaseTransport))
        self._waits = Waits(self._start, asyncio.Event, self._policy)

    @overload
    async def submit(
        self,
        input_params: object,
        *,
        queue: str = ...,
        id: str | None = ...,
        result_type: None = ...,
        idempotency_key: str | None = ...,
        **options: Unpack[JobOptions],
    ) -> "AsyncJobHandle[Any]": ...
    @overload
    async def submit(
        self,
        input_params: object,
        *,
        queue: str = ...,
        id: str | None = ...,
        result_type: type[T],
        idempotency_key: str | None = ...,
        **options: Unpack[JobOptions],
    ) -> "AsyncJobHandle[T]": ...
    async def submit(
        self,
        input_params: object,
        *,
        queue: str = "default",
        id: str | None = None,
        result_type: Any = None,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> "AsyncJobHandle[Any]":
        """Create a job, and return its handle.

        `input_params` is any JSON: Python objects, structs, dataclasses, or `msgspec.Raw` for JSON text. With an `id`,
        or with an `idempotency_key`, submitting the same again returns the same job. `result_type` is the type that
        `wait` decodes the result to, such as a struct, a dataclass or `list[int]`.

        Raises `JobExists` if a job with this `id` has other content, `IdempotencyKeyReused`, `InvalidRequest`, and
        `TypeError` or `ValueError` if `input_params` is not JSON.
        """
        request = _requests.create_job(input_params, id, queue, idempotency_key, options)
        return AsyncJobHandle(self, (await self._call(request)).job, result_type)

    @overload
    async def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = ..., return_exceptions: Literal[False] = ...
    ) -> "builtins.list[AsyncJobHandle[Any]]": ...
    @overload
    async def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = ..., return_exceptions: bool
    ) -> "builtins.list[AsyncJobHandle[Any] | JobstateError]": ...
    async def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = None, return_exceptions: bool = False
    ) -> "builtins.list[Any]":
        """Create many jobs with few requests, and return their handles in order.

        Each job is a mapping with `input_params`, and perhaps `id`, `queue` and the other fields of `submit`. With an
        `idempotency_key`, submitting the same jobs in the same order again returns the same jobs. `timeout` of the
        client holds for each request of up to 1,000 jobs.

        Raises the error of the first job that was not created, as `submit` does, once all were tried, and the error of
        a request at once. With `return_exceptions` the errors stand in the places of their jobs.
        """
        flow = submit_many_flow(jobs, idempotency_key, self._policy, self._timeout, return_exceptions)
        return [AsyncJobHandle(self, one) if isinstance(one, Job) else one for one in await self._run(flow)]

    @overload
    async def get(self, id: str, *, result_type: None = ...) -> "AsyncJobHandle[Any]": ...
    @overload
    async def get(self, id: str, *, result_type: type[T]) -> "AsyncJobHandle[T]": ...
    async def get(self, id: str, *, result_type: Any = None) -> "AsyncJobHandle[Any]":
        """Return the handle of an existing job. Raises `JobNotFound`."""
        return AsyncJobHandle(self, (await self._call(_requests.get_job(id))).job, result_type)

    @overload
    def handle(self, id: str, *, result_type: None = ...) -> "AsyncJobHandle[Any]": ...
    @overload
    def handle(self, id: str, *, result_type: type[T]) -> "AsyncJobHandle[T]": ...
    def handle(self, id: str, *, result_type: Any = None) -> "AsyncJobHandle[Any]":
        """Return the handle of an existing job without a request: to wait for it again after a restart.

        All its methods work. `record`, `status`, `progress` and `is_final` raise `JobstateError` until one of them has
        seen the job. Raises `TypeError` or `ValueError` if `id` cannot be an id.
        """
        _requests.job_path(id)
        return AsyncJobHandle(self, id, result_type)

    async def list(
        self, *, include: Sequence[str] = (), limit: int | None = None, **filters: Unpack[JobFilter]
    ) -> "AsyncIterator[AsyncJobHandle[Any]]":
        """Yield the handles of all jobs that match the filters, newest first, at most `limit`.

        Pages are read when they are needed. The records come without `input_params` and `result`, unless `include`
        names them. Jobs that do not change meanwhile appear exactly once.
        """
        async for record in AsyncRunner(self._http).iterate(
            list_flow(filters, include, limit, self._policy, self._timeout)
        ):
            yield AsyncJobHandle(self, record)

    @overload
    async def wait_all(
        self,
        jobs: "Iterable[AsyncJobHandle[T]]",
        *,
        timeout: float | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> builtins.list[T]: ...
    @overload
    async def wait_all(
        self, jobs: "Iterable[AsyncJobHandle[T]]", *, timeout: float | None = ..., return_exceptions: bool
    ) -> builtins.list[T | JobstateError]: ...
    async def wait_all(
        self, jobs: "Iterable[AsyncJobHandle[Any]]", *, timeout: float | None = None, return_exceptions: bool = False
    ) -> builtins.list[Any]:
        """Wait for all jobs, on one connection, and return their results in the order of `jobs`.

        Raises what `AsyncJobHandle.wait` raises, as soon as one job ends without a result. With `return_exceptions` it
        waits for all, and the errors stand in the places of their jobs.
        """
        return await self._run(wait_all_flow(jobs, self._waits, timeout, return_exceptions))

    async def stats(self) -> Stats:
        """Return exact counts of all jobs by status and queue."""
        return await self._call(_requests.get_stats())

    async def aclose(self) -> None:
        """Close all connections. Waits in other tasks end with a `JobstateError`, at the latest after 30 seconds."""
        self._waits.hub.stop()
        await self._http.aclose()
        self._waits.hub.wake_all()  # the waits notice that the client is closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _call(self, request: Request[T]) -> T:
        return await self._run(call_once(request, self._policy, self._timeout))

    async def _run(self, flow: Flow[T]) -> T:
        return await AsyncRunner(self._http).run(flow)

    def _start(self, flow: Flow[None]) -> Callable[[], object]:
        """Follow the shared stream in a task. Returns a function that stops it."""

        async def follow() -> None:
            try:
                await AsyncRunner(self._http).run(flow)
            except JobstateError:  # the client is closed
                pass
            except Exception:
                log.exception("event stream failed")

        self._follower = asyncio.create_task(follow(), name="jobstate-events")
        return self._follower.cancel


class AsyncJobHandle(BaseHandle[R_co], Generic[R_co]):
    """One job. `R_co` is the type of its result. Made by `submit`, `get`, `handle` and `list` of `AsyncJobs`."""

    def __init__(self, jobs: AsyncJobs, job: Job | str, result_type: Any = None) -> None:
        super().__init__(job, result_type)
        self._jobs = jobs

    async def wait(self, timeout: float | None = None) -> R_co:
        """Wait until the job has ended, and return its result; `None` if it completed without one.

        Outages of the service are waited out. Raises `WaitTimeout` after `timeout` seconds (the job lives on; `None`
        waits for ever), `JobFailed`, `JobCancelled`, `JobExpired` if the job exists no more, `InvalidResult` if the
        result is not of the `result_type`.
        """
        return await self._jobs._run(wait_flow(self, self._jobs._waits, timeout))

    async def changes(self) -> AsyncIterator[Job]:
        """Yield the job's record now, and after each change, until it has ended. The last one is final.

        Changes in quick succession may come as one. Outages are waited out, and the end is never missed. The records
        come without `input_params` and `result`. A failed job raises nothing: see `status`, or call `wait`. Raises
        `JobDeleted` or `JobExpired` if the job exists no more.
        """
        async for record in AsyncRunner(self._jobs._http).iterate(
            changes_of(self.id, self._record, self._jobs._policy)
        ):
            self._record = record
            yield record

    async def refresh(self) -> Job:
        """Read the record again, keep it as `record`, and return it. Raises `JobNotFound`."""
        return self._see(await self._jobs._call(self._about(_requests.get_job(self.id))))

    async def cancel(self) -> Job:
        """Cancel the job, and return its record. A leased job keeps running until its worker stops: see `wait`.

        Raises `IllegalTransition` if it has completed or failed, `JobNotFound`.
        """
        return self._see(await self._jobs._call(self._about(_requests.cancel_job(self.id))))

    async def retry(self, **options: Unpack[RetryOptions]) -> Job:
        """Make a failed or cancelled job pending again, with all its attempts left, and return its record.

        It gets a new `max_attempts`, `priority` and `run_timeout_seconds` where they are given, and may be claimed
        after `delay_seconds`. `history` keeps the error of each attempt. Raises `IllegalTransition` if it has neither
        failed nor been cancelled, `JobNotFound`.
        """
        request = _requests.retry_job(self.id, options)
        return self._see(await self._jobs._call(self._about(request)))

    async def delete(self) -> None:
        """Delete a job that has ended. Its id can be used again. Raises `JobNotFinal`, `JobNotFound`."""
        await self._jobs._call(self._about(_requests.delete_job(self.id)))

    async def result_bytes(self) -> bytes | None:
        """Return the result as JSON, byte for byte as the worker sent it; `None` if it completed without one.

        Does not wait: raises `ResultNotReady` if the job has not ended, `JobFailed`, `JobCancelled`, `JobNotFound`.
        """
        return await self._jobs._call(self._about(_requests.get_result(self.id)))

    async def history(self) -> History:
        """Return the job's changes, oldest first, without those of its progress. Raises `JobNotFound`."""
        return await self._jobs._call(self._about(_requests.get_history(self.id)))
