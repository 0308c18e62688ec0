"""The fault suite reads event ids of several partitions, and finds what is wrong in the stream of one of them."""

from base64 import urlsafe_b64encode

import pytest

from tests.chaos.context import CheckContext
from tests.chaos.history import Entry, Event, History, StreamMessage, Version, parse_event_id
from tests.chaos.reads import streams_are_complete

NOW = 1_795_915_552_304


def event_id(*entries: Entry) -> str:
    newest = max(millis for millis, _ in entries)
    numbers = [newest]
    for millis, number in entries:
        numbers += [newest - millis + 1, number] if millis else [0]
    data = bytearray([1])
    for number in numbers:
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        data.append(number)
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("entries", [[(NOW, 0), (0, 0)], [(NOW, 300), (NOW - 70_000, 2)], [(0, 0), (NOW, 1)]])
def test_an_event_id_has_a_position_in_each_partition(entries: list[Entry]) -> None:
    assert parse_event_id(event_id(*entries), 2) == entries


def test_with_one_partition_it_is_that_of_the_entry() -> None:
    assert parse_event_id(f"{NOW}-7", 1) == [(NOW, 7)]


FIRST, SECOND = (NOW + 1, 0), (NOW + 2, 0)


def violations(*ids: str) -> list[str]:
    """Return what is wrong in a stream with these ids, if each partition had one event."""
    history = History(partitions=2)
    history.events = [
        Event(f"{millis}-{number}", "changed", Version(f"j{partition}", 1, 1), "pending", "q", partition)
        for partition, (millis, number) in enumerate((FIRST, SECOND))
    ]
    history.stream_messages = [
        StreamMessage("hello", event_id((NOW, 0), (0, 0))),
        *(StreamMessage("changed", one) for one in ids),
    ]
    return [*streams_are_complete(CheckContext(history))]


def test_a_stream_with_the_events_of_all_partitions_is_complete() -> None:
    assert violations(event_id(FIRST, (0, 0)), event_id(FIRST, SECOND)) == []
    assert violations(event_id((NOW, 0), SECOND), event_id(FIRST, SECOND)) == []


def test_an_event_of_one_partition_that_is_missing_or_repeated_is_found() -> None:
    assert "left out 1 events" in "".join(violations(event_id(FIRST, (0, 0))))
    assert "left out 1 events" in "".join(violations(event_id((NOW, 0), SECOND)))
    whole = event_id(FIRST, SECOND)
    assert "repeats events" in "".join(violations(event_id(FIRST, (0, 0)), whole, whole))
    assert "goes back" in "".join(violations(event_id((NOW, 0), SECOND), event_id(FIRST, (0, 0)), whole))
    assert "do not exist" in "".join(violations(event_id((NOW, 5), (0, 0)), event_id(FIRST, (0, 0)), whole))
