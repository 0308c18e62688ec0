import string

import pytest
from msgspec.structs import replace

from service.api import cursors
from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter
from service.domain.states import Status

FILTERS = [
    JobFilter(),
    JobFilter(status=Status.PENDING),
    JobFilter(status=Status.RUNNING),
    JobFilter(queue="a"),
    JobFilter(slate_id="a"),
    JobFilter(correlation_id="a"),
    JobFilter(queue="a", slate_id="b"),
    JobFilter(queue="b", slate_id="a"),
    JobFilter(slate_id='a","correlation_id":"b'),
    JobFilter(status=Status.PENDING, queue="a", slate_id="é 🏁", correlation_id="null"),
]
POSITION = 1_764_000_000_123_456


def cursor_for(filters: JobFilter) -> str:
    cursor = cursors.encode(POSITION, filters)
    assert cursor is not None
    return cursor


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("position", [1, 255, 256, POSITION, 2**53 + 1])
def test_a_cursor_decodes_to_its_position(position: int, filters: JobFilter) -> None:
    cursor = cursors.encode(position, filters)
    assert cursor is not None
    assert set(cursor) <= {*string.ascii_letters, *string.digits, "-", "_"}
    assert cursors.decode(cursor, filters) == position


def test_the_last_page_has_no_cursor_and_the_first_needs_none() -> None:
    assert cursors.encode(None, JobFilter()) is None
    assert cursors.decode(None, JobFilter()) is None


@pytest.mark.parametrize("encoded_filters", FILTERS)
def test_a_cursor_of_other_filters_is_rejected(encoded_filters: JobFilter) -> None:
    cursor = cursor_for(encoded_filters)
    for filters in FILTERS:
        if filters != encoded_filters:
            with pytest.raises(InvalidValue) as raised:
                cursors.decode(cursor, filters)
            assert raised.value.field == "cursor"
            assert raised.value.allowed == "the `next_cursor` of a response with the same filters"


class LaterFilter(JobFilter, frozen=True, kw_only=True, omit_defaults=True):
    """The filters of a later release, with one that stands before the others in alphabetical order."""

    added: str | None = None


@pytest.mark.parametrize("filters", FILTERS)
def test_a_filter_that_is_added_later_does_not_invalidate_cursors(filters: JobFilter) -> None:
    later = LaterFilter(**{name: getattr(filters, name) for name in filters.__struct_fields__})
    assert cursors.encode(POSITION, later) == cursor_for(filters)
    assert cursors.encode(POSITION, replace(later, added="a")) != cursor_for(filters)


@pytest.mark.parametrize(
    ("filters", "cursor"), [(FILTERS[0], "AAZEWUFkIkBNqOZuTxg"), (FILTERS[-1], "AAZEWUFkIkC1lKjDXu0")]
)
def test_a_cursor_does_not_change_from_release_to_release(filters: JobFilter, cursor: str) -> None:
    # These cursors are data: a list goes on during an upgrade, on another replica.
    assert cursors.encode(POSITION, filters) == cursor


def decode_or_none(cursor: str) -> int | None:
    """Return the position, or `None` if the cursor is rejected."""
    try:
        return cursors.decode(cursor, FILTERS[-1])
    except InvalidValue:
        return None


def test_one_wrong_character_never_decodes_to_another_position() -> None:
    cursor = cursor_for(FILTERS[-1])
    for place in range(len(cursor)):
        for character in f"{string.printable}é\x00\ud800":
            assert decode_or_none(cursor[:place] + character + cursor[place + 1 :]) in {None, POSITION}
    assert decode_or_none("B" + cursor[1:]) is None


def test_a_lost_added_or_swapped_character_never_decodes_to_another_position() -> None:
    cursor = cursor_for(FILTERS[-1])
    for place in range(len(cursor)):
        assert decode_or_none(cursor[:place] + cursor[place + 1 :]) is None
        for added in "A_-! =\n":
            assert decode_or_none(cursor[:place] + added + cursor[place:]) is None
        swapped = cursor[:place] + cursor[place + 1 : place + 2] + cursor[place] + cursor[place + 2 :]
        assert decode_or_none(swapped) in {None, POSITION}


@pytest.mark.parametrize(
    "garbage", ["", "=", "====", "a", "AAAA", "A" * 18, "A" * 20, "A" * 100_000, "é", "\ud800", "\x00", "null", "../.."]
)
def test_garbage_is_rejected(garbage: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`cursor`: "):
        cursors.decode(garbage, JobFilter())


@pytest.mark.parametrize("added", ["!!!!", "\n\n\n\n", "AAAAA", "A" * 21])
def test_a_cursor_with_a_suffix_is_rejected(added: str) -> None:
    cursor = cursor_for(FILTERS[-1])
    assert decode_or_none(cursor) == POSITION
    assert decode_or_none(cursor + added) is None


def test_a_forged_cursor_is_rejected() -> None:
    halves = cursor_for(JobFilter(queue="a")), cursors.encode(POSITION + 2**32, JobFilter(queue="a"))
    assert halves[1] is not None
    with pytest.raises(InvalidValue):
        cursors.decode(halves[1][:10] + halves[0][10:], JobFilter(queue="a"))
