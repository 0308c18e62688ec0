"""Problem responses that the server writes itself, for requests that do not reach the application."""

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api.problems import MEDIA_TYPE, ProblemType, build_problem
from service.api.request_context import CORRELATION_HEADER
from service.server.security_headers import SECURITY_HEADERS


def encode_rejection(kind: ProblemType, detail: str, correlation: str, *, has_body: bool) -> bytes:
    """Return the bytes of a problem response that closes its connection; without a body for HEAD."""
    body = msgspec.json.encode(build_problem(kind, detail, correlation))
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        CORRELATION_HEADER.lower(): correlation,
        **dict(SECURITY_HEADERS),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[kind.status] + lines.encode() + b"\r\n" + (body if has_body else b"")
