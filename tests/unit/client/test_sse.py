from typing import Any

import pytest

from jobstate import RetryPolicy, errors
from jobstate._flow import Emit, Flow
from jobstate._requests import all_events
from jobstate._responses import Response
from jobstate._retry import Retry
from jobstate._sse import Decoder, Event, EventStream
from tests.helpers.flow_driver import LOST, FlowDriver, Outcome, frames, headers_of, problem_response, stream_response

TEXT = (
    b": comment\nretry: 1500\n\n"
    b'event: changed\nid: 1-2\ndata: {"a":\ndata:  1}\n\n'
    b"id: 1-3\n\ndata: x\r\n\r\nevent: cut\ndata: y\n"
)
EVENTS = [Event("changed", b'{"a":\n 1}', "1-2"), Event("message", b"x", "1-3")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_events_are_decoded_whatever_the_chunks_are(size: int) -> None:
    decoder = Decoder()
    events = [event for at in range(0, len(TEXT), size) for event in decoder.feed(TEXT[at : at + size])]
    assert events == EVENTS
    assert (decoder.retry, decoder.last_id) == (1.5, "1-3")


def consume(stream: EventStream, count: int) -> Flow[None]:
    for _ in range(count):
        yield Emit((yield from stream.next()))


def play(count: int, *outcomes: Outcome) -> FlowDriver:
    driver = FlowDriver(*outcomes)
    retry = Retry(RetryPolicy(), driver.deadline(None), persistent=True, jitter=lambda low, high: low)
    driver.run(consume(EventStream(all_events, retry), count))
    return driver


def names(driver: FlowDriver) -> list[Any]:
    return [event and event.name for event in driver.emitted]


def test_a_cut_stream_continues_after_its_last_event() -> None:
    driver = play(
        2,
        stream_response(),
        frames(("hello", {}, "5-0")),
        LOST,
        stream_response(),
        frames(("changed", {}, "6-0")),
    )
    assert names(driver) == ["hello", "changed"]
    assert headers_of(driver.requests, "Last-Event-ID") == ["", "5-0"]


def test_a_connection_without_an_event_keeps_the_position_and_the_pause() -> None:
    hello = b"retry: 3000\n\n" + frames(("hello", {}, "5-0"))
    driver = play(
        2, stream_response(), hello, LOST, stream_response(), LOST, stream_response(), frames(("changed", {}, "6-0"))
    )
    assert headers_of(driver.requests, "Last-Event-ID") == ["", "5-0", "5-0"]
    assert driver.sleeps == [3.0, 3.0]


def test_half_an_event_is_not_continued_by_the_next_connection() -> None:
    whole = frames(("changed", {"n": 1}, "6-0"))
    driver = play(1, stream_response(), whole[:-1], b"", stream_response(), whole)
    assert driver.emitted == [Event("changed", b'{"n":1}', "6-0")]
    assert headers_of(driver.requests, "Last-Event-ID") == ["", ""]


def test_an_id_without_data_moves_the_position() -> None:
    driver = play(1, stream_response(), b":\nid: 9-0\n\n", b"", stream_response(), frames(("changed", {}, "9-1")))
    assert headers_of(driver.requests, "Last-Event-ID") == ["", "9-0"]


def test_bye_hands_out_the_events_before_it_and_then_waits() -> None:
    chunk = b"retry: 3000\n\n" + frames(("hello", {}, "5-0"), ("bye", {"reason": "shutdown"}, ""))
    driver = play(2, stream_response(), chunk, stream_response(), frames(("changed", {}, "6-0")))
    assert names(driver) == ["hello", "changed"]
    assert driver.sleeps == [3.0]


def test_reset_is_an_event() -> None:
    assert names(play(2, stream_response(), frames(("hello", {}, "1-0"), ("reset", {}, "2-0")))) == ["hello", "reset"]


OUTAGES: list[Outcome] = [
    LOST,
    problem_response(503, "store-unreachable", retry_after=2),
    problem_response(429, "too-many-watchers", retry_after=2),
    Response(404, {"content-type": "text/html"}),
    Response(200, {"content-type": "text/html"}),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
def test_a_stream_is_opened_again_after_an_outage(outage: Outcome) -> None:
    driver = play(1, outage, outage, stream_response(), frames(("hello", {}, "1-0")))
    assert names(driver) == ["hello"]
    assert len(driver.sleeps) == 2


def test_a_stream_that_ends_for_good_has_no_next_event() -> None:
    assert play(1, Response(204, {})).emitted == [None]


def test_a_stream_that_the_service_rejects_is_not_opened_again() -> None:
    with pytest.raises(errors.JobNotFound):
        play(1, problem_response(404, "job-not-found"))
