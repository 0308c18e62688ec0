"""The settings of the service, read from the environment and validated at start."""

import os
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, structs

from service.settings import formats
from service.settings.redis_url import default_partitions, deployment_of, redact_url
from service.settings.variables import Env, SettingsError, Variable, read

__all__ = [
    "MAX_RETENTION",
    "VARIABLES",
    "Settings",
    "SettingsError",
    "default_partitions",
    "redact_url",
    "retention_from_environment",
]

MAX_RETENTION: Final = timedelta(days=365)
#: The names and addresses of a loopback interface in a `Host` header.
LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_WITHOUT_KEYS: Final = (
    "a loopback address; another one with API keys (`API_KEYS`; `jobstate key NAME --scopes SCOPES` generates one), or "
    "with `ALLOW_ANONYMOUS=1`, which gives every client that reaches the port full access"
)
_PORT: Final = "an integer from 0 (any free port) to 65535"
_REDIS_PORT: Final = "an integer from 1 to 65535, together with `REDIS_HOST`"

_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Seconds = Annotated[int, Meta(ge=1, le=3600)]
_RetentionSeconds = Annotated[int, Meta(ge=1, le=int(MAX_RETENTION.total_seconds()))]


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of the service. Each field declares a variable of the same name, as `Variable` describes."""

    #: Also that of `redis_host` and `redis_port`. None: the embedded server.
    redis_url: Annotated[
        formats.RedisUrl, "URL of Redis; overrides `REDIS_HOST`. Without both, the embedded server is started"
    ] = None
    redis_host: Annotated[formats.Host, "Host of Redis"] | None = None
    redis_port: Annotated[int, Meta(ge=1, le=65535), Env(allowed=_REDIS_PORT), "Port of Redis"] = 6379
    redis_max_connections: Annotated[
        int,
        Meta(ge=3, le=65),
        "Maximum connections to Redis per process. One runs commands, one reads events, and one waits for fsync",
    ] = 9
    redis_waitaof: Annotated[
        formats.Flag,
        "Whether a change is acknowledged only after Redis has synced it to disk (`WAITAOF`, Redis 7.2 or later). "
        "With `appendfsync everysec` this takes up to a second",
    ] = False
    redis_wait_replicas: Annotated[
        int, Meta(ge=0, le=5), "Number of replicas that must have a change before it is acknowledged (`WAIT`)"
    ] = 0
    redis_partitions: Annotated[
        formats.Partitions,
        "Number of partitions of the data, by job id. It is fixed by the first start on a database. On a cluster the "
        "default is 16, and 1 is not allowed",
    ] = 1
    data: Annotated[
        formats.Directory, Env("JOBSTATE_DATA", default="./.jobstate"), "Data directory of the embedded server"
    ] = Path("./.jobstate")
    host: Annotated[formats.Host, Env("JOBSTATE_HOST"), "Address to listen on"] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), Env("JOBSTATE_PORT", allowed=_PORT), "Port to listen on"] = 8000
    workers: Annotated[
        int, Meta(ge=1, le=64), Env("JOBSTATE_WORKERS"), "Number of processes that serve requests, not job workers"
    ] = 1
    job_ttl_days: Annotated[
        int, Meta(ge=1, le=MAX_RETENTION.days), "Days that a job is kept after its last change, by default"
    ] = 7
    job_ttl_seconds: Annotated[_RetentionSeconds, "The same in seconds; overrides `JOB_TTL_DAYS`"] | None = None
    max_body_bytes: Annotated[int, Meta(ge=1024, le=512 * 1024**2), "Maximum size of a request body in bytes"] = 1024**2
    max_batch_bytes: Annotated[
        int, Meta(ge=1024, le=512 * 1024**2), "The same of `POST /v1/batch-create`, which has up to 1,000 jobs"
    ] = 8 * 1024**2
    max_connections: Annotated[_Count, "Maximum client connections per process"] = 2000
    max_concurrent_requests: Annotated[_Count, "Maximum concurrent requests per process"] = 1000
    max_waiting_requests: Annotated[
        _Count,
        "Maximum long polls, event streams and waiting claims per process; they do not count as concurrent requests",
    ] = 1000
    max_watchers_per_client: Annotated[
        _Count,
        "Maximum long polls and event streams of one client per process. A client is an API key, or else an address",
    ] = 100
    client_timeout_seconds: Annotated[
        _Seconds, "Timeout for a client to send a request, and to read a part of the response"
    ] = 30
    keep_alive_seconds: Annotated[_Seconds, "How long an idle connection stays open"] = 75
    shutdown_drain_seconds: Annotated[
        int, Meta(ge=0, le=600), "How long a shutdown waits for leases to end and for requests to finish"
    ] = 90
    #: Also those of `api_keys_file`. Empty: requests need no API key.
    api_keys: Annotated[formats.ApiKeys, "Hashes of the allowed API keys; unset: requests need no key"] = ()
    api_keys_file: Annotated[formats.ApiKeysFile, "File with more API keys, such as a secret of a container"] = ()
    allow_anonymous: Annotated[
        formats.Flag,
        "Whether to listen on a non-loopback address without API keys. Every client that reaches the port then has "
        "full access",
    ] = False
    #: None: any.
    allowed_hosts: Annotated[
        formats.HostPatterns,
        "Allowed values of the `Host` header; unset: localhost, 127.0.0.1, [::1] and the address itself on a loopback "
        "address, else any",
    ] = None
    trusted_proxies: Annotated[
        formats.Proxies, "Proxies whose `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` headers are trusted"
    ] = ()
    cors_origins: Annotated[formats.Origins, "Origins whose pages may call the service"] = ()
    rate_limit: Annotated[
        formats.Limit,
        Env(default="off"),
        "Maximum requests of one client over all processes and replicas. A client is an API key, or else an address",
    ] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], "Lowest level that is logged"] = "info"
    log_format: (
        Annotated[Literal["json", "console"], "Format of the log; unset: console on a terminal, else json"] | None
    ) = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings; an empty variable counts as unset. Raises `SettingsError` for the first invalid one."""
        if environ.get("REDIS_URL", "").strip():
            environ = {**environ, "REDIS_PORT": ""}  # without effect then, and Kubernetes may inject an address
        values = read(VARIABLES, environ)
        if "redis_port" in values and "redis_host" not in values:
            allowed = "only together with `REDIS_HOST`; set it, or unset this variable"
            raise SettingsError("REDIS_PORT", environ["REDIS_PORT"], allowed)
        settings = cls(**values)
        api_keys = settings.api_keys + settings.api_keys_file
        if not formats.are_unique(api_keys):
            allowed = "names and keys that are not in `API_KEYS`"
            raise SettingsError("API_KEYS_FILE", environ["API_KEYS_FILE"], allowed)
        if not (api_keys or settings.allow_anonymous or _is_loopback(settings.host)):
            raise SettingsError("JOBSTATE_HOST", settings.host, _WITHOUT_KEYS)
        url = _redis_url(settings)
        deployment = deployment_of(url or "")
        if "redis_partitions" not in values:
            settings = structs.replace(settings, redis_partitions=default_partitions(url or ""))
        _check_deployment(settings, deployment, is_embedded=url is None)
        return structs.replace(settings, api_keys=api_keys, redis_url=url, allowed_hosts=_allowed_hosts(settings))

    @property
    def ttl(self) -> timedelta:
        """How long a job is kept after its last change."""
        seconds = self.job_ttl_seconds
        return timedelta(days=self.job_ttl_days) if seconds is None else timedelta(seconds=seconds)


