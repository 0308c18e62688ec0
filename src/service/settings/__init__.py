"""The settings of the service: one frozen struct, read from the environment, refused at start where it is wrong."""

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

#: The names of this machine, as a Host header has them.
LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_WITHOUT_KEYS: Final = (
    "an address of loopback; any other with API_KEYS (`jobstate key NAME --scopes SCOPES` makes one), or with "
    "ALLOW_ANONYMOUS=1, by which whoever reaches the port may do everything"
)


class Settings(Struct, frozen=True, kw_only=True):
    """What the service runs with; `VARIABLES` says what each means."""

    #: None: start the embedded server.
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
    #: Empty: everybody is let in.
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
        """Read the settings; an empty variable counts as unset. Raises `SettingsError` for the first that is wrong."""
        values = {one.field: one.read(environ) for one in VARIABLES if one.field in cls.__struct_fields__}
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
    """Return how long a job is kept after its last change; raises `SettingsError`."""
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
        raise SettingsError(
            REDIS_PORT.name, environ[REDIS_PORT.name], "only together with REDIS_HOST; set REDIS_HOST or unset it"
        )
    return None


def _api_keys(environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    found = (API_KEYS.read(environ) or ()) + (API_KEYS_FILE.read(environ) or ())
    if not parsers.are_unique(found):
        raise SettingsError(
            API_KEYS_FILE.name, environ[API_KEYS_FILE.name], "names and keys that API_KEYS does not have"
        )
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allowed_hosts(named: tuple[str, ...] | None, listening: str) -> tuple[str, ...] | None:
    """Return the hosts to answer to: a page in a browser must not reach a loopback service under a name of its own."""
    if named is None:
        own = f"[{listening}]" if ":" in listening else listening
        return tuple(dict.fromkeys((*LOOPBACK, own))) if _is_loopback(listening) else None
    return None if "*" in named else named
