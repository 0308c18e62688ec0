"""Event streams that reconnect where they were. No I/O: the steps of a flow do it."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from jobstate._flow import Flow, Open, Read, pause
from jobstate._requests import Request
from jobstate._retry import Retry
from jobstate.errors import ConnectionLost, ServiceUnavailable

#: The event with which the service closes a connection. The stream continues on the next one.
_BYE: Final = "bye"


class Event(NamedTuple):
    """An event of the service; `data` is JSON. `id` is that of the last event that had one."""

    name: str
    data: bytes
    id: str = ""


class Decoder:
    """Decodes `text/event-stream` (HTML Standard, section 9.2), of which the service ends lines with LF."""

    def __init__(self) -> None:
        self.last_id = ""
        #: Seconds before a reconnect, as the stream says.
        self.retry: float | None = None
        self._buffer = b""
        self._id: str | None = None
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete with this chunk, only those with data."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line:
                self._read_field(line)
            else:
                yield from self._dispatch()

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value) / 1000

    def _dispatch(self) -> Iterator[Event]:
        if self._id is not None:  # not before the end of its event, which may be cut
            self.last_id, self._id = self._id, None
        if self._data:
            yield Event(self._name or "message", b"\n".join(self._data), self.last_id)
        self._name, self._data = "", []


class EventStream:
    """The events of a stream, over all its connections."""

    def __init__(self, build: Callable[[str], Request[bool]], retry: Retry, last_id: str = "") -> None:
        """Read the stream that `build` opens after an event id."""
        self._build = build
        self._retry = retry
        self._decoder = Decoder()
        self._decoder.last_id = last_id
        self._events: deque[Event] = deque()
        self._is_open = False
        self._failure: ServiceUnavailable | None = None

    def next(self) -> Flow[Event | None]:
        """Return the next event; `None` once the service says that no more will come. `bye` is not returned.

        Reconnects until the deadline of its `Retry`, then raises the last `ServiceUnavailable`.
        """
        while not self._events:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                yield from pause(self._retry, failure)
            try:
                if not self._is_open and not (yield from self._open()):
                    return None
                self._receive((yield Read()))
            except ServiceUnavailable as error:
                error.retry_after = max(error.retry_after, self._decoder.retry or 0.0)
                self._failure = error
                self._is_open = False
        return self._events.popleft()

    def _open(self) -> Flow[bool]:
        last_id, retry = self._decoder.last_id, self._decoder.retry
        request = self._build(last_id)
        response = yield Open(request)
        self._is_open = request.read(response)
        self._decoder = Decoder()
        self._decoder.last_id, self._decoder.retry = last_id, retry
        return self._is_open

    def _receive(self, chunk: bytes) -> None:
        if not chunk:
            raise ConnectionLost("the event stream was closed")
        for event in self._decoder.feed(chunk):
            if event.name == _BYE:
                raise ConnectionLost(f"the service closed the event stream ({_reason(event.data)})")
            self._retry.reset()
            self._events.append(event)


class _Bye(msgspec.Struct):
    reason: str = "no reason given"


def _reason(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Bye).reason
    except msgspec.MsgspecError:
        return _Bye().reason
