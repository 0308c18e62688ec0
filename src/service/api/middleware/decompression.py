"""Decompression of gzip request bodies (`Content-Encoding`)."""

import zlib
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.domain.errors import InvalidValue

GZIP: Final = "gzip"
#: The names of gzip (RFC 9110, section 8.4.1.3).
_GZIP_NAMES: Final = frozenset({GZIP, "x-gzip"})
#: The `wbits` that make zlib read gzip.
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
#: The maximum bytes of one message to the application.
_MAX_MESSAGE_BYTES: Final = 64 * 1024
#: The maximum members (RFC 1952) of one gzip body: each costs time, even one that unpacks to nothing.
_MAX_MEMBERS: Final = 100


def decompress_bodies(app: ASGIApp) -> ASGIApp:
    """Return `app` such that it receives request bodies decompressed; its body limit counts unpacked bytes."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and (codings := _codings(scope)):
            receive = _Body(scope, receive, codings).receive
        await app(scope, receive, send)

    return handle


class _Body:
    """The body of one request. Errors in it are raised to the handler that reads it."""

    def __init__(self, scope: Any, receive: Receive, codings: list[str]) -> None:
        self._scope = scope
        self._receive = receive
        self._codings = codings
        self._unpacker = zlib.decompressobj(_GZIP_WBITS)
        self._members = 1
        #: Bytes received and not yet unpacked.
        self._packed = b""
        self._packed_bytes = 0
        self._has_more = True

    async def receive(self) -> Any:
        """Return the next message with its body unpacked. Raises `HTTPException` (413, 415) and `InvalidValue`."""
        body, is_last = b"", False
        while not body and not is_last:
            if not self._packed:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._add(message)
            body = self._unpack()
            is_last = not self._packed and not self._has_more
        if is_last and self._packed_bytes and not self._unpacker.eof:
            raise _invalid("its gzip data is truncated")
        return {"type": "http.request", "body": body, "more_body": not is_last}

    def _add(self, message: Any) -> None:
        self._packed = message.get("body", b"")
        self._packed_bytes += len(self._packed)
        self._has_more = message.get("more_body", False)
        if self._packed and (len(self._codings) > 1 or self._codings[0] not in _GZIP_NAMES):
            raise _unsupported(self._codings)
        # The application counts unpacked bytes only, and an endless body may unpack to nothing.
        limit = self._scope["route_handler"].resolve_request_max_body_size()
        if limit is not None and self._packed_bytes > limit:
            raise RequestEntityTooLarge

    def _unpack(self) -> bytes:
        if not self._packed:
            return b""
        if self._unpacker.eof:
            self._start_member()
        try:
            body = self._unpacker.decompress(self._packed, _MAX_MESSAGE_BYTES)
        except zlib.error as error:
            raise _invalid("it is not valid gzip, which `Content-Encoding` announces") from error
        self._packed = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
        return body

    def _start_member(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _invalid(f"its gzip data has more than {_MAX_MEMBERS} members")
        self._unpacker = zlib.decompressobj(_GZIP_WBITS)


def _codings(scope: HTTPScope) -> list[str]:
    """Return the content codings of a body, in the order in which they were applied."""
    sent = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"content-encoding"]
    names = (name.strip() for value in sent for name in value.split(","))
    return [name for name in names if name not in ("", "identity")]


def _invalid(detail: str) -> InvalidValue:
    return InvalidValue("body", detail, "complete gzip data, or a body without `Content-Encoding`")


def _unsupported(codings: list[str]) -> HTTPException:
    sent = ", ".join(codings)
    detail = f"`Content-Encoding: {sent}` is not supported. Send the body uncompressed, or in `{GZIP}` once."
    return HTTPException(detail=detail, status_code=415, headers={"Accept-Encoding": GZIP})
