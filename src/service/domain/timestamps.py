"""Conversion of times between microseconds since 1970 and ISO 8601, as the scripts write it into records."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_timestamp(micros: int) -> str:
    """Return microseconds since 1970 in ISO 8601: UTC with six decimals and a Z, which sorts by time as text."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(timestamp: str) -> int:
    """Return a time in ISO 8601 with an offset as microseconds since 1970."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
