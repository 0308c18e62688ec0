"""Entity tags, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from typing import Final

from service.domain.errors import InvalidValue
from service.domain.jobs import Job

_TAG: Final = re.compile(r'(?P<weak>W/)?"(?P<version>[\x21\x23-\x7e]*)"')
#: The pattern of a list of tags in the API document.
ETAG_LIST_PATTERN: Final = r'^(?:\*|(?:W/)?"[\x21\x23-\x7e]*"(?: *, *(?:W/)?"[\x21\x23-\x7e]*")*)$'
#: A list of tags as it is parsed, which may have empty elements (RFC 9110, section 5.6.1.2).
_TAGS: Final = re.compile(r'(?:[\s,]|(?:W/)?"[\x21\x23-\x7e]*"(?=\s*(?:,|$)))*')


def etag(job: Job) -> str:
    """Return the strong entity tag of a job."""
    return f'"{job.version}"'


def etag_matches(job: Job, if_none_match: str | None) -> bool:
    """Return whether `If-None-Match` lists the tag of a job. Raises `InvalidValue` for an invalid header."""
    if if_none_match is None:
        return False
    tags = _tags("If-None-Match", if_none_match)
    return tags is None or any(tag["version"] == job.version for tag in tags)


def parse_if_match(if_match: str | None) -> tuple[str, ...]:
    """Return the versions of which the job must have one; empty allows any. Raises `InvalidValue`.

    Weak tags never match. An expired lease adds `-stale` to the tag but does not change the record, so it is ignored.
    """
    tags = None if if_match is None else _tags("If-Match", if_match)
    if tags is None:
        return ()
    return tuple("weak" if tag["weak"] else tag["version"].removesuffix("-stale") for tag in tags)


def _tags(header: str, value: str) -> list[re.Match[str]] | None:
    """Return the tags that a header lists; `None` for `*`."""
    if value.strip() == "*":
        return None
    tags = list(_TAG.finditer(value))
    if not tags or not _TAGS.fullmatch(value):
        raise InvalidValue(
            header, f"{value!r} is not a list of entity tags", "`ETag` values as received, with their quotes, or `*`"
        )
    return tags
