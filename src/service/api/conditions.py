"""Entity tags and the conditions that name them (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from typing import Final

from service.domain.errors import InvalidValue
from service.domain.jobs import Job

_TAG: Final = re.compile(r'(?:W/)?"(?P<version>[\x21\x23-\x7e]*)"')
_TAGS: Final = re.compile(
    rf"\s*{_TAG.pattern.replace('?P<version>', '')}\s*(,\s*{_TAG.pattern.replace('?P<version>', '')}\s*)*"
)


def etag(job: Job) -> str:
    """Return the strong entity tag of a record."""
    return f'"{job.version}"'


def matches(job: Job, if_none_match: str | None) -> bool:
    """Say whether the client has this very record already. Raises `InvalidValue` for a broken header."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or job.version in _versions("If-None-Match", if_none_match)


def required_versions(if_match: str | None) -> tuple[str, ...]:
    """Return the versions of which the record must have one, none for any. Raises `InvalidValue` for a broken header.

    A lease that has run out changes the tag but not the record, so `-stale` does not count here.
    """
    if if_match is None or if_match.strip() == "*":
        return ()
    return tuple(version.removesuffix("-stale") for version in _versions("If-Match", if_match))


def _versions(header: str, value: str) -> list[str]:
    if not _TAGS.fullmatch(value):
        raise InvalidValue(
            header, f"{value!r} is no list of entity tags", 'ETags as they came, in double quotes, or "*"'
        )
    return [match["version"] for match in _TAG.finditer(value)]
