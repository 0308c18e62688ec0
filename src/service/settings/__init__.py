"""The settings of the service, read from the environment and validated at start."""

import os
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from msgspec import Struct

from service.domain.api_keys import ApiKey
from service.domain.rate_limits import RateLimit
from service.settings import parsers
from service.settings.env_vars import (
    API_KEYS,
    API_KEYS_FILE,
    JOB_TTL_DAYS,
    JOB_TTL_SECONDS,
    MAX_RETENTION,
    REDIS_HOST,
    REDIS_PORT,
    REDIS_URL,
    VARIABLES,
    SettingsError,
    Variable,
)
from service.settings.redis_url import redact_url

__all__ = [
    "MAX_RETENTION",
    "VARIABLES",
    "Settings",
    "SettingsError",
    "Variable",
    "redact_url",
    "retention_from_environment",
]

#: The names and addresses of a loopback interface in a `Host` header.
LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_WITHOUT_KEYS: Final = (
    "a loopback address; another one with API keys (`API_KEYS`; `jobstate key NAME --scopes SCOPES` generates one), or "
    "with `ALLOW_ANONYMOUS=1`, which gives every client that reaches the port full access"
)


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of the service; `VARIABLES` describes each."""

    #: None: the embedded server.
    redis_url: str | None
    redis_max_connections: int
    redis_waitaof: bool
    data: Path
    host: str
    port: int
    workers: int
    ttl: timedelta
    max_body_bytes: int
    max_connections: int
    max_concurrent_requests: int
    max_waiting_requests: int
    max_watchers_per_client: int
    client_timeout_seconds: int
    keep_alive_seconds: int
    shutdown_drain_seconds: int
    #: Empty: requests need no API key.
    api_keys: tuple[ApiKey, ...]
    allow_anonymous: bool
    #: None: any.
    allowed_hosts: tuple[str, ...] | None
    trusted_proxies: tuple[str, ...]
    cors_origins: tuple[str, ...]
    rate_limit: RateLimit | None
    log_level: str
    log_format: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings; an empty variable counts as unset. Raises `SettingsError` for the first invalid one."""
        values = {var.field: var.read(environ) for var in VARIABLES if var.field in cls.__struct_fields__}
        derived = {
            "redis_url": _redis_url(environ),
            "ttl": retention_from_environment(environ),
            "allowed_hosts": _allowed_hosts(values["allowed_hosts"], values["host"]),
            "api_keys": _api_keys(environ),
        }
        settings = cls(**{**values, **derived})
        if not (settings.api_keys or settings.allow_anonymous or _is_loopback(settings.host)):
            raise SettingsError("JOBSTATE_HOST", settings.host, _WITHOUT_KEYS)
        return settings


def retention_from_environment(environ: Mapping[str, str] = os.environ) -> timedelta:
    """Return how long a job is kept after its last change. Raises `SettingsError`."""
    days, seconds = JOB_TTL_DAYS.read(environ), JOB_TTL_SECONDS.read(environ)
    return timedelta(days=days) if seconds is None else timedelta(seconds=seconds)


def _redis_url(environ: Mapping[str, str]) -> str | None:
    url, host = REDIS_URL.read(environ), REDIS_HOST.read(environ)
    if url is not None:
        return str(url)
    port = REDIS_PORT.read(environ)
    if host is not None:
        return f"redis://{f'[{host}]' if ':' in host else host}:{port}/0"
    if environ.get(REDIS_PORT.name, "").strip():
        allowed = "only together with `REDIS_HOST`; set it, or unset this variable"
        raise SettingsError(REDIS_PORT.name, environ[REDIS_PORT.name], allowed)
    return None


def _api_keys(environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    keys = (API_KEYS.read(environ) or ()) + (API_KEYS_FILE.read(environ) or ())
    if not parsers.are_unique(keys):
        allowed = "names and keys that are not in `API_KEYS`"
        raise SettingsError(API_KEYS_FILE.name, environ[API_KEYS_FILE.name], allowed)
    return keys


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allowed_hosts(hosts: tuple[str, ...] | None, listen_host: str) -> tuple[str, ...] | None:
    """Return the allowed hosts, or `None` for any; on loopback the default protects against DNS rebinding."""
    if hosts is None:
        own = f"[{listen_host}]" if ":" in listen_host else listen_host
        return tuple(dict.fromkeys((*LOOPBACK, own))) if _is_loopback(listen_host) else None
    return None if "*" in hosts else hosts
