"""The cursor of a list: where a page ends, and for which filters."""

import base64
import binascii
from hashlib import sha256
from typing import Final

import msgspec

from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter

_CHECKSUM_BYTES: Final = 6


def encode(before: int | None, wanted: JobFilter) -> str | None:
    """Return an opaque cursor for the page that starts before `before` (µs), `None` where there is none."""
    if before is None:
        return None
    position = before.to_bytes(8)
    return base64.urlsafe_b64encode(position + _checksum(position, wanted)).decode().rstrip("=")


def decode(cursor: str | None, wanted: JobFilter) -> int | None:
    """Return where the page starts. Raises `InvalidValue` for a cursor that no list with these filters gave out."""
    if cursor is None:
        return None
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    position, seal = data[:8], data[8:]
    if len(position) < 8 or seal != _checksum(position, wanted):
        raise InvalidValue("cursor", "no list with these filters gave it out", "next_cursor of a page, same filters")
    return int.from_bytes(position)


def _checksum(position: bytes, wanted: JobFilter) -> bytes:
    """Tie a position to its filters; it keeps mistakes out, not attackers."""
    return sha256(position + msgspec.json.encode(wanted)).digest()[:_CHECKSUM_BYTES]
