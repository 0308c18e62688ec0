"""Header fields that a request sends in several lines, and its `Host` (RFC 9110, section 5.3; RFC 9112, section 3.2).

The application behind sees each header that the service reads once, so that no reader has to look for a second line.
"""

import re
from functools import lru_cache
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.problems import send_error
from service.domain.errors import InvalidValue

Lines = list[tuple[bytes, bytes]]

#: Headers that are lists: several lines are one list.
LISTS: Final = frozenset(
    (
        *(b"accept", b"accept-encoding", b"content-encoding", b"if-match", b"if-none-match", b"prefer"),
        *(b"access-control-request-headers", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
    )
)
#: Headers that have one value. `traceparent` is not among them: W3C Trace Context has a broken one ignored.
SINGLE: Final = frozenset(
    (
        *(
            b"authorization",
            b"content-length",
            b"content-type",
            b"host",
            b"idempotency-key",
            b"last-event-id",
            b"lease-token",
        ),
        *(b"origin", b"access-control-request-method", b"x-correlation-id"),
    )
)
#: `uri-host [":" port]` (RFC 3986, section 3.2.2); what is no address there is not looked at more closely.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
#: Versions of HTTP in which `Host` may be missing.
_WITHOUT_HOST: Final = ("0.9", "1.0")
_ALLOWED_HOST: Final = "one line with a host name or an address, and a port if needed"


class HeaderLines:
    """An ASGI application around another that gives it each header once, or refuses the request."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400 with the name of the header that is wrong."""
        if scope["type"] == ScopeType.HTTP:
            try:
                scope["headers"] = _checked(scope)
            except InvalidValue as error:
                await send_error(scope, send, error)
                return
        await self._app(scope, receive, send)


def _checked(scope: HTTPScope) -> Lines:
    """Return the headers with one line for each name that the service reads. Raises `InvalidValue`."""
    lines = list(scope["headers"])
    values = dict(lines)
    host = values.get(b"host")
    if host is None:
        if scope["http_version"] not in _WITHOUT_HOST:
            raise InvalidValue("Host", "it is missing", _ALLOWED_HOST)
    elif not _is_host(host):
        raise InvalidValue("Host", "it is not valid", _ALLOWED_HOST)
    return lines if len(values) == len(lines) else joined(lines)


@lru_cache(256)  # clients name few, and each the same every time
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def joined(lines: Lines) -> Lines:
    """Return headers with one line for each name that the service reads.

    Raises `InvalidValue` for different values of a header that is no list, and for a second `Host`.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value)
    others = [line for line in lines if line[0] not in LISTS and line[0] not in SINGLE]
    return others + [(name, _value(name, found)) for name, found in values.items() if name in LISTS or name in SINGLE]


def _value(name: bytes, found: list[bytes]) -> bytes:
    if name in LISTS:
        return b", ".join(value for value in found if value)
    if name == b"host" and len(found) > 1:
        raise InvalidValue("Host", f"it is sent {len(found)} times", _ALLOWED_HOST)
    if len(set(found)) > 1:
        detail = f"it is sent {len(found)} times with different values"
        raise InvalidValue(_shown(name), detail, "one line, or the same value in each")
    return found[0]


def _shown(name: bytes) -> str:
    """Return the name of a header as documents write it."""
    return name.decode("ascii").title().replace("Correlation-Id", "Correlation-ID").replace("Event-Id", "Event-ID")
