"""Every variable of the environment that the service reads: the one list for settings, options and documentation."""

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
    """A variable of the environment that the service does not start with: its name, its value, what is allowed."""

    def __init__(self, name: str, value: str, allowed: str, detail: str = "") -> None:
        why = f": {detail}" if detail else ""
        super().__init__(f"{name}={redact_url(value)!r} is not allowed{why}; allowed: {allowed}")
        self.name = name


class Variable(NamedTuple):
    """A variable of the environment: what it sets, how it is read, and what may stand in it."""

    name: str
    field: str
    default: str | None
    parse: Callable[[str], Any]
    allowed: str
    description: str
    #: Whether what stands in it is shown to nobody, not even where it is refused.
    is_secret: bool = False

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the parsed value or default; raises `SettingsError`."""
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
            raise SettingsError(self.name, text, self.allowed + _injected_by(self.name, text)) from error


def _injected_by(name: str, text: str) -> str:
    """Return where a variable comes from that no user has set."""
    if not name.endswith("_PORT") or not re.match(r"(tcp|udp|sctp)://", text):
        return ""
    of_service = name.removesuffix("_PORT").lower()
    return (
        f". Kubernetes injects this for a Service named `{of_service}`: set `enableServiceLinks: false` in the pod, "
        f"or set `{name}` there"
    )


def _number(name: str, field: str, default: int | None, least: int, most: int, purpose: str) -> Variable:
    allowed = f"an integer from {least} to {most}"
    return Variable(
        name, field, None if default is None else str(default), parsers.integer(least, most), allowed, purpose
    )


REDIS_URL: Final = Variable(
    "REDIS_URL",
    "redis_url",
    None,
    redis_url,
    "redis://[[user]:password@]host[:port][/db], rediss://… for TLS (with options ssl_…), or "
    "unix://[[user]:password@]/path[?db=…]",
    "the Redis to work on; wins over REDIS_HOST",
)
REDIS_HOST: Final = Variable(
    "REDIS_HOST", "redis_host", None, parsers.host, "a host name or address", "the host of the Redis to work on"
)
REDIS_PORT: Final = Variable(
    "REDIS_PORT",
    "redis_port",
    "6379",
    parsers.integer(1, 65535),
    "an integer from 1 to 65535, together with REDIS_HOST",
    "its port",
)
JOB_TTL_DAYS: Final = _number("JOB_TTL_DAYS", "ttl", 7, 1, 365, "days that a job is kept after its last change")
JOB_TTL_SECONDS: Final = _number(
    "JOB_TTL_SECONDS", "ttl", None, 1, int(MAX_RETENTION.total_seconds()), "the same in seconds; wins over JOB_TTL_DAYS"
)
_ENTRIES: Final = (
    f"1 to {parsers.MAX_API_KEYS} of NAME:SCOPE+SCOPE:SHA256, separated by commas or spaces; "
    f"`jobstate key NAME --scopes {','.join(Scope)}` makes one"
)
API_KEYS: Final = Variable(
    "API_KEYS",
    "api_keys",
    None,
    parsers.api_keys,
    _ENTRIES,
    "the API keys that are let in, as hashes; unset: everybody is",
    is_secret=True,
)
API_KEYS_FILE: Final = Variable(
    "API_KEYS_FILE",
    "api_keys",
    None,
    parsers.api_keys_file,
    f"a file that can be read, with {_ENTRIES}",
    "more of them, out of a file such as a container's secret",
)
ALLOW_ANONYMOUS: Final = Variable(
    "ALLOW_ANONYMOUS",
    "allow_anonymous",
    "0",
    parsers.boolean,
    "0 or 1",
    "whether to listen beyond loopback without API keys, so that whoever reaches the port may do everything",
)

#: Every variable that the service reads, in the order of the documentation.
VARIABLES: Final = (
    REDIS_URL,
    REDIS_HOST,
    REDIS_PORT,
    _number(
        "REDIS_MAX_CONNECTIONS",
        "redis_max_connections",
        9,
        3,
        65,
        "the most connections to Redis, for each worker; each carries many calls at a time, but for one that reads the "
        "events and one that waits for syncs",
    ),
    Variable(
        "REDIS_WAITAOF",
        "redis_waitaof",
        "0",
        parsers.boolean,
        "0 or 1",
        "whether a change is answered only once Redis has synced it (`WAITAOF`, from Redis 7.2 on), which with "
        "`appendfsync everysec` takes up to a second",
    ),
    Variable("JOBSTATE_DATA", "data", "./.jobstate", Path, "a directory", "where the embedded server keeps its data"),
    Variable("JOBSTATE_HOST", "host", "127.0.0.1", parsers.host, "a host name or address", "the address to listen on"),
    Variable(
        "JOBSTATE_PORT",
        "port",
        "8000",
        parsers.integer(0, 65535),
        "an integer from 0 (any free one) to 65535",
        "the port to listen on",
    ),
    _number("JOBSTATE_WORKERS", "workers", 1, 1, 64, "how many processes serve"),
    JOB_TTL_DAYS,
    JOB_TTL_SECONDS,
    _number(
        "MAX_BODY_BYTES", "max_body_bytes", 1024 * 1024, 1024, 512 * 1024 * 1024, "the largest request body in bytes"
    ),
    _number("MAX_CONNECTIONS", "max_connections", 2000, 1, 1_000_000, "the most client connections, for each worker"),
    _number(
        "MAX_CONCURRENT_REQUESTS",
        "max_concurrent_requests",
        1000,
        1,
        1_000_000,
        "the most requests that are answered at one time, for each worker",
    ),
    _number(
        "MAX_WAITING_REQUESTS",
        "max_waiting_requests",
        1000,
        1,
        1_000_000,
        "the most requests that wait besides, for a job or for something to happen to one, for each worker",
    ),
    _number(
        "MAX_WATCHERS_PER_CLIENT",
        "max_watchers_per_client",
        100,
        1,
        1_000_000,
        "how many of those that watch may be one client's, by its API key or else its address, for each worker",
    ),
    _number(
        "CLIENT_TIMEOUT_SECONDS",
        "client_timeout_seconds",
        30,
        1,
        3600,
        "how long a client may take to send a request, and to take in a part of the answer",
    ),
    _number(
        "KEEP_ALIVE_SECONDS", "keep_alive_seconds", 75, 1, 3600, "how long a connection without a request stays open"
    ),
    _number(
        "SHUTDOWN_DRAIN_SECONDS",
        "shutdown_drain_seconds",
        90,
        0,
        600,
        "how long a shutdown waits for workers that hold jobs and for requests in flight",
    ),
    API_KEYS,
    API_KEYS_FILE,
    ALLOW_ANONYMOUS,
    Variable(
        "ALLOWED_HOSTS",
        "allowed_hosts",
        None,
        parsers.host_patterns,
        "host names such as jobs.example.org or *.example.org and addresses, separated by commas, or *",
        "the hosts that the service answers to; unset: this machine's own names while it listens on loopback, else any",
    ),
    Variable(
        "TRUSTED_PROXIES",
        "trusted_proxies",
        "",
        parsers.proxies,
        "addresses and networks such as 10.0.0.0/8, separated by commas, or *",
        "the proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed",
    ),
    Variable(
        "CORS_ORIGINS",
        "cors_origins",
        "",
        parsers.origins,
        "origins such as https://example.org, separated by commas, or *",
        "the origins whose pages may call the service",
    ),
    Variable(
        "RATE_LIMIT",
        "rate_limit",
        "off",
        parsers.rate_limit,
        "off, or a number per second, minute, hour or day, such as 600/minute",
        "how many requests a client may send, by its API key or else its address, over all workers and replicas",
    ),
    Variable(
        "LOG_LEVEL",
        "log_level",
        "info",
        parsers.choice("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "the least level that is logged",
    ),
    Variable(
        "LOG_FORMAT",
        "log_format",
        None,
        parsers.choice("json", "console"),
        "json or console",
        "the form of log lines; unset: console on a terminal, else json",
    ),
)
