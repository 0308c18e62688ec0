"""Tags: short hashes by which jobs are found that share a slate id, a correlation id or a label."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha1
from typing import Final

#: Bytes of a hash, as 8 characters: each job stores its tags twice. A search by tag compares the values, too.
_BYTES: Final = 6


def slate_tag(slate_id: str) -> str:
    """Return the tag of the jobs with this slate id."""
    return _tag("s", slate_id)


def correlation_tag(correlation_id: str) -> str:
    """Return the tag of the jobs with this correlation id."""
    return _tag("c", correlation_id)


def label_tag(label: str) -> str:
    """Return the tag of the jobs with this label, `key:value`. The scripts know it by its first letter."""
    return _tag("l", label)


def tags_of(slate_id: str | None, correlation_id: str | None, labels: Mapping[str, str] | None) -> Iterator[str]:
    """Yield the tags of a job, in the order in which its record has them."""
    if slate_id is not None:
        yield slate_tag(slate_id)
    if correlation_id is not None:
        yield correlation_tag(correlation_id)
    for key, value in sorted((labels or {}).items()):
        yield label_tag(f"{key}:{value}")


def _tag(kind: str, value: str) -> str:
    return kind + urlsafe_b64encode(sha1(value.encode(), usedforsecurity=False).digest()[:_BYTES]).decode()
