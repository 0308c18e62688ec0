"""How a record goes out: its JSON, its ETag, and when to ask again."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.conditions import etag
from service.api.document_operations import ETAG
from service.api.document_operations import RETRY_AFTER as RETRY_HEADER
from service.api.problems import RETRY_AFTER
from service.api.requests import JSON
from service.domain.jobs import Job

#: The headers that go with every record, for the API document.
HEADERS: Final = (ETAG, RETRY_HEADER)
#: A record is not left lying about (`app.UNKEPT`).
UNKEPT: Final = ((b"cache-control", b"no-store"),)
_json: Final = msgspec.json.Encoder()


class Record(Response[Job]):
    """An answer with a record: made, encoded and sent past what Litestar (2.25) looks up for answers of any kind."""

    def __init__(self, job: Job, headers: dict[str, str], status_code: int | None = None) -> None:
        """Answer with `job` and these headers, and the status of the operation unless another is given."""
        self.content, self.headers, self.status_code = job, headers, status_code

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> ASGIApp:  # type: ignore[override]
        """Return what sends it."""
        return partial(self._send, self.status_code or status_code or 200)

    async def _send(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        await send_record(send, self.content, status, self.headers)


async def send_record(send: Send, job: Job, status: int, headers: Mapping[str, str]) -> None:
    """Send a record with these headers and those that every one has."""
    body = _json.encode(job)
    own = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body)), *UNKEPT, *own]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def headers_of(job: Job) -> dict[str, str]:
    """Return the headers that go with a record."""
    return {"ETag": etag(job)} if job.is_final else {"ETag": etag(job), "Retry-After": str(RETRY_AFTER)}


def answer(job: Job, status: int = 200) -> Response[Job]:
    """Answer with a record, its ETag, and when to ask again."""
    return Record(job, headers=headers_of(job), status_code=status)
