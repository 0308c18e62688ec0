"""Conversion of times between microseconds since 1970 and ISO 8601, as the scripts write it into records."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

#: RFC 3339, section 5.6. A second 60 is a leap second. Python from 3.14 on would take an hour 24, too.
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-9]{2}:)([0-9]{2})(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_timestamp(micros: int) -> str:
    """Return microseconds since 1970 in ISO 8601: UTC with six decimals and a Z, which sorts by time as text."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(timestamp: str) -> int:
    """Return a time in ISO 8601 with an offset as microseconds since 1970."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)


def parse_rfc3339(text: str) -> int:
    """Return a time as microseconds since 1970, a leap second as the second before. Raises `ValueError` for others."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not a time of RFC 3339")
    date, minute, second, fraction, offset = match.groups("")
    return parse_timestamp(f"{date}T{minute}{'59' if second == '60' else second}{fraction[:7]}{offset.upper()}")
