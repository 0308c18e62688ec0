"""Watching over HTTP: the events of one job, and of all, as `text/event-stream` (HTML Standard, section 9.2)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from service.api.middleware.concurrency import get_slot
from service.api.openapi import examples as examples
from service.api.openapi.operations import READ_ERRORS, SuccessResponse, operation_docs, problems
from service.api.params import JobIdInPath, QueueFilter, SlateFilter, StatusFilter
from service.api.problems import PROBLEM_TYPES
from service.domain import constraints, errors, validation
from service.domain.events import Event
from service.domain.jobs import Job, JobFilter
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.events.job_watcher import JobWatcher
from service.store.events.stream import BUFFER_SIZE, EventStream, MarkerKind, StreamMarker

EVENT_STREAM: Final = "text/event-stream"
#: A cache must not keep a stream, nor a proxy (nginx) hold it back.
_NO_STORE: Final = CacheControlHeader(no_store=True, no_transform=True)
_HEADERS: Final = {"X-Accel-Buffering": "no"}
#: After how many milliseconds a browser connects again.
_RETRY: Final = b"retry: 1000\n\n"
_RETRY_LATER: Final = b"retry: 3000\n\n"
_KEEP_ALIVE: Final = b":\n\n"
#: What may be over in a moment.
TRANSIENT_ERRORS: Final = (errors.StoreUnavailable, errors.Overloaded, errors.TooManyWatchers)

#: What a moment looks like.
MOMENT: Final = "a date and time with its offset, such as 2026-03-01T16:30:10Z (RFC 3339)"

JobEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID", description="The last event that the client has, which an `EventSource` sends"
    ),
]
Since = Annotated[
    str | None,
    QueryParameter(description=f"Begin with what has happened since: {MOMENT}", schema_extra={"format": "date-time"}),
]
HistoryEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="The last event that the client has: the stream goes on after it",
    ),
]


class EventController(Controller):
    """What happens, as it happens."""

    path = "/v1"
    tags = ("events",)
    cache_control = _NO_STORE

    @get(
        "/jobs/{job_id:str}/events",
        operation_id="streamJobEvents",
        summary="Watch a job",
        media_type=EVENT_STREAM,
        **operation_docs(
            {
                200: SuccessResponse(
                    "Events until the job has ended.", examples={"running, then completed": examples.JOB_EVENTS}
                ),
                204: SuccessResponse("The client has seen the job's end."),
            },
            *READ_ERRORS,
            *problems(errors.JobNotFound, errors.TooManyWatchers),
        ),
    )
    async def watch_job(
        self,
        request: Request[Any, Any, Any],
        job_id: JobIdInPath,
        watching: NamedDependency[JobWatcher],
        last_event_id: JobEventId = None,
    ) -> Response[Any]:
        """Stream the record as it is, unless the client has it, and after each change; the last is its final state.

        An event `changed` has the record without `input_params` and `result`, and the ETag's value for its id; changes
        in between may be left out. `deleted` and `expired` end the stream too, and `bye` ends it for now: the process
        ends. An `EventSource` connects again by itself, and is told by 204 to stop at the end.
        """
        seat = get_slot(request.scope)
        try:
            seat.start_watching()
            watch = seat.enter_context(watching.watch(job_id))
            job = await watching.get_job(job_id)
        except TRANSIENT_ERRORS as error:
            return _retry_stream(error, last_event_id)
        if job is None:
            raise errors.JobNotFound(job_id)
        if job.is_final and last_event_id == job.version:
            return Response(None, status_code=204, media_type=EVENT_STREAM)
        return _stream(_job_frames(watching.follow(watch, job, last_event_id)))

    @get(
        "/events",
        operation_id="streamEvents",
        summary="Watch all jobs",
        media_type=EVENT_STREAM,
        **operation_docs(
            {200: SuccessResponse("Events without an end.", examples={"created, then claimed": examples.EVENTS})},
            *READ_ERRORS,
            *problems(errors.TooManyWatchers),
        ),
    )
    async def watch_jobs(
        self,
        request: Request[Any, Any, Any],
        timeline: NamedDependency[EventStream],
        status: StatusFilter = None,
        queue: QueueFilter = None,
        slate_id: SlateFilter = None,
        since: Since = None,
        last_event_id: HistoryEventId = None,
    ) -> Response[Any]:
        """Stream what happens to the jobs that match all filters: `changed`, `deleted`, `expired`, each once, in order.

        `hello` comes first; then, with `since`, what has happened from that moment on. With the last event's id the
        stream goes on after it; `reset` says that history has a hole there, so that what is known is to be read again:
        the service keeps about 100,000 events. `bye` ends a stream whose client reads too slowly, or whose process
        ends.
        """
        wanted = JobFilter(
            status=None if status is None else validation.parse_status(status), queue=queue, slate_id=slate_id
        )
        seat = get_slot(request.scope)
        try:
            seat.start_watching()
            seat.enter_context(timeline.subscribed())
            moment = None if since is None else parse_since(since)
            said = timeline.follow(last_event_id, wanted, moment=moment)
            hello: Any = await anext(said)
        except TRANSIENT_ERRORS as error:
            return _retry_stream(error, last_event_id)
        return _stream(_event_frames(hello, said))


def _retry_stream(error: errors.JobStateError, last_event_id: str | None) -> Response[Any]:
    """Have a client that was here before come back in a moment; raise `error` for one that was not.

    An `EventSource` that connects again takes any answer but 200 for the end.
    """
    if last_event_id is None:
        raise error

    async def frames() -> AsyncIterator[bytes]:
        yield _RETRY_LATER
        yield _close_frame(PROBLEM_TYPES[type(error)].name)

    return _stream(frames())


def parse_since(since: str) -> int:
    """Return a moment in µs since 1970. Raises `InvalidValue`."""
    try:
        return max(0, parse_timestamp(since))
    except (TypeError, ValueError) as error:  # without an offset it is no moment
        raise errors.InvalidValue("since", f"{constraints.truncated_repr(since)} is not allowed", MOMENT) from error


def _stream(frames: AsyncIterator[bytes]) -> Stream:
    return Stream(frames, media_type=EVENT_STREAM, headers=_HEADERS)


async def _job_frames(seen: AsyncGenerator[Job | Event | None]) -> AsyncIterator[bytes]:
    yield _RETRY
    has_ended = False
    async with aclosing(seen):
        async for one in seen:
            match one:
                case Job():
                    yield _frame("changed", one.version, msgspec.json.encode(one))
                    has_ended = one.is_final
                case Event():
                    yield _frame(one.kind, one.version, _details(one))
                    has_ended = True
                case _:
                    yield _KEEP_ALIVE
    if not has_ended:
        yield _close_frame("shutdown")


async def _event_frames(
    hello: StreamMarker, said: AsyncGenerator[StreamMarker | Sequence[Event]]
) -> AsyncIterator[bytes]:
    yield _RETRY
    yield _frame("hello", hello.position, b"{}")
    async with aclosing(said):
        async for one in said:
            match one:
                case StreamMarker(MarkerKind.RESET):
                    yield _frame("reset", one.position, b"{}")
                case StreamMarker(MarkerKind.LAGGED):
                    yield _close_frame("slow")
                    return
                case StreamMarker():  # an id alone is no event, and remembered all the same
                    yield b"%sid: %s\n\n" % (_KEEP_ALIVE[:2], one.position.encode())
                case _:
                    yield b"".join(map(_frame_of, one))
    yield _close_frame("shutdown")


@lru_cache(maxsize=BUFFER_SIZE)
def _frame_of(event: Event) -> bytes:
    """Return an event as all who follow are told it: encoded once."""
    return _frame(event.kind, event.position, _details(event))


def _frame(event: str, position: str, data: bytes) -> bytes:
    """Return an event as it goes out; what a client sent may have line breaks between its tokens."""
    lines = b"".join(b"data: %s\n" % line for line in data.splitlines())
    return b"event: %s\nid: %s\n%s\n" % (event.encode(), position.encode(), lines)


def _close_frame(reason: str) -> bytes:
    """Say why the stream ends although there is more to come; without an id, so that the client goes on from there."""
    return b'event: bye\ndata: {"reason":"%s"}\n\n' % reason.encode()


def _details(event: Event) -> bytes:
    found = {name: getattr(event, name) for name in ("job_id", "status", "revision", "queue", "slate_id")}
    times = {"at": format_timestamp(event.at), "created_at": format_timestamp(event.created)} if event.position else {}
    return msgspec.json.encode({**{name: value for name, value in found.items() if value is not None}, **times})
