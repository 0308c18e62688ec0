"""Every environment variable of the service: the one list for settings, options of commands and documentation."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from service.domain.api_keys import Scope
from service.settings import parsers
from service.settings.redis_url import RedisUrlError, redact_url, redis_url

MAX_RETENTION: Final = timedelta(days=365)


class SettingsError(Exception):
    """An environment variable has an invalid value. The text shows the name, the value and what is allowed."""

    def __init__(self, name: str, value: str, allowed: str, detail: str = "") -> None:
        reason = f": {detail}" if detail else ""
        super().__init__(f"{name}={redact_url(value)!r} is not allowed{reason}; allowed: {allowed}")
        self.name = name


class Variable(NamedTuple):
    """An environment variable: its default, how it is parsed, and texts for people."""

    name: str
    default: str | None
    parse: Callable[[str], Any]
    allowed: str
    description: str
    #: The value is not shown in errors.
    is_secret: bool = False

    @property
    def field(self) -> str:
        """The field of `Settings`, in snake case: `port` for `JOBSTATE_PORT`."""
        return self.name.removeprefix("JOBSTATE_").lower()

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the parsed value, the parsed default, or `None` without a default. Raises `SettingsError`."""
        text = environ.get(self.name, "").strip() or self.default
        if text is None:
            return None
        try:
            return self.parse(text)
        except RedisUrlError as error:
            raise SettingsError(self.name, text, error.allowed, error.detail) from None
        except ValueError as error:
            if self.is_secret:
                raise SettingsError(self.name, "…", self.allowed) from None
            raise SettingsError(self.name, text, self.allowed + _kubernetes_hint(self.name, text)) from error


def _kubernetes_hint(name: str, text: str) -> str:
    """Return what to do about a variable that Kubernetes injects, or an empty string for another one."""
    if not name.endswith("_PORT") or not re.match(r"(tcp|udp|sctp)://", text):
        return ""
    service = name.removesuffix("_PORT").lower()
    return (
        f". Kubernetes injects this for a Service named `{service}`: set `enableServiceLinks: false` in the pod, "
        f"or set `{name}` there"
    )


def _integer(name: str, default: int | None, minimum: int, maximum: int, description: str) -> Variable:
    allowed = f"an integer from {minimum} to {maximum}"
    return Variable(
        name, None if default is None else str(default), parsers.integer(minimum, maximum), allowed, description
    )


def _boolean(name: str, description: str) -> Variable:
    return Variable(name, "0", parsers.boolean, "0 or 1", description)


_HOST: Final = "a host name or address"
_API_KEYS: Final = (
    f"1 to {parsers.MAX_API_KEYS} of NAME:SCOPE+SCOPE:SHA256, separated by commas or spaces; "
    f"`jobstate key NAME --scopes {','.join(Scope)}` generates one"
)

REDIS_URL: Final = Variable(
    "REDIS_URL",
    None,
    redis_url,
    "redis://[[user]:password@]host[:port][/db], rediss://… for TLS (with options ssl_…), or "
    "unix://[[user]:password@]/path[?db=…]",
    "URL of Redis; overrides `REDIS_HOST`. Without both, the embedded server is started",
)
REDIS_HOST: Final = Variable("REDIS_HOST", None, parsers.host, _HOST, "Host of Redis")
REDIS_PORT: Final = Variable(
    "REDIS_PORT",
    "6379",
    parsers.integer(1, 65535),
    "an integer from 1 to 65535, together with `REDIS_HOST`",
    "Port of Redis",
)
JOB_TTL_DAYS: Final = _integer("JOB_TTL_DAYS", 7, 1, 365, "Days that a job is kept after its last change")
JOB_TTL_SECONDS: Final = _integer(
    "JOB_TTL_SECONDS", None, 1, int(MAX_RETENTION.total_seconds()), "The same in seconds; overrides `JOB_TTL_DAYS`"
)
API_KEYS: Final = Variable(
    "API_KEYS",
    None,
    parsers.api_keys,
    _API_KEYS,
    "Hashes of the allowed API keys; unset: requests need no key",
    is_secret=True,
)
API_KEYS_FILE: Final = Variable(
    "API_KEYS_FILE",
    None,
    parsers.api_keys_file,
    f"a readable file with {_API_KEYS}",
    "File with more API keys, such as a secret of a container",
)

