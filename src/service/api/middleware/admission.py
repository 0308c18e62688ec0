"""Around the whole application: who is let in, and no more at one time than the process can serve in good time."""

from collections.abc import Sequence
from typing import Any, Final

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.correlation import correlation_id
from service.api.middleware.concurrency import ConcurrencyLimiter, RequestSlot
from service.api.problems import (
    HOST_NOT_ALLOWED,
    MEDIA_TYPE,
    ORIGIN_NOT_ALLOWED,
    OVERLOADED,
    PROBLEM,
    RETRY_AFTER,
    ProblemType,
    encode_problem,
)
from service.domain.origins import is_same_origin, normalize_host, normalize_origin

#: Where a request's state says that its connection is one too many.
OVER_CONNECTION_LIMIT: Final = "crowded"
#: What is answered all the same: probes ask by address, and must not take a busy process for dead.
_EXEMPT_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})

#: Methods that change nothing.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_RETRY: Final = {"retry-after": str(RETRY_AFTER)}


class AdmissionMiddleware:
    """An ASGI application around another.

    It refuses requests for hosts that it is not, changes by pages of other origins, and those that are too many.
    """

    def __init__(
        self, app: ASGIApp, hosts: tuple[str, ...] | None, origins: tuple[str, ...], room: ConcurrencyLimiter
    ) -> None:
        """Let into `app` requests for `hosts` (`None`: any), changes by its own pages and `origins`, into `room`."""
        self._app = app
        self._hosts = hosts
        self._origins = origins
        self._limiter = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != ScopeType.HTTP or scope["path"] in _EXEMPT_PATHS:
            await self._app(scope, receive, send)
        elif refusal := self._check(scope):
            await _send_problem(scope, send, *refusal, self._cors_headers(scope))
        else:
            seat = RequestSlot(self._limiter, scope)
            try:
                await self._app(scope, receive, send)
            finally:
                seat.release()

    def _check(self, scope: HTTPScope) -> tuple[ProblemType, str, dict[str, str]] | None:
        """Return the kind, detail and headers of a refusal; `None` where there is no reason for one."""
        if OVER_CONNECTION_LIMIT in scope["state"]:
            detail = "The process has as many connections as it takes (MAX_CONNECTIONS)."
            return OVERLOADED, detail, {**_RETRY, "connection": "close"}
        if self._limiter.is_full:
            most = self._limiter.max_active
            return OVERLOADED, f"{most} requests are being answered, the most (MAX_CONCURRENT_REQUESTS).", _RETRY
        host = host_of(scope)
        if self._hosts is not None and host is not None and not _matches(host, self._hosts):
            detail = f"This service is not {host!r}; it answers to {', '.join(self._hosts)} (ALLOWED_HOSTS)."
            return HOST_NOT_ALLOWED, detail, {}
        if scope["method"] not in _SAFE and not self._is_trusted(origin := _header(scope, b"origin"), scope):
            return ORIGIN_NOT_ALLOWED, f"A page of {origin} may not change anything here (CORS_ORIGINS).", {}
        return None

    def _is_trusted(self, origin: str | None, scope: HTTPScope) -> bool:
        """Say whether a change comes from no page, from one of this service, or from an allowed one.

        A browser asks beforehand (CORS) only for what no form can send: not for every body that is read here.
        """
        if origin is None or is_among(origin, self._origins):
            return True
        return is_same_origin(origin, _header(scope, b"host") or "")

    def _cors_headers(self, scope: HTTPScope) -> dict[str, str]:
        """Return the headers that let a page of an allowed origin see a refusal."""
        origin = _header(scope, b"origin")
        if origin is None or not is_among(origin, self._origins):
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": "retry-after", "vary": "origin"}


class Preflights:
    """An ASGI application around another: it refuses preflights as a problem, where Litestar (2.25) sends plain text.

    Litestar's CORS middleware takes every OPTIONS request with an `Origin` for a preflight.
    """

    def __init__(self, app: ASGIApp, config: CORSConfig) -> None:
        """Stand before `app`, which answers preflights by `config`."""
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        origin = self._foreign_origin(scope) if scope["type"] == ScopeType.HTTP else None
        if origin and _header(scope, b"access-control-request-method") is not None:  # type: ignore[arg-type]
            detail = f"Pages of {origin} may not call this service; `CORS_ORIGINS` lists the origins that may."
            await _send_problem(scope, send, ORIGIN_NOT_ALLOWED, detail, {}, {})
            return
        if origin:
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"origin"]
        await self._app(scope, receive, send)

    def _foreign_origin(self, scope: HTTPScope) -> str | None:
        """Return the origin of an OPTIONS request that Litestar's middleware would refuse."""
        if scope["method"] != "OPTIONS":
            return None
        origin = _header(scope, b"origin")
        return None if not origin or self._config.is_origin_allowed(origin) else origin


def host_of(scope: HTTPScope) -> str | None:
    """Return the host that a request names, without its port and in lower case; `None` where it names none.

    Every browser names one: under a name of its own a page must not reach a service on loopback (DNS rebinding).
    """
    header = _header(scope, b"host")
    if header is None:
        return None
    return normalize_host(header)


class NormalizingCORSConfig(CORSConfig):
    """Litestar's CORS, which compares origins as `AdmissionMiddleware` does."""

    def is_origin_allowed(self, origin: str) -> bool:
        """Return whether pages of an origin may read."""
        return is_among(origin, self.allow_origins)


def is_among(origin: str, allowed: Sequence[str]) -> bool:
    """Return whether an origin is one of those that are allowed, which are normalized; `*` allows any."""
    if "*" in allowed:
        return True
    try:
        return normalize_origin(origin) in allowed
    except ValueError:
        return False


def _header(scope: HTTPScope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1").strip())
    return None


def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    return host in patterns or any(one.startswith("*.") and host.endswith(one[1:]) for one in patterns)


async def _send_problem(
    scope: Any, send: Send, kind: ProblemType, detail: str, headers: dict[str, str], cors: dict[str, str]
) -> None:
    scope["state"][PROBLEM] = kind.name
    body = encode_problem(kind, detail, correlation_id(scope))
    own = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "cache-control": "no-store"}
    raw = [(name.encode(), value.encode()) for name, value in {**own, **headers, **cors}.items()]
    await send({"type": "http.response.start", "status": kind.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
