"""Executes flows with httpx: blocking a thread, or awaiting. Nothing else of the client does I/O or sleeps."""

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

import httpx

from jobstate._flow import Emit, Flow, FlowRun, Open, Read, Send, Sleep, Step, Wait
from jobstate._http import SharedClient, build, mapped_errors, response_of, shut_down
from jobstate._requests import STREAM_TIMEOUT, Request
from jobstate._responses import Response
from jobstate.errors import ServiceUnavailable

T = TypeVar("T")


class Stopped(Exception):
    """The flow was stopped by another thread."""


class SyncRunner:
    """Executes one flow, blocking the thread."""

    def __init__(self, http: SharedClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._open_stream = contextlib.ExitStack()
        self._stopped = threading.Event()

    def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow that emits nothing."""
        run = FlowRun(flow)
        for _ in self._steps(run):
            pass
        return run.result

    def iterate(self, flow: Flow[None]) -> Generator[Any]:
        """Yield what a flow emits."""
        return self._steps(FlowRun(flow))

    def stop(self) -> None:
        """Raise `Stopped` in the thread that executes the flow."""
        self._stopped.set()
        shut_down(self._response)

    def _steps(self, run: FlowRun[Any]) -> Generator[Any]:
        try:
            step = run.proceed()
            while step is not None:
                if isinstance(step, Emit):
                    yield step.value
                    step = run.proceed()
                else:
                    step = self._execute(run, step)
        finally:
            run.close()
            self._close_stream()

    def _execute(self, run: FlowRun[Any], step: Step) -> Step | None:
        try:
            outcome = self._outcome(step)
        except ServiceUnavailable as error:
            if self._stopped.is_set():
                raise Stopped from error
            return run.fail(error)
        if self._stopped.is_set():
            raise Stopped
        return run.proceed(outcome)

    def _outcome(self, step: Step) -> object:
        match step:
            case Send(request, timeout):
                with self._http.in_use(), mapped_errors(self._http):
                    return response_of(self._http.send(build(self._http, request, timeout)))
            case Open(request):
                return self._open(request)
            case Read():
                with mapped_errors(self._http):
                    return next(self._chunks, b"")
            case Wait(signal, seconds):
                signal.wait(seconds)
            case Sleep(seconds):
                self._stopped.wait(seconds)
        return None

    def _open(self, request: Request[bool]) -> Response:
        self._close_stream()
        self._open_stream.enter_context(self._http.in_use())
        with mapped_errors(self._http):
            prepared = build(self._http, request, request.timeout, read=STREAM_TIMEOUT)
            self._response = self._http.send(prepared, stream=True)
            self._open_stream.callback(self._response.close)
            if not self._response.is_success:
                self._response.read()
            self._chunks = self._response.iter_bytes()
            return response_of(self._response)

    def _close_stream(self) -> None:
        self._open_stream.close()
        self._response = None


class AsyncRunner:
    """Executes one flow, awaiting its steps."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow that emits nothing."""
        run = FlowRun(flow)
        async with contextlib.aclosing(self._steps(run)) as steps:
            async for _ in steps:
                pass
        return run.result

    def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any]:
        """Yield what a flow emits."""
        return self._steps(FlowRun(flow))

    async def _steps(self, run: FlowRun[Any]) -> AsyncGenerator[Any]:
        try:
            step = run.proceed()
            while step is not None:
                if isinstance(step, Emit):
                    yield step.value
                    step = run.proceed()
                else:
                    step = await self._execute(run, step)
        finally:
            run.close()
            await self._close_stream()

    async def _execute(self, run: FlowRun[Any], step: Step) -> Step | None:
        try:
            outcome = await self._outcome(step)
        except ServiceUnavailable as error:
            return run.fail(error)
        return run.proceed(outcome)

    async def _outcome(self, step: Step) -> object:
        import asyncio  # takes long, and only this runner needs it

        match step:
            case Send(request, timeout):
                with mapped_errors(self._http):
                    return response_of(await _send(self._http, build(self._http, request, timeout)))
            case Open(request):
                return await self._open(request)
            case Read():
                with mapped_errors(self._http):
                    return b"" if self._chunks is None else await anext(self._chunks, b"")
            case Wait(signal, seconds):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await signal.wait()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
        return None

    async def _open(self, request: Request[bool]) -> Response:
        await self._close_stream()
        with mapped_errors(self._http):
            prepared = build(self._http, request, request.timeout, read=STREAM_TIMEOUT)
            self._response = await _send(self._http, prepared, stream=True)
            if not self._response.is_success:
                await self._response.aread()
            self._chunks = self._response.aiter_bytes()
            return response_of(self._response)

    async def _close_stream(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None


async def _send(http: httpx.AsyncClient, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
    """Return the response to a request. A cancellation ends the request with a scope of anyio.

    httpcore (1.0) protects its clean-up only from those: a cancellation by asyncio in it would leak the connection.
    """
    import asyncio  # these two take long, and only this runner needs them

    import anyio

    scope = anyio.CancelScope()

    async def send() -> httpx.Response | None:
        with scope:
            try:
                return await http.send(request, stream=stream)
            except AttributeError as error:
                if error.name != "getpeername" or error.obj is not None:
                    raise
                # anyio (4.16) asks for the address of a new connection that uvloop (0.23) has closed already.
                raise httpx.ConnectError("connection closed", request=request) from error
        return None

    task = asyncio.create_task(send())
    try:
        response = await asyncio.shield(task)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None and (unread := task.result()) is not None:
            await unread.aclose()
        raise
    assert response is not None, "only a cancellation ends the scope"
    return response