#: Every variable that the service reads, in the order of the documentation.
VARIABLES: Final = (
    REDIS_URL,
    REDIS_HOST,
    REDIS_PORT,
    _integer(
        "REDIS_MAX_CONNECTIONS",
        9,
        3,
        65,
        "Maximum connections to Redis per process. One reads events and one waits for fsync; the others run commands",
    ),
    _boolean(
        "REDIS_WAITAOF",
        "Whether a change is acknowledged only after Redis has synced it to disk (`WAITAOF`, Redis 7.2 or later). "
        "With `appendfsync everysec` this takes up to a second",
    ),
    Variable("JOBSTATE_DATA", "./.jobstate", Path, "a directory", "Data directory of the embedded server"),
    Variable("JOBSTATE_HOST", "127.0.0.1", parsers.host, _HOST, "Address to listen on"),
    Variable(
        "JOBSTATE_PORT",
        "8000",
        parsers.integer(0, 65535),
        "an integer from 0 (any free port) to 65535",
        "Port to listen on",
    ),
    _integer("JOBSTATE_WORKERS", 1, 1, 64, "Number of processes that serve requests, not job workers"),
    JOB_TTL_DAYS,
    JOB_TTL_SECONDS,
    _integer("MAX_BODY_BYTES", 1024 * 1024, 1024, 512 * 1024 * 1024, "Maximum size of a request body in bytes"),
    _integer("MAX_CONNECTIONS", 2000, 1, 1_000_000, "Maximum client connections per process"),
    _integer("MAX_CONCURRENT_REQUESTS", 1000, 1, 1_000_000, "Maximum concurrent requests per process"),
    _integer(
        "MAX_WAITING_REQUESTS",
        1000,
        1,
        1_000_000,
        "Maximum long polls, event streams and waiting claims per process; they do not count as concurrent requests",
    ),
    _integer(
        "MAX_WATCHERS_PER_CLIENT",
        100,
        1,
        1_000_000,
        "Maximum long polls and event streams of one client per process. A client is an API key, or else an address",
    ),
    _integer(
        "CLIENT_TIMEOUT_SECONDS",
        30,
        1,
        3600,
        "Timeout for a client to send a request, and to read a part of the response",
    ),
    _integer("KEEP_ALIVE_SECONDS", 75, 1, 3600, "How long an idle connection stays open"),
    _integer(
        "SHUTDOWN_DRAIN_SECONDS", 90, 0, 600, "How long a shutdown waits for leases to end and for requests to finish"
    ),
    API_KEYS,
    API_KEYS_FILE,
    _boolean(
        "ALLOW_ANONYMOUS",
        "Whether to listen on a non-loopback address without API keys. Every client that reaches the port then has "
        "full access",
    ),
    Variable(
        "ALLOWED_HOSTS",
        None,
        parsers.host_patterns,
        "host names such as jobs.example.org or *.example.org and addresses, separated by commas, or *",
        "Allowed values of the `Host` header; unset: localhost, 127.0.0.1, [::1] and the address itself on a loopback "
        "address, else any",
    ),
    Variable(
        "TRUSTED_PROXIES",
        "",
        parsers.proxies,
        "addresses and networks such as 10.0.0.0/8, separated by commas, or *",
        "Proxies whose `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` headers are trusted",
    ),
    Variable(
        "CORS_ORIGINS",
        "",
        parsers.origins,
        "origins such as https://example.org, separated by commas, or *",
        "Origins whose pages may call the service",
    ),
    Variable(
        "RATE_LIMIT",
        "off",
        parsers.rate_limit,
        "off, or a number per second, minute, hour or day, such as 600/minute",
        "Maximum requests of one client over all processes and replicas. A client is an API key, or else an address",
    ),
    Variable(
        "LOG_LEVEL",
        "info",
        parsers.choice("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "Lowest level that is logged",
    ),
    Variable(
        "LOG_FORMAT",
        None,
        parsers.choice("json", "console"),
        "json or console",
        "Format of the log; unset: console on a terminal, else json",
    ),
)
