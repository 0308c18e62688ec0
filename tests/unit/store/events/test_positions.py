"""Positions in the streams of all partitions, and their texts, which clients send back as event ids."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.events.positions import START, EntryId, Position, moved, parse_position

ENTRIES = st.tuples(st.integers(0, 2**63), st.integers(0, 2**64 - 1)) | st.tuples(st.just(0), st.integers(0, 1))
COUNTS = st.sampled_from([2, 4, 8])
#: A time (ms) of today.
NOW = 1_795_000_000_000


@st.composite
def positions(draw: st.DrawFn) -> Position:
    count = draw(COUNTS)
    return Position(tuple(draw(st.lists(ENTRIES, min_size=count, max_size=count))))


@given(positions())
def test_a_text_is_read_as_the_position_that_it_is_of(position: Position) -> None:
    read = parse_position(str(position), len(position.entries))
    assert read is not None
    assert read.entries == position.entries


@given(positions(), COUNTS)
def test_a_text_of_another_number_of_partitions_is_no_position(position: Position, count: int) -> None:
    found = parse_position(str(position), count)
    assert (found is not None) == (count == len(position.entries))


@given(st.one_of(st.text(), st.binary().map(lambda data: urlsafe_b64encode(data).decode())), COUNTS)
def test_any_other_text_is_no_position_or_the_only_text_of_one(text: str, count: int) -> None:
    found = parse_position(text, count)
    assert found is None or str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1-1",
        "now",
        "ä",
        "AQ",
        "AQ==",
        "A" * 60_000,
        "_" * 60_000,
        "AgAAAA",
        "AQAAAA==",
        "AQAAAAA",
        "AQAA",
        "AQVkAAAA",
    ],
    ids=lambda text: text[:10],
)
def test_a_malformed_text_is_no_position(text: str) -> None:
    assert parse_position(text, 2) is None
    assert parse_position("AQAAAA", 2) is not None


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-1\n", "1-1-1", " 1-1", "1" * 20 + "-1", "AQAAAA", "\u0661-\u0661"]
)
def test_with_one_partition_only_the_id_of_an_entry_is_a_position(text: str) -> None:
    assert parse_position(text, 1) is None
    assert str(parse_position("1795000000000-12", 1)) == "1795000000000-12"


def with_ages(*ages: int) -> Position:
    """A position whose partitions had their last events so many milliseconds ago."""
    return Position(tuple((NOW - age, number % 3) for number, age in enumerate(ages)))


@pytest.mark.parametrize(
    ("partitions", "longest_age", "longest_text"),
    [(16, 1000, 75), (16, 24 * 3_600_000, 115), (64, 24 * 3_600_000, 440)],
)
def test_an_event_id_is_short(partitions: int, longest_age: int, longest_text: int) -> None:
    ages = [longest_age * number // partitions for number in range(partitions)]
    assert len(str(with_ages(*ages))) <= longest_text


def test_an_event_id_has_no_character_that_a_header_or_an_event_stream_could_change() -> None:
    assert set(str(with_ages(*range(16)))) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_text_of_a_position_does_not_change() -> None:
    """Clients reconnect with it after an update of the service."""
    assert str(Position(((NOW, 0), START, (NOW - 5, 300), (NOW - 60_000, 1)))) == "AYC82fKeNAEAAAasAuHUAwE"


def test_a_position_covers_those_that_are_ahead_in_no_partition() -> None:
    position = with_ages(3, 2, 1, 0)
    for number, entry in enumerate(position.entries):
        behind: EntryId = (entry[0] - 1, 7)
        assert position.covers(moved(position, number, behind))
        assert not moved(position, number, behind).covers(position)
    assert position.covers(position)
