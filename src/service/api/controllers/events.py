"""Events over HTTP: streams of the events of one job and of all jobs."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from litestar import Controller, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.response import Stream

from service.api.auth import requires
from service.api.middleware.concurrency import get_slot
from service.api.openapi import examples
from service.api.openapi.operations import READ_ERRORS, Success, operation_docs
from service.api.params import JobIdInPath, LabelFilter, QueueFilter, SlateFilter, StatusFilter, in_header, in_query
from service.api.problems import PROBLEM_TYPES
from service.api.sse import EVENT_STREAM, event_frames, job_frames, retry_frames
from service.domain import constraints, errors, validation
from service.domain.api_keys import Scope
from service.domain.jobs import JobFilter
from service.domain.timestamps import parse_timestamp
from service.services import HttpRequest, services_of

#: Caches must not store a stream, and proxies must not buffer it (`X-Accel-Buffering` is for nginx).
_NO_STORE: Final = CacheControlHeader(no_store=True, no_transform=True)
_HEADERS: Final = {"X-Accel-Buffering": "no"}
#: Errors that may be over when the client reconnects.
TRANSIENT_ERRORS: Final = (errors.StoreUnavailable, errors.Overloaded, errors.TooManyWatchers)

#: The format of `since`.
TIMESTAMP_FORMAT: Final = "a date and time with its offset, such as 2026-03-01T16:30:10Z (RFC 3339)"

JobEventId = Annotated[
    str | None,
    in_header("Last-Event-ID", "The id of the last event received; an `EventSource` sends it by itself"),
]
Since = Annotated[
    str | None, in_query(f"Start with the events since this time: {TIMESTAMP_FORMAT}", format="date-time")
]
HistoryEventId = Annotated[
    str | None, in_header("Last-Event-ID", "The id of the last event received; the stream continues after it")
]


class EventController(Controller):
    """Event streams."""

    path = "/v1"
    tags = ("events",)
    cache_control = _NO_STORE

    @get(
        "/jobs/{job_id:str}/events",
        operation_id="streamJobEvents",
        summary="Stream a job's events",
        **requires(Scope.READ),
        media_type=EVENT_STREAM,
        **operation_docs(
            {
                200: Success("Events until the job is finished.", {"running, then completed": examples.JOB_EVENTS}),
                204: Success("The client already has the job's final state."),
            },
            (*READ_ERRORS, errors.JobNotFound, errors.TooManyWatchers),
        ),
    )
    async def stream_job_events(
        self, request: HttpRequest, job_id: JobIdInPath, last_event_id: JobEventId = None
    ) -> Response[Any]:
        """Stream the job's record after each change, until the job is finished.

        The first `changed` event has the current record, unless `Last-Event-ID` shows that the client has it. A record
        comes without `input_params` and `result`. The event's id is the value of the record's ETag. The service may
        skip intermediate states. `deleted` and `expired` also end the stream. `bye` means that the service closes the
        stream early: reconnect. A client that reconnects after the final state gets 204, which stops an `EventSource`.
        """
        slot, job_watcher = get_slot(request.scope), services_of(request).job_watcher
        try:
            slot.start_watching()
            watch = slot.enter_context(job_watcher.watch(job_id))
            job = await job_watcher.get_job(job_id)
        except TRANSIENT_ERRORS as error:
            return _retry_stream(error, last_event_id)
        if job is None:
            raise errors.JobNotFound(job_id)
        if job.is_final and last_event_id == job.version:
            return Response(None, status_code=204, media_type=EVENT_STREAM)
        return _stream(job_frames(job_watcher.follow(watch, job, last_event_id)))

    @get(
        "/events",
        operation_id="streamEvents",
        summary="Stream the events of all jobs",
        **requires(Scope.READ),
        media_type=EVENT_STREAM,
        **operation_docs(
            {200: Success("Events without end.", {"created, then claimed": examples.EVENTS})},
            (*READ_ERRORS, errors.TooManyWatchers),
        ),
    )
    async def stream_events(
        self,
        request: HttpRequest,
        status: StatusFilter = None,
        queue: QueueFilter = None,
        slate_id: SlateFilter = None,
        since: Since = None,
        last_event_id: HistoryEventId = None,
        labels: LabelFilter = None,
    ) -> Response[Any]:
        """Stream the events of the jobs that match all filters: `changed`, `deleted` and `expired`.

        Each event comes once, and the events of a job in order. With one partition (`REDIS_PARTITIONS`) those of
        several jobs are in order, too. Ids are opaque and of any length. `hello` comes first, then with `since` the
        events from that time on. With `Last-Event-ID` the stream continues after that event. The service keeps about
        100,000 events of each partition. `reset` means that older events are lost: read the jobs again. `bye` means
        that the service closes the stream, because the client reads too slowly or the process stops: reconnect.
        """
        filters = JobFilter(
            status=None if status is None else validation.parse_status(status),
            queue=queue,
            slate_id=slate_id,
            labels=tuple(dict.fromkeys(labels or ())),
        )
        slot, event_stream = get_slot(request.scope), services_of(request).event_stream
        try:
            slot.start_watching()
            subscription = slot.enter_context(event_stream.subscribe())
            start = None if since is None else parse_since(since)
            messages = event_stream.follow(subscription, last_event_id, filters, since=start)
            first: Any = await anext(messages)
        except TRANSIENT_ERRORS as error:
            return _retry_stream(error, last_event_id)
        return _stream(event_frames(first, messages))


def parse_since(since: str) -> int:
    """Return a timestamp in µs since 1970. Raises `InvalidValue`."""
    try:
        return max(0, parse_timestamp(since))
    except (TypeError, ValueError) as error:  # TypeError: the offset is missing
        detail = f"{constraints.truncated_repr(since)} is not allowed"
        raise errors.InvalidValue("since", detail, TIMESTAMP_FORMAT) from error


def _retry_stream(error: errors.JobStateError, last_event_id: str | None) -> Response[Any]:
    """Return a stream that makes a reconnecting client retry. Raises `error` for a client without `Last-Event-ID`.

    An `EventSource` that reconnects gives up at any status other than 200.
    """
    if last_event_id is None:
        raise error
    return _stream(retry_frames(PROBLEM_TYPES[type(error)].name))


def _stream(frames: AsyncIterator[bytes]) -> Stream:
    return Stream(frames, media_type=EVENT_STREAM, headers=_HEADERS)
