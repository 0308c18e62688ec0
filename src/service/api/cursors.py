"""Cursors of lists: the end of a page, bound to the list's filters."""

import base64
import binascii
from hashlib import sha256
from typing import Final

import msgspec

from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter

_CHECKSUM_BYTES: Final = 6


def encode(before: int | None, filters: JobFilter) -> str | None:
    """Return an opaque cursor for the page of jobs created before `before` (µs since 1970); `None` for `None`."""
    if before is None:
        return None
    position = before.to_bytes(8)
    return base64.urlsafe_b64encode(position + _checksum(position, filters)).decode().rstrip("=")


def decode(cursor: str | None, filters: JobFilter) -> int | None:
    """Return `before` of the page. Raises `InvalidValue` for a cursor that is not from a list with these filters."""
    if cursor is None:
        return None
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    position, checksum = data[:8], data[8:]
    if len(position) < 8 or checksum != _checksum(position, filters):
        detail = "the cursor is invalid or belongs to other filters"
        raise InvalidValue("cursor", detail, "the `next_cursor` of a response with the same filters")
    return int.from_bytes(position)


def _checksum(position: bytes, filters: JobFilter) -> bytes:
    """Return a checksum of a position and the filters that are set, by name. It detects mistakes, not attacks."""
    in_order = msgspec.structs.replace(filters, labels=tuple(sorted(filters.labels)))
    return sha256(position + msgspec.json.encode(in_order, order="sorted")).digest()[:_CHECKSUM_BYTES]
