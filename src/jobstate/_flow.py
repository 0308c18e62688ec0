"""The logic of calls, written once for the synchronous and the asynchronous client.

A flow is a generator. It yields a step, the client executes it, blocking or awaiting, and sends the outcome back, or
throws the `ServiceUnavailable` that it met. So everything but the steps themselves is tested without I/O.
"""

import logging
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from jobstate._requests import Request
from jobstate._retry import Retry
from jobstate.errors import ServiceUnavailable

T = TypeVar("T")

log: Final = logging.getLogger("jobstate")

#: Seconds that an attempt may last beyond the deadline, so that a response at the deadline still arrives.
_GRACE: Final = 0.5


class Signal(Protocol):
    """A flag that a flow waits for: an `Event` of `threading` or of `asyncio`."""

    def set(self) -> None:
        """Wake the flow."""

    def clear(self) -> None:
        """Make the next wait wait again."""

    @property
    def wait(self) -> Callable[..., Any]:
        """Wait until it is set."""
        ...


class Send(NamedTuple):
    """Send a request; the outcome is the `Response`."""

    request: Request[Any]
    timeout: float


class Sleep(NamedTuple):
    """Do nothing for some seconds."""

    seconds: float


class Open(NamedTuple):
    """Open an event stream in place of the last one; the outcome is a `Response` without the stream's body."""

    request: Request[bool]


class Read(NamedTuple):
    """Read from the stream; the outcome is bytes, empty at the end of the stream."""


class Wait(NamedTuple):
    """Wait until a signal is set, at most some seconds."""

    signal: Signal
    seconds: float


class Emit(NamedTuple):
    """Hand a value to the consumer of the flow."""

    value: Any


Step: TypeAlias = Send | Sleep | Open | Read | Wait | Emit
Flow: TypeAlias = Generator[Step, Any, T]


class FlowRun(Generic[T]):
    """A flow that a client executes: each method returns the next step, or `None` at the end, with `result`."""

    result: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow

    def proceed(self, outcome: object = None) -> Step | None:
        """Hand in the outcome of the last step."""
        try:
            return self._flow.send(outcome)
        except StopIteration as stop:
            self.result = stop.value
            return None

    def fail(self, error: ServiceUnavailable) -> Step | None:
        """Hand in the failure of the last step."""
        try:
            return self._flow.throw(error)
        except StopIteration as stop:
            self.result = stop.value
            return None

    def close(self) -> None:
        """Give the flow up."""
        self._flow.close()


def call(request: Request[T], retry: Retry) -> Flow[T]:
    """Send a request until there is a usable response, and return what it means."""
    while True:
        try:
            response = yield Send(request, min(request.timeout, retry.deadline.remaining + _GRACE))
            result = request.read(response)
        except ServiceUnavailable as error:
            failure = error
        else:
            retry.reset()
            return result
        yield from pause(retry, failure)


def pause(retry: Retry, failure: ServiceUnavailable) -> Flow[None]:
    """Wait before the next attempt. Raises `failure` if there is none."""
    delay = retry.delay_after(failure)
    if delay is None:
        raise failure
    level = logging.WARNING if retry.failures == 1 else logging.DEBUG
    log.log(level, "service unavailable, retrying in %.1f s: %s", delay, failure)
    yield Sleep(delay)
