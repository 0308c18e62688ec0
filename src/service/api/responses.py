"""Responses with jobs: JSON, `ETag` and `Retry-After`."""

from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from service.api.etags import etag
from service.api.problems import RETRY_AFTER
from service.api.request_checks import JSON
from service.domain.jobs import Job

S = TypeVar("S", bound=Struct)

#: The headers of a response with a job, for the API document.
HEADERS: Final = ("ETag", "Retry-After")
#: Job data must not be cached, as in `app.NO_STORE`.
NO_STORE: Final = ((b"cache-control", b"no-store"),)
_JSON_CONTENT_TYPE: Final = (b"content-type", JSON.encode())
_json: Final = msgspec.json.Encoder()


class StructResponse(Response[S]):
    """A response with a struct; it skips the generic and slower encoding of Litestar (2.25)."""

    def __init__(self, content: S, headers: dict[str, str] | None = None, status_code: int | None = None) -> None:
        """Set the content; the default status is that of the operation."""
        self.content, self.headers, self.status_code = content, headers or {}, status_code

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> ASGIApp:  # type: ignore[override]
        """Return the ASGI application that sends the response."""
        return partial(self._send, self.status_code or status_code or 200)

    async def _send(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        body = _json.encode(self.content)
        own = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        raw = [_JSON_CONTENT_TYPE, (b"content-length", b"%d" % len(body)), *NO_STORE, *own]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def job_headers(job: Job) -> dict[str, str]:
    """Return `ETag` and, until the job is finished, `Retry-After`."""
    return {"ETag": etag(job)} if job.is_final else {"ETag": etag(job), "Retry-After": str(RETRY_AFTER)}


def job_response(job: Job, status: int = 200) -> Response[Job]:
    """Return the response with a job and its headers."""
    return StructResponse(job, headers=job_headers(job), status_code=status)
