"""Parsing of requests that ask for an upgrade, which the service ignores (RFC 9110, section 7.8).

llhttp treats the bytes after such a head as another protocol, and httptools 0.9 has no setting to change this. The
parser stops after the head. A new parser then reads the framing headers again, and the body.
"""

from collections.abc import Callable
from typing import Any, Final

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The headers that determine the length of a body (RFC 9112, section 6).
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def resume_after_head(protocol: HttpToolsProtocol) -> None:
    """Replace the parser of `protocol`, which has stopped after a head, by one that reads the request's body next.

    Raises `HttpParserError` if the headers do not determine the body's length.
    """
    version = protocol.parser.get_http_version().encode()
    framing = b"".join(b"%s: %s\r\n" % (name, value) for name, value in protocol.headers if name in _FRAMING)
    callbacks = _Callbacks(protocol)
    protocol.parser = HttpRequestParser(callbacks)
    protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    protocol.parser.feed_data(b"POST / HTTP/%s\r\n%s\r\n" % (version, framing))
    callbacks.skips_head = False


class _Callbacks:
    """Forwards a parser's callbacks to the protocol, except those of the head, which the protocol has already read."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self.skips_head = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def __getattr__(self, name: str) -> Callable[..., None]:
        callback = getattr(self._protocol, name)

        def forward(*args: Any) -> None:
            if not self.skips_head:
                callback(*args)

        return forward
