"""Frames of `text/event-stream` (HTML Standard, section 9.2)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Final

import msgspec

from service.domain.events import Event, EventKind
from service.domain.jobs import Job
from service.domain.timestamps import format_timestamp
from service.store.events.hub import BUFFER_SIZE
from service.store.events.stream import MarkerKind, StreamMarker

EVENT_STREAM: Final = "text/event-stream"
#: Milliseconds until an `EventSource` reconnects.
_RETRY: Final = b"retry: 1000\n\n"
_RETRY_LATER: Final = b"retry: 3000\n\n"
_KEEP_ALIVE: Final = b":\n\n"


async def job_frames(changes: AsyncGenerator[Job | Event | None]) -> AsyncIterator[bytes]:
    """Yield the frames of one job's stream; `None` in `changes` is a keep-alive."""
    yield _RETRY
    is_finished = False
    async with aclosing(changes):
        async for change in changes:
            match change:
                case Job():
                    yield _frame("changed", change.version, msgspec.json.encode(change))
                    is_finished = change.is_final
                case Event():
                    yield _frame(change.kind, change.version, _event_data(change))
                    is_finished = True
                case _:
                    yield _KEEP_ALIVE
    if not is_finished:
        yield _close_frame("shutdown")


async def event_frames(
    first: StreamMarker, messages: AsyncGenerator[StreamMarker | Sequence[Event]]
) -> AsyncIterator[bytes]:
    """Yield the frames of the stream of all jobs; it starts with `hello` at the position of `first`."""
    yield _RETRY
    yield _frame("hello", first.position, b"{}")
    async with aclosing(messages):
        async for message in messages:
            match message:
                case StreamMarker(MarkerKind.RESET):
                    yield _frame("reset", message.position, b"{}")
                case StreamMarker(MarkerKind.LAGGED):
                    yield _close_frame("slow")
                    return
                case StreamMarker():  # an id without data dispatches no event, but the client remembers it
                    yield b"%sid: %s\n\n" % (_KEEP_ALIVE[:2], message.position.encode())
                case _:
                    yield b"".join(map(_event_frame, message))
    yield _close_frame("shutdown")


async def retry_frames(reason: str) -> AsyncIterator[bytes]:
    """Yield the frames that make a client reconnect in 3 s."""
    yield _RETRY_LATER
    yield _close_frame(reason)


@lru_cache(maxsize=BUFFER_SIZE)
def _event_frame(event: Event) -> bytes:
    """Return the frame of an event, encoded once for all subscribers."""
    return _frame(event.kind, event.id, _event_data(event))


def _frame(event: str, position: str, data: bytes) -> bytes:
    """Return a frame. JSON that a client sent may contain line breaks, so each line becomes a `data` field."""
    lines = b"".join(b"data: %s\n" % line for line in data.splitlines())
    return b"event: %s\nid: %s\n%s\n" % (event.encode(), position.encode(), lines)


def _close_frame(reason: str) -> bytes:
    """Return the frame that announces the end of a stream; it has no id, so a reconnecting client misses nothing."""
    return b'event: bye\ndata: {"reason":"%s"}\n\n' % reason.encode()


def _event_data(event: Event) -> bytes:
    fields = {name: getattr(event, name) for name in ("job_id", "status", "revision", "queue", "slate_id")}
    if event.kind is EventKind.EXPIRED:
        del fields["revision"]
    times = {"at": format_timestamp(event.at), "created_at": format_timestamp(event.created)} if event.position else {}
    return msgspec.json.encode({**{name: value for name, value in fields.items() if value is not None}, **times})
