"""How a record goes out: its JSON, its ETag, and when to ask again."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from service.api.etags import etag
from service.api.openapi.operations import ETAG
from service.api.openapi.operations import RETRY_AFTER as RETRY_HEADER
from service.api.problems import RETRY_AFTER
from service.api.request_checks import JSON
from service.domain.jobs import Job

S = TypeVar("S", bound=Struct)

#: The headers that go with every record, for the API document.
HEADERS: Final = (ETAG, RETRY_HEADER)
#: A record is not left lying about (`app.UNKEPT`).
NO_STORE: Final = ((b"cache-control", b"no-store"),)
_JSON_CONTENT_TYPE: Final = (b"content-type", JSON.encode())
_json: Final = msgspec.json.Encoder()


class StructResponse(Response[S]):
    """An answer with a struct: made, encoded and sent past what Litestar (2.25) looks up for answers of any kind."""

    def __init__(self, content: S, headers: dict[str, str] | None = None, status_code: int | None = None) -> None:
        """Answer with `content` and these headers, and the status of the operation unless another is given."""
        self.content, self.headers, self.status_code = content, headers or {}, status_code

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> ASGIApp:  # type: ignore[override]
        """Return what sends it."""
        return partial(self._send, self.status_code or status_code or 200)

    async def _send(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        await send_struct(send, self.content, status, self.headers)


async def send_struct(send: Send, content: Struct, status: int, headers: Mapping[str, str]) -> None:
    """Send a struct with these headers and those that every one has."""
    body = _json.encode(content)
    own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw = [_JSON_CONTENT_TYPE, (b"content-length", b"%d" % len(body)), *NO_STORE, *own]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def job_headers(job: Job) -> dict[str, str]:
    """Return the headers that go with a record."""
    return {"ETag": etag(job)} if job.is_final else {"ETag": etag(job), "Retry-After": str(RETRY_AFTER)}


def job_response(job: Job, status: int = 200) -> Response[Job]:
    """Answer with a record, its ETag, and when to ask again."""
    return StructResponse(job, headers=job_headers(job), status_code=status)
