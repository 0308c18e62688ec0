"""How a request is parsed on when it asks for an upgrade, which the service ignores (RFC 9110, section 7.8).

llhttp takes whatever follows such a head for another protocol, and httptools (0.9) has no setting against it. So the
parser stops behind the head, and a new one takes over: it reads the framing headers again, then the body.
"""

from typing import Final

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The headers that tell where a request ends (RFC 9112, section 6).
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def resume_after_head(protocol: HttpToolsProtocol) -> None:
    """Replace the parser of `protocol`, which has stopped behind a head, by one that expects the body of that request.

    Raises `HttpParserError` where the headers tell no end of the body.
    """
    version = protocol.parser.get_http_version().encode()
    framing = b"".join(b"%s: %s\r\n" % (name, value) for name, value in protocol.headers if name in _FRAMING)
    callbacks = _Callbacks(protocol)
    protocol.parser = HttpRequestParser(callbacks)
    protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    protocol.parser.feed_data(b"POST / HTTP/%s\r\n%s\r\n" % (version, framing))
    callbacks.is_head_known = False


class _Callbacks:
    """Passes on what a parser finds, except for the head that the protocol knows already."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self.is_head_known = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self.is_head_known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_head_known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_head_known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_head_known:
            self._protocol.on_headers_complete()
