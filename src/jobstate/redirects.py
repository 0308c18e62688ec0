"""What a client says about a redirect, which it never follows."""

from typing import Final

import httpx

_MAX_LENGTH: Final = 300
_CHECK: Final = "check the URL of the service"


def is_redirect(response: httpx.Response) -> bool:
    """Return whether the answer sends the client to another address."""
    return response.is_redirect and response.status_code != httpx.codes.NOT_MODIFIED


def redirect_advice(response: httpx.Response) -> str:
    """Return where a redirect points, and what to do: words that follow the status."""
    location = response.headers.get("Location")
    if not location:
        return f"a redirect without a `Location`; {_CHECK}"
    try:
        target = response.request.url.join(location).copy_with(userinfo=b"")
    except httpx.InvalidURL:
        return f"a redirect to {location[:_MAX_LENGTH]!a}, which is not a valid URL; {_CHECK}"
    service = _service_url(response.request.url, target)
    advice = f"if this is the service, use `{service}` as its URL" if service else _CHECK
    return f"a redirect to `{_cut(str(target))}`, which is not followed; {advice}"


def _service_url(requested: httpx.URL, target: httpx.URL) -> str | None:
    """Return the URL of a service that has the address that was asked for at `target`."""
    path = requested.raw_path.partition(b"?")[0]
    api_path = path[max(0, path.rfind(b"/v1/")) :]
    target_path = target.raw_path.partition(b"?")[0]
    if not target.host or not target_path.endswith(api_path):
        return None
    base = target.copy_with(raw_path=target_path.removesuffix(api_path) or b"/", fragment=None)
    return _cut(str(base).rstrip("/"))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
