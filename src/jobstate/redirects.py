"""Explain a redirect response to the user. Clients never follow redirects."""

from typing import Final

import httpx

_MAX_LENGTH: Final = 300
_CHECK: Final = "check the URL of the service"


def is_redirect(response: httpx.Response) -> bool:
    """Return whether the response is a redirect; 304 is not."""
    return response.is_redirect and response.status_code != httpx.codes.NOT_MODIFIED


def redirect_advice(response: httpx.Response) -> str:
    """Return where a redirect points and what to do, as text that follows the status."""
    location = response.headers.get("Location")
    if not location:
        return f"redirect without a `Location` header; {_CHECK}"
    try:
        target = response.request.url.join(location).copy_with(userinfo=b"")
    except httpx.InvalidURL:
        return f"redirect to the invalid URL {location[:_MAX_LENGTH]!a}; {_CHECK}"
    service = _service_url(response.request.url, target)
    advice = f"if this is the service, use `{service}` as its URL" if service else _CHECK
    return f"redirect to `{_cut(str(target))}`, not followed; {advice}"


def _service_url(requested: httpx.URL, target: httpx.URL) -> str | None:
    """Return the URL of the service if `target` is the requested API path on another base URL, else `None`."""
    path = requested.raw_path.partition(b"?")[0]
    api_path = path[max(0, path.rfind(b"/v1/")) :]
    target_path = target.raw_path.partition(b"?")[0]
    if not target.host or not target_path.endswith(api_path):
        return None
    base = target.copy_with(raw_path=target_path.removesuffix(api_path) or b"/", fragment=None)
    return _cut(str(base).rstrip("/"))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
