"""Positions in the event streams of all partitions, and their texts: the event ids that clients get."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from service.domain.events import Event

#: The id of an entry of one stream: milliseconds since 1970, and a number within the millisecond.
EntryId = tuple[int, int]

#: The id before the first entry of a stream.
START: Final[EntryId] = (0, 0)
#: The first byte of a text for several partitions.
_VERSION: Final = 1
#: The text for one partition: the id of an entry, as Redis writes it.
_ENTRY_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)


class Position:
    """For each partition, by number, the last entry that was read of its event stream."""

    __slots__ = ("_text", "entries", "number")

    def __init__(self, entries: tuple[EntryId, ...], number: int | None = None) -> None:
        self.entries: Final = entries
        #: If it is a position in `RecentEvents`: the number of events up to it.
        self.number: Final = number
        self._text: str | None = None

    def __str__(self) -> str:
        """Return the event id of this position, which `parse_position` reads."""
        if self._text is None:
            is_only = len(self.entries) == 1
            self._text = format_entry_id(self.entries[0]) if is_only else _encode(self.entries)
        return self._text

    def covers(self, other: "Position") -> bool:
        """Return whether every event up to `other` is also up to this position."""
        return all(map(tuple.__ge__, self.entries, other.entries))


def moved(position: Position, partition: int, entry: EntryId) -> Position:
    """Return a position that is at another entry in one partition."""
    entries = [*position.entries]
    entries[partition] = entry
    return Position(tuple(entries))


def with_cursor(event: Event, position: Position) -> Event:
    """Return an event with the position after it. With one partition the event has it already."""
    return event if len(position.entries) == 1 else replace(event, cursor=position)


def parse_position(text: str, partitions: int) -> Position | None:
    """Return the position with this text, or `None` if it is none in so many partitions."""
    if partitions == 1:
        return Position((parse_entry_id(text),)) if _ENTRY_ID.fullmatch(text) else None
    try:
        entries = _decode(text, partitions)
    except (ValueError, StopIteration):
        return None
    return Position(entries) if _encode(entries) == text else None


def format_entry_id(entry: EntryId) -> str:
    """Return the text of the id of an entry, as Redis writes it."""
    return f"{entry[0]}-{entry[1]}"


def parse_entry_id(text: str) -> EntryId:
    """Return the id of an entry from its text."""
    millis, _, sequence = text.partition("-")
    return int(millis), int(sequence)


def _encode(entries: tuple[EntryId, ...]) -> str:
    """Return entries as text: their distances from the newest one (ms), and their numbers.

    It is base64url of the version and of variable-length integers: the newest milliseconds, then for each partition 0
    if it is at `START`, or else 1 + the distance, and the number.
    """
    newest = max(millis for millis, _ in entries)
    numbers = [newest]
    for entry in entries:
        numbers += (0,) if entry == START else (newest - entry[0] + 1, entry[1])
    data = bytearray((_VERSION,))
    for number in numbers:
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        data.append(number)
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str, partitions: int) -> tuple[EntryId, ...]:
    """Return entries that `_encode` may have encoded. Raises `ValueError` or `StopIteration` for other texts."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    numbers = _integers(data[1:])
    newest = next(numbers)
    entries = []
    for _ in range(partitions):
        if (distance := next(numbers)) > newest + 1:
            raise ValueError("before 1970")
        entries.append((newest - distance + 1, next(numbers)) if distance else START)
    return tuple(entries)


def _integers(data: bytes) -> Iterator[int]:
    """Yield the variable-length integers in `data`. Raises `ValueError` for one of more than 64 bits."""
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number >= 2**64:
            raise ValueError("more than 64 bits")
        if not byte & 0x80:
            yield number
            number = shift = 0
