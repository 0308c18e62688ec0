"""Tags: short hashes by which jobs are found that share a slate id or a correlation id."""

from hashlib import sha1
from typing import Final

#: Hexadecimal characters of a hash: 48 bits. A search by tag compares the ids, too.
_LENGTH: Final = 12


def slate_tag(slate_id: str) -> str:
    """Return the tag of the jobs with this slate id."""
    return _tag("s", slate_id)


def correlation_tag(correlation_id: str) -> str:
    """Return the tag of the jobs with this correlation id."""
    return _tag("c", correlation_id)


def _tag(kind: str, value: str) -> str:
    return kind + sha1(value.encode(), usedforsecurity=False).hexdigest()[:_LENGTH]
