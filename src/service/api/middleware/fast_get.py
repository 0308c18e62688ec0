"""Fast path for unconditional `GET /v1/jobs/{job_id}` that bypasses Litestar.

It applies without API keys and rate limit, and only if the job exists. Its response equals the application's
(`tests/integration/api/test_fast_get.py`).
"""

from typing import Final

import structlog
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.request_checks import JSON, accepts_media_type
from service.api.responses import job_headers, send_struct
from service.domain import constraints
from service.domain.jobs import Job
from service.services import SERVICES, Services

#: The route for logs and metrics.
ROUTE: Final = "/v1/jobs/{job_id}"
_PREFIX: Final = "/v1/jobs/"
#: Headers that may change the response.
_SLOW_PATH_HEADERS: Final = frozenset({b"if-none-match", b"prefer", b"origin", b"content-length", b"transfer-encoding"})


class JobReadFastPath:
    """ASGI middleware that answers plain reads of a job, and passes on everything else."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """Wrap `app`, whose state is `state`."""
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the job, or call the app."""
        job = await self._job(scope) if scope["type"] == ScopeType.HTTP else None
        if job is None:
            await self._app(scope, receive, send)
            return
        scope["path_template"] = ROUTE
        structlog.contextvars.bind_contextvars(job_id=job.job_id)
        await send_struct(send, job, 200, job_headers(job))

    async def _job(self, scope: HTTPScope) -> Job | None:
        """Return the job if the fast path applies."""
        job_id = scope["path"].removeprefix(_PREFIX)
        services: Services = self._state[SERVICES]
        if (
            scope["method"] != "GET"
            or job_id == scope["path"]
            or scope["query_string"]
            or services.rate_limiter is not None
            or services.api_keys
            or not constraints.JOB_ID.is_valid(job_id)
            or not _is_unconditional(scope)
        ):
            return None
        try:
            return await services.jobs.get_job(job_id)
        except Exception:  # the application fails likewise and reports it
            return None


def _is_unconditional(scope: HTTPScope) -> bool:
    for name, value in scope["headers"]:
        if name in _SLOW_PATH_HEADERS or (
            name == b"accept" and not accepts_media_type(value.decode("latin-1"), (JSON,))
        ):
            return False
    return True
