"""The service that a client connects to, from arguments or the environment."""

import os
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from jobstate.connections import authorization
from jobstate.errors import ConfigurationError

#: Wildcard addresses of a service, and the loopback address to connect to instead.
_LOCAL_HOSTS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_INVALID_PORT: Final = (
    "JOBSTATE_PORT={port!r} is not allowed; allowed: an integer from 1 to 65535. Set `JOBSTATE_URL` to the URL of the "
    "service."
)
_KUBERNETES_HINT: Final = (
    " Kubernetes injects `JOBSTATE_PORT` for a Service named `jobstate`, unless a pod has `enableServiceLinks: false`."
)


class ClientConfig(NamedTuple):
    """The URL of the service, and the headers of every request. The text of it shows no API key and no password."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"ClientConfig({_without_credentials(self.url)!r})"


def configure(
    url: str | None = None, api_key: str | None = None, environ: Mapping[str, str] | None = None
) -> ClientConfig:
    """Return the configuration. `JOBSTATE_URL` and `JOBSTATE_API_KEY` replace arguments that are `None`.

    Without a URL it is the address of `jobstate serve` in the same environment. Raises `ConfigurationError`.
    """
    environ = os.environ if environ is None else environ
    if url is None:
        url = environ.get("JOBSTATE_URL", "").strip() or default_url(environ)
    url = _valid_url(url)
    try:
        headers = authorization(environ.get("JOBSTATE_API_KEY", "") if api_key is None else api_key, url)
    except ValueError as error:
        raise ConfigurationError(f"`api_key` or `JOBSTATE_API_KEY`: {error}") from error
    return ClientConfig(url, headers)


def default_url(environ: Mapping[str, str]) -> str:
    """Return the URL at which `jobstate serve` listens in the same environment. Raises `ConfigurationError`."""
    host = environ.get("JOBSTATE_HOST") or "127.0.0.1"
    host = _LOCAL_HOSTS.get(host, host)
    port = environ.get("JOBSTATE_PORT", "").strip() or "8000"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ConfigurationError(_INVALID_PORT.format(port=port) + (_KUBERNETES_HINT if "://" in port else ""))
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _valid_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        is_valid = is_valid and url.isprintable() and not parts.query and not parts.fragment
    except ValueError:
        is_valid = False
    if not is_valid:
        allowed = "http://HOST:PORT or https://HOST:PORT"
        raise ConfigurationError(f"`url` {_without_credentials(url)!r} is not allowed; allowed: {allowed}")
    return url


def _without_credentials(url: str) -> str:
    return re.sub(r"(?<=//).*@", "…@", url, flags=re.DOTALL)