#: Every variable that the service reads, in the order of the documentation.
VARIABLES: Final = tuple(map(Variable, structs.fields(Settings)))


def retention_from_environment(environ: Mapping[str, str] = os.environ) -> timedelta:
    """Return how long a job is kept after its last change. Raises `SettingsError`."""
    return Settings(**read((one for one in VARIABLES if one.field.startswith("job_ttl_")), environ)).ttl


def _redis_url(settings: Settings) -> str | None:
    host = settings.redis_host
    if settings.redis_url is not None or host is None:
        return settings.redis_url
    return f"redis://{f'[{host}]' if ':' in host else host}:{settings.redis_port}/0"


def _check_deployment(settings: Settings, deployment: str, *, is_embedded: bool) -> None:
    """Raise `SettingsError` for a setting that this deployment of Redis cannot serve."""
    if deployment == "cluster" and settings.redis_partitions == 1:
        detail, allowed = "a cluster needs several partitions", "a power of two from 2 to 1024 with redis+cluster://"
        raise SettingsError("REDIS_PARTITIONS", "1", allowed, detail)
    if deployment != "standalone" and settings.redis_waitaof:
        allowed = "0; set `appendfsync always` on every node, and `REDIS_WAIT_REPLICAS`"
        raise SettingsError("REDIS_WAITAOF", "1", allowed, f"`REDIS_URL` is of the kind {deployment}")
    if is_embedded and settings.redis_wait_replicas:
        value, detail = str(settings.redis_wait_replicas), "the embedded server has no replicas"
        raise SettingsError("REDIS_WAIT_REPLICAS", value, "0, or a Redis with replicas in `REDIS_URL`", detail)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allowed_hosts(settings: Settings) -> tuple[str, ...] | None:
    """Return the allowed hosts, or `None` for any; on loopback the default protects against DNS rebinding."""
    hosts, host = settings.allowed_hosts, settings.host
    if hosts is None:
        own = f"[{host}]" if ":" in host else host
        return tuple(dict.fromkeys((*LOOPBACK, own))) if _is_loopback(host) else None
    return None if "*" in hosts else hosts
