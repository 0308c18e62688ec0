"""The last events of a job whose record no longer exists, and their frames."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from service.api.openapi.examples import RUNNING
from service.api.sse import event_frames, job_frames
from service.domain.events import Event, EventKind
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store.events.job_watcher import JobSubscription
from service.store.events.stream import MarkerKind, StreamMarker

CREATED = parse_timestamp(RUNNING.created_at)
EXPIRES = parse_timestamp(RUNNING.expires_at) / 1e6
COMPLETED = Event(
    position="7-0",
    kind=EventKind.CHANGED,
    job_id=RUNNING.job_id,
    status=Status.COMPLETED,
    revision=RUNNING.revision + 1,
    queue=RUNNING.queue,
    created=CREATED,
)
DELETED = replace(COMPLETED, position="8-0", kind=EventKind.DELETED, revision=RUNNING.revision + 2)
EXPIRED = replace(COMPLETED, position="8-0", kind=EventKind.EXPIRED, revision=None)
#: An event of the next job with the id.
OF_ANOTHER_JOB = replace(EXPIRED, created=CREATED + 1)


async def _frames(events: list[Event]) -> list[dict[str, Any]]:
    """Return the events of a job's stream that ends with `events`: name, id and data."""

    async def changes() -> AsyncGenerator[Event]:
        for event in events:
            yield event

    text = b"".join([frame async for frame in job_frames(changes())]).decode()
    frames = [frame.splitlines() for frame in text.split("\n\n") if "id: " in frame]
    fields = [dict(line.split(": ", 1) for line in lines) for lines in frames]
    return [{**named, "data": json.loads(named["data"])} for named in fields]


@pytest.mark.parametrize(
    ("received", "now", "expected"),
    [
        ([EXPIRED], 0, [("expired", 4, None)]),
        ([COMPLETED, EXPIRED], 0, [("changed", 5, 5), ("expired", 5, None)]),
        ([], EXPIRES, [("expired", 4, None)]),
        ([OF_ANOTHER_JOB], EXPIRES, [("expired", 4, None)]),
        ([DELETED], 0, [("deleted", 6, 6)]),
        ([COMPLETED, DELETED], 0, [("changed", 5, 5), ("deleted", 6, 6)]),
        ([], 0, [("deleted", 5, 5)]),
        ([COMPLETED], 0, [("changed", 5, 5), ("deleted", 6, 6)]),
    ],
)
async def test_the_end_of_a_job_has_a_revision_unless_it_expired_then_it_has_the_id_of_the_last_version(
    received: list[Event], now: float, expected: list[tuple[str, int, int | None]]
) -> None:
    subscription = JobSubscription(RUNNING.job_id)
    for event in received:
        subscription.on_event(event)

    frames = await _frames(subscription.terminal_events(RUNNING, now))

    assert [(frame["event"], frame["id"], frame["data"].get("revision")) for frame in frames] == [
        (name, f"{CREATED}-{revision_of_id}", revision) for name, revision_of_id, revision in expected
    ]
    is_known = any(event.created == CREATED for event in received)
    assert {frame["data"]["status"] for frame in frames} == {"completed" if is_known else "running"}


async def test_an_expired_event_in_the_stream_of_all_jobs_has_no_revision() -> None:
    async def messages() -> AsyncGenerator[StreamMarker | list[Event]]:
        yield [EXPIRED]

    start = StreamMarker(MarkerKind.STARTED, "7-0")
    text = b"".join([frame async for frame in event_frames(start, messages())]).decode()
    [data] = [line.removeprefix("data: ") for line in text.splitlines() if "job_id" in line]
    assert "event: expired\nid: 8-0\n" in text
    assert json.loads(data).keys() == {"job_id", "status", "queue", "at", "created_at"}
