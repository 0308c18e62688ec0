"""The question that is asked most, answered before the framework: how one job stands.

Only where nothing but the record can be the answer. Whatever has a condition, a wish or an error goes on to the
application, which stays the one place that knows routes, problems and the API document; what is answered here is what
it would answer (`tests/integration/api/test_fast_get.py`).
"""

from typing import Final

import structlog
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api import auth
from service.api.request_checks import JSON, accepts_media_type
from service.api.responses import job_headers, send_struct
from service.domain import constraints
from service.domain.jobs import Job

#: Where a job is read, for the log and the metrics.
ROUTE: Final = "/v1/jobs/{job_id}"
_PREFIX: Final = "/v1/jobs/"
#: Headers on which more than the record depends.
_SLOW_PATH_HEADERS: Final = frozenset({b"if-none-match", b"prefer", b"origin", b"content-length", b"transfer-encoding"})


class JobReadFastPath:
    """An ASGI application around another: it answers plain reads of a job, and passes on everything else."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """Stand before `app`, whose manager is on `state`."""
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        job = await self._job(scope) if scope["type"] == ScopeType.HTTP else None
        if job is None:
            await self._app(scope, receive, send)
            return
        scope["path_template"] = ROUTE
        structlog.contextvars.bind_contextvars(job_id=job.job_id)
        await send_struct(send, job, 200, job_headers(job))

    async def _job(self, scope: HTTPScope) -> Job | None:
        """Return the record that is the answer, if it is that simple."""
        job_id = scope["path"].removeprefix(_PREFIX)
        if (
            scope["method"] != "GET"
            or job_id == scope["path"]
            or scope["query_string"]
            or self._state["rate_limiter"] is not None
            or self._state[auth.API_KEYS]
            or not constraints.JOB_ID.is_valid(job_id)
            or not _is_unconditional(scope)
        ):
            return None
        try:
            job: Job | None = await self._state["job_manager"].get_job(job_id)
        except Exception:  # the application meets it too, and has words for it
            return None
        return job


def _is_unconditional(scope: HTTPScope) -> bool:
    for name, value in scope["headers"]:
        if name in _SLOW_PATH_HEADERS or (
            name == b"accept" and not accepts_media_type(value.decode("latin-1"), (JSON,))
        ):
            return False
    return True
