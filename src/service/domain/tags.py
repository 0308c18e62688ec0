"""Tags: short hashes by which jobs are found that share a slate id or a correlation id."""

from base64 import urlsafe_b64encode
from hashlib import sha1
from typing import Final

#: Bytes of a hash, as 8 characters: each job stores its tags twice. A search by tag compares the ids, too.
_BYTES: Final = 6


def slate_tag(slate_id: str) -> str:
    """Return the tag of the jobs with this slate id."""
    return _tag("s", slate_id)


def correlation_tag(correlation_id: str) -> str:
    """Return the tag of the jobs with this correlation id."""
    return _tag("c", correlation_id)


def _tag(kind: str, value: str) -> str:
    return kind + urlsafe_b64encode(sha1(value.encode(), usedforsecurity=False).digest()[:_BYTES]).decode()
