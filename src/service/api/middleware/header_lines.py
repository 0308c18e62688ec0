"""Header fields that a request repeats, and its `Host` (RFC 9110, section 5.3; RFC 9112, section 3.2).

Code behind this middleware sees each header that the service reads in one line.
"""

import re
from functools import lru_cache
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.middleware.rejections import send_error
from service.domain.errors import InvalidValue

Lines = list[tuple[bytes, bytes]]

#: Headers that are lists: several lines are one list.
LISTS: Final = frozenset(
    b"accept accept-encoding access-control-request-headers content-encoding if-match if-none-match prefer "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)
#: Headers with one value. `traceparent` is not one of them: W3C Trace Context has invalid ones ignored.
SINGLE: Final = frozenset(
    b"access-control-request-method authorization content-length content-type host idempotency-key last-event-id "
    b"lease-token origin transfer-encoding x-correlation-id".split()
)
#: `uri-host [":" port]` (RFC 3986, section 3.2.2). An IP literal is checked for its characters only.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
#: The HTTP versions in which `Host` is optional.
_HOST_OPTIONAL: Final = ("0.9", "1.0")
_ALLOWED_HOST: Final = "one line with a host name or an address, and a port if needed"


def join_header_lines(app: ASGIApp) -> ASGIApp:
    """Return `app` such that it gets the lines of each header joined; an invalid header is answered with a problem."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            try:
                scope["headers"] = _checked(scope)
            except InvalidValue as error:
                await send_error(scope, send, error)
                return
        await app(scope, receive, send)

    return handle


def get_header(scope: HTTPScope, name: bytes) -> str | None:
    """Return the value of a header without surrounding whitespace; `None` if the request has none."""
    for header, value in scope["headers"]:
        if header == name:
            return str(value.decode("latin-1").strip())
    return None


def join_lines(lines: Lines) -> Lines:
    """Return headers with one line for each name that the service reads.

    Raises `InvalidValue` if a header that is not a list has different values, and for a second `Host`.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value)
    others = [line for line in lines if line[0] not in LISTS and line[0] not in SINGLE]
    return others + [(name, _join(name, sent)) for name, sent in values.items() if name in LISTS or name in SINGLE]


def _checked(scope: HTTPScope) -> Lines:
    lines = list(scope["headers"])
    values = dict(lines)
    host = values.get(b"host")
    if host is None:
        if scope["http_version"] not in _HOST_OPTIONAL:
            raise InvalidValue("Host", "missing", _ALLOWED_HOST)
    elif not _is_valid_host(host):
        raise InvalidValue("Host", "it is not valid", _ALLOWED_HOST)
    coding = values.get(b"transfer-encoding", b"chunked").lower()
    if coding != b"chunked":
        raise InvalidValue("Transfer-Encoding", f"the coding {coding.decode('latin-1')!r} is not supported", "chunked")
    return lines if len(values) == len(lines) else join_lines(lines)


@lru_cache(256)
def _is_valid_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _join(name: bytes, values: list[bytes]) -> bytes:
    if name in LISTS:
        return b", ".join(value for value in values if value)
    if name == b"host" and len(values) > 1:
        raise InvalidValue("Host", f"it is sent {len(values)} times", _ALLOWED_HOST)
    if len(set(values)) > 1:
        detail = f"it is sent {len(values)} times with different values"
        raise InvalidValue(_display_name(name), detail, "one line, or the same value in each line")
    return values[0]


def _display_name(name: bytes) -> str:
    """Return the name of a header in its usual spelling, such as `X-Correlation-ID`."""
    return name.decode("ascii").title().replace("Correlation-Id", "Correlation-ID").replace("Event-Id", "Event-ID")
