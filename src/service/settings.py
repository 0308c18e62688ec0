"""The settings of the service: one frozen struct, read from the environment, refused at start where it is wrong."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

MAX_RETENTION: Final = timedelta(days=365)


class SettingsError(Exception):
    """A variable of the environment that the service does not start with: its name, its value, what is allowed."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name}={without_password(value)!r} is not allowed; allowed: {allowed}")
        self.name = name


class Settings(Struct, frozen=True, kw_only=True):
    """What the service runs with."""

    #: None: start the embedded server.
    redis_url: str | None
    data: Path
    host: str
    port: int
    ttl: timedelta
    max_body_bytes: int
    shutdown_drain_seconds: int
    cors_origins: tuple[str, ...]
    #: Always off: there are no limits yet, and a value is refused rather than passed over in silence.
    rate_limit: str
    log_level: str
    log_format: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings; an empty variable counts as unset. Raises `SettingsError` for the first that is wrong."""
        values = {one.field: one.read(environ) for one in VARIABLES if one.field in cls.__struct_fields__}
        return cls(**{**values, "redis_url": _redis_url(environ), "ttl": retention_from_environment(environ)})


class Variable(NamedTuple):
    """A variable of the environment: what it sets, how it is read, and what may stand in it."""

    name: str
    field: str
    default: str | None
    parse: Callable[[str], Any]
    allowed: str
    purpose: str

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the parsed value or default; raises `SettingsError`."""
        text = environ.get(self.name, "").strip() or self.default
        if text is None:
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            raise SettingsError(self.name, text, self.allowed) from error


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(text)
        return text.lower()

    return parse


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "unix":
        fits = not parts.netloc and len(parts.path) > 1
    else:
        _ = parts.port  # raises ValueError where it is none
        fits = parts.scheme in {"redis", "rediss"} and bool(parts.hostname)
        fits = fits and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        fits = fits and (name.startswith("ssl_") or (name == "db" and value.isdecimal()))
    if not fits or "://" not in text or parts.fragment:
        raise ValueError(text)
    return text


def _host(text: str) -> str:
    if ":" in text:
        return str(IPv6Address(text))
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise ValueError(text)
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ValueError(text)
    return origins


_DAYS: Final = Variable(
    "JOB_TTL_DAYS",
    "ttl",
    "7",
    _integer(1, 365),
    "an integer from 1 to 365",
    "days that a job is kept after its last change",
)
_SECONDS: Final = Variable(
    "JOB_TTL_SECONDS",
    "ttl",
    None,
    _integer(1, int(MAX_RETENTION.total_seconds())),
    f"an integer from 1 to {int(MAX_RETENTION.total_seconds())}",
    "the same in seconds; wins over JOB_TTL_DAYS",
)
_URL: Final = Variable(
    "REDIS_URL",
    "redis_url",
    None,
    _url,
    "redis://[[user]:password@]host[:port][/db], rediss://… for TLS (with options ssl_…), or unix:///path[?db=…]",
    "the Redis to work on; wins over REDIS_HOST",
)
_HOST: Final = Variable(
    "REDIS_HOST", "redis_host", None, _host, "a host name or address", "the host of the Redis to work on"
)
_PORT: Final = Variable(
    "REDIS_PORT",
    "redis_port",
    "6379",
    _integer(1, 65535),
    "an integer from 1 to 65535, together with REDIS_HOST",
    "its port",
)

_DATA: Final = Variable(
    "JOBSTATE_DATA", "data", "./.jobstate", Path, "a directory", "where the embedded server keeps its data"
)
_LISTEN_HOST: Final = Variable(
    "JOBSTATE_HOST", "host", "127.0.0.1", _host, "a host name or address", "the address to listen on"
)
_LISTEN_PORT: Final = Variable(
    "JOBSTATE_PORT",
    "port",
    "8000",
    _integer(0, 65535),
    "an integer from 0 (any free one) to 65535",
    "the port to listen on",
)
_BODY: Final = Variable(
    "MAX_BODY_BYTES",
    "max_body_bytes",
    str(1024 * 1024),
    _integer(1024, 512 * 1024 * 1024),
    "an integer from 1024 to 536870912",
    "the largest request body in bytes",
)
_DRAIN: Final = Variable(
    "SHUTDOWN_DRAIN_SECONDS",
    "shutdown_drain_seconds",
    "90",
    _integer(0, 600),
    "an integer from 0 to 600",
    "how long a shutdown waits for requests in flight",
)
_CORS: Final = Variable(
    "CORS_ORIGINS",
    "cors_origins",
    "",
    _origins,
    "origins such as https://example.org, separated by commas, or *",
    "the origins whose pages may call the service",
)
_RATE: Final = Variable(
    "RATE_LIMIT",
    "rate_limit",
    "off",
    _choice("off"),
    "off (there are no limits yet)",
    "how many requests a client may send",
)
_LEVEL: Final = Variable(
    "LOG_LEVEL",
    "log_level",
    "info",
    _choice("debug", "info", "warning", "error"),
    "debug, info, warning or error",
    "the least level that is logged",
)
_FORMAT: Final = Variable(
    "LOG_FORMAT",
    "log_format",
    None,
    _choice("json", "console"),
    "json or console",
    "the form of log lines; unset: console on a terminal, else json",
)

#: Every variable that the service reads, in the order of the documentation.
VARIABLES: Final = (
    *(_URL, _HOST, _PORT, _DATA, _LISTEN_HOST, _LISTEN_PORT, _DAYS, _SECONDS),
    *(_BODY, _DRAIN, _CORS, _RATE, _LEVEL, _FORMAT),
)


def without_password(url: str) -> str:
    """Return a URL for people to read: what stands before its last @ is left out."""
    return re.sub(r"//.*@", "//***@", url)


def retention_from_environment(environ: Mapping[str, str] = os.environ) -> timedelta:
    """Return how long a job is kept after its last change; raises `SettingsError`."""
    days, seconds = _DAYS.read(environ), _SECONDS.read(environ)
    return timedelta(days=days) if seconds is None else timedelta(seconds=seconds)


def _redis_url(environ: Mapping[str, str]) -> str | None:
    url, host = _URL.read(environ), _HOST.read(environ)
    if url is not None:
        return str(url)
    port = _PORT.read(environ)
    if host is not None:
        return f"redis://{f'[{host}]' if ':' in host else host}:{port}/0"
    if environ.get(_PORT.name, "").strip():
        raise SettingsError(
            _PORT.name, environ[_PORT.name], "only together with REDIS_HOST; set REDIS_HOST or unset it"
        )
    return None
