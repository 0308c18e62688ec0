"""Executes a flow of the client without I/O: scripted responses, and a clock that only steps move."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from jobstate._flow import Emit, Flow, FlowRun, Open, Read, Send, Sleep, Wait
from jobstate._requests import Request
from jobstate._responses import Response
from jobstate._retry import Deadline
from jobstate.errors import ConnectionLost, ServiceUnavailable

T = TypeVar("T")

Outcome = Response | bytes | ServiceUnavailable
LOST = ConnectionLost("the connection was lost")


class FlowDriver:
    """Gives each request the next scripted outcome; the last one is repeated. Sleeps and waits move the clock."""

    def __init__(self, *outcomes: Outcome, seconds_per_request: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.now = 0.0
        self.requests: list[Request[Any]] = []
        self.timeouts: list[float] = []
        self.sleeps: list[float] = []
        self.emitted: list[Any] = []
        #: Called at each wait for a signal.
        self.on_wait: Callable[[], object] = lambda: None
        self._seconds_per_request = seconds_per_request

    def deadline(self, seconds: float | None) -> Deadline:
        return Deadline(seconds, lambda: self.now)

    def run(self, flow: Flow[T]) -> T:
        run = FlowRun(flow)
        step = run.proceed()
        steps = 0
        while step is not None:
            steps += 1
            assert steps < 10_000, "the flow does not end"
            try:
                outcome = self._execute(step)
            except ServiceUnavailable as error:
                step = run.fail(error)
            else:
                step = run.proceed(outcome)
        return run.result

    def _execute(self, step: object) -> object:
        match step:
            case Send(request, timeout):
                self.requests.append(request)
                self.timeouts.append(timeout)
                self.now += self._seconds_per_request
                return self._next()
            case Open(request):
                self.requests.append(request)
                return self._next()
            case Read():
                return self._next()
            case Sleep(seconds):
                self.sleeps.append(seconds)
                self.now += seconds
            case Wait(_, seconds):
                self.now += seconds
                self.on_wait()
            case Emit(value):
                self.emitted.append(value)
        return None

    def _next(self) -> Response | bytes:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, ServiceUnavailable):
            raise outcome
        return outcome


def json_response(body: object, status: int = 200, **headers: str) -> Response:
    lower = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, lower, msgspec.json.encode(body))


def problem_response(status: int, name: str, retry_after: int | None = None, **fields: object) -> Response:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    body = {"type": f"urn:jobstate:problem:{name}", "title": "No", "status": status, "detail": "Why.", **fields}
    return Response(status, headers, msgspec.json.encode(body))


def stream_response() -> Response:
    return Response(200, {"content-type": "text/event-stream; charset=utf-8"})


def frames(*events: tuple[str, object, str]) -> bytes:
    """Return events as one chunk; each is a name, data and an id."""
    return b"".join(
        b"event: %s\n%sdata: %s\n\n"
        % (name.encode(), f"id: {id_}\n".encode() if id_ else b"", msgspec.json.encode(data))
        for name, data, id_ in events
    )


def headers_of(requests: Sequence[Request[Any]], name: str) -> list[str]:
    return [request.headers.get(name, "") for request in requests]
