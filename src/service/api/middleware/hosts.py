"""The check of a request's `Host` against `ALLOWED_HOSTS`, which prevents DNS rebinding.

A page under an attacker's host name must not reach a service on loopback. Browsers always send `Host`.
"""

from litestar.types import HTTPScope

from service.api.middleware.header_lines import get_header
from service.api.middleware.rejections import Rejection
from service.api.problems import HOST_NOT_ALLOWED
from service.domain.origins import normalize_host


def check_host(scope: HTTPScope, allowed: tuple[str, ...] | None) -> Rejection | None:
    """Return the rejection of a request for a host that is not in `allowed`; `None` there allows every host."""
    host = host_of(scope)
    if allowed is None or host is None or _matches(host, allowed):
        return None
    detail = f"The host {host!r} is not allowed. Use one of {', '.join(allowed)}, or add it to `ALLOWED_HOSTS`."
    return Rejection(HOST_NOT_ALLOWED, detail)


def host_of(scope: HTTPScope) -> str | None:
    """Return the host of a request in lower case without its port; `None` if the request has no `Host`."""
    host = get_header(scope, b"host")
    return None if host is None else normalize_host(host)


def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    return host in patterns or any(pattern.startswith("*.") and host.endswith(pattern[1:]) for pattern in patterns)
