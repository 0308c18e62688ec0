"""Parsing of a Redis URL and its options, which rejects an invalid part at start and by name."""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

_DATABASE: Final = "[0-9]{1,10}"
#: TLS 1.2 and 1.3, as the `ssl` module numbers them.
_TLS_VERSIONS: Final = ("771", "772")
_DEFAULT_PORTS: Final = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}
_SECRETS: Final = ("ssl_password", "sentinel_username", "sentinel_password")

#: The default of `REDIS_PARTITIONS` on a cluster.
CLUSTER_PARTITIONS: Final = 16
#: How Redis runs.
Deployment = Literal["standalone", "sentinel", "cluster"]


class RedisUrlError(ValueError):
    """A part of a Redis URL is invalid: `detail` says which one, `allowed` what is allowed."""

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(f"{detail}; allowed: {allowed}")
        self.detail = detail
        self.allowed = allowed


class Option(NamedTuple):
    """An option in the query of the URL: a test of its value, and a text that says what is allowed."""

    is_valid: Callable[[str], object]
    allowed: str
    #: Allowed with `rediss…` only.
    needs_tls: bool = True
    #: Allowed with `…+sentinel://` only.
    needs_sentinel: bool = False


def _one_of(*allowed: str) -> Option:
    return Option(allowed.__contains__, ", ".join(allowed))


def _are_flags(text: str) -> bool:
    return all(flag.strip() in ssl.VerifyFlags.__members__ for flag in text.strip("[]").split(","))


_FILE: Final = Option(lambda text: Path(text).is_file(), "the path of a file")
_FLAGS: Final = Option(_are_flags, f"names of {', '.join(ssl.VerifyFlags.__members__)}, separated by commas")

#: The options that are allowed in the query. redis-py knows more; the service sets those itself.
OPTIONS: Final = {
    "db": Option(re.compile(_DATABASE).fullmatch, "the number of a database", needs_tls=False),
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _one_of("true", "false", "yes", "no", "1", "0"),
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": Option(lambda text: Path(text).is_dir(), "the path of a directory"),
    "ssl_ca_data": Option(bool, "certificates in PEM"),
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": Option(bool, "the password of `ssl_keyfile`"),
    "ssl_ciphers": Option(bool, "a list of ciphers as OpenSSL reads it"),
    "ssl_min_version": Option(_TLS_VERSIONS.__contains__, "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "ssl_include_verify_flags": _FLAGS,
    "ssl_exclude_verify_flags": _FLAGS,
    "sentinel_username": Option(bool, "the user of the sentinels", needs_tls=False, needs_sentinel=True),
    "sentinel_password": Option(bool, "the password of the sentinels", needs_tls=False, needs_sentinel=True),
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, as `parse_redis_url` reads it from a URL. Its text shows no user or password."""

    deployment: Deployment
    #: Host and port of the sentinels, of the seed nodes of a cluster, or of the one server; empty for a Unix socket.
    servers: tuple[tuple[str, int], ...]
    #: The name of the master with Sentinel, else empty.
    master_name: str
    #: Arguments of redis-py's `Redis` for the connections to sentinels: `username`, `password`, `ssl`, `ssl_…`.
    sentinel_options: dict[str, Any] = field(repr=False)
    #: The URL as it was given.
    url: str = field(repr=False)
    _start: str = field(repr=False)
    _end: str = field(repr=False)

    def url_of(self, host: str, port: int) -> str:
        """Return the `redis://` or `rediss://` URL of one server, with user, password, database and options."""
        name = f"[{quote(host, safe=':')}]" if ":" in host else quote(host)
        return f"{self._start}{name}:{port}{self._end}"


def deployment_of(url: str) -> Deployment:
    """Return how the Redis of a valid URL runs."""
    kind = url.partition("://")[0].lower().partition("+")[2]
    return cast("Deployment", kind or "standalone")


def default_partitions(url: str) -> int:
    """Return the default of `REDIS_PARTITIONS` for a valid URL."""
    return CLUSTER_PARTITIONS if deployment_of(url) == "cluster" else 1


def parse_redis_url(text: str) -> RedisAddress:
    """Return where Redis is. Raises `RedisUrlError`, or `ValueError` for the address of a standalone server."""
    scheme, separator, rest = text.partition("://")
    plain, _, kind = scheme.lower().partition("+")
    if not separator or plain not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}:
        return _standalone(_check_standalone(text))
    if re.search(r"[\x00-\x20\x7f#]", rest):
        raise RedisUrlError("the URL has a blank, a control character or a `#`", "these percent-encoded")
    netloc, path, query = cast("re.Match[str]", re.fullmatch(r"([^/?]*)([^?]*)\??(.*)", rest)).groups()
    credentials, at, hosts = netloc.rpartition("@")
    servers = _servers(hosts.split(","), _DEFAULT_PORTS[kind])
    _check_credentials(credentials)
    _check_path(kind, path)
    options = _check_options(query, plain, kind)
    if kind == "cluster" and int(path[1:] or options.get("db", 0)) + int(options.get("db", 0)):
        raise RedisUrlError("a cluster has database 0 only", "no number of a database, or 0")
    own = "&".join(one for one in query.split("&") if not unquote(one).startswith("sentinel_"))
    address = RedisAddress(
        deployment=cast("Deployment", kind),
        servers=servers,
        master_name=path[1:] if kind == "sentinel" else "",
        sentinel_options=_sentinel_options(plain, own, options) if kind == "sentinel" else {},
        url=text,
        _start=f"{plain}://{credentials}{at}",
        _end=f"/?{own}" if own else "",
    )
    if plain == "rediss":
        _check_tls(address.url_of(*servers[0]))
    return address


def redis_url(text: str) -> str:
    """Return `text` if it is a valid Redis URL. Raises like `parse_redis_url`."""
    return parse_redis_url(text).url


def _check_standalone(text: str) -> str:
    parts = urlsplit(text)
    if "://" not in text or parts.fragment or not _has_valid_address(parts):
        raise ValueError(text)
    _check_options(parts.query, parts.scheme, "standalone")
    if parts.scheme == "rediss":
        _check_tls(text)
    return text


def redact_url(url: str) -> str:
    """Return a URL that is safe to show: without user, password and values of options that may be secret."""
    start, query, options = url.partition("?")
    if "@" in options:  # perhaps a password that is not percent-encoded
        return re.sub("(?s)//.*", "//***", start)
    shown: list[str] = []
    follows_secret = False
    for option in options.split("&"):
        name, equals, _ = option.partition("=")
        if name in _SECRETS or (equals and name not in OPTIONS and not follows_secret):
            shown.append(f"{name}=***")
            follows_secret = True
        else:  # after a secret, an unknown option is perhaps the rest of it
            shown.append("***" if follows_secret and name not in OPTIONS else option)
    return re.sub(r"(?s)//.*@", "//***@", start) + query + "&".join(shown)


def _standalone(text: str) -> RedisAddress:
    parts = urlsplit(text)
    host = unquote(parts.hostname or "")
    servers = () if parts.scheme == "unix" else ((host, parts.port or _DEFAULT_PORTS["standalone"]),)
    credentials, at, _ = parts.netloc.rpartition("@")
    end = parts.path + (f"?{parts.query}" if parts.query else "")
    return RedisAddress("standalone", servers, "", {}, text, f"{parts.scheme}://{credentials}{at}", end)


def _servers(texts: list[str], default_port: int) -> tuple[tuple[str, int], ...]:
    """Return hosts and ports. An error names a server by its number: its text may be a part of a password."""
    servers: dict[tuple[str, int], None] = {}
    for number, text in enumerate(texts, 1):
        try:
            parts = urlsplit(f"//{text}")
            host, port = unquote(parts.hostname or ""), parts.port
            host.encode("idna")
        except ValueError:
            host, port = "", 0
        if not host or port == 0 or re.search(r"[\s,@/]", host):
            raise RedisUrlError(f"server {number} has no valid host and port", "host[:port],…; IPv6 as [address]")
        server = host, port or default_port
        if server in servers:
            raise RedisUrlError(f"server {number} is a duplicate", "each server once")
        servers[server] = None
    return tuple(servers)


def _check_credentials(text: str) -> None:
    try:
        urlsplit(f"//{text}@host")
    except ValueError:
        detail = "the user or the password has characters that are not percent-encoded"
        raise RedisUrlError(detail, "[[user]:password@], both percent-encoded") from None


def _check_path(kind: str, path: str) -> None:
    if kind == "cluster":
        if not re.fullmatch(f"(/({_DATABASE})?)?", path):
            raise RedisUrlError("the path is invalid", "none: a cluster has database 0 only")
    elif path.strip("/") == "":
        raise RedisUrlError("the name of the master is missing", "redis+sentinel://host[:port],…/name")
    elif not re.fullmatch("/[A-Za-z0-9._-]+", path):
        allowed = "/name of letters, digits and . _ -; the number of the database is the option `db`"
        raise RedisUrlError("the path is not the name of a master", allowed)


def _sentinel_options(scheme: str, query: str, options: dict[str, str]) -> dict[str, Any]:
    own = {name: options[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in options}
    if scheme != "rediss":
        return own
    tls = {name: value for name, value in parse_url(f"rediss://h/?{query}").items() if name.startswith("ssl_")}
    return {**own, "ssl": True, **tls}


def _has_valid_address(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return not parts.netloc.rpartition("@")[2] and len(parts.path) > 1
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        return False
    parts.hostname.encode("idna")  # raises ValueError for a name that DNS cannot resolve
    return re.fullmatch(f"(/({_DATABASE})?)?", parts.path) is not None


def _check_options(query: str, scheme: str, kind: str) -> dict[str, str]:
    """Return the options of a query."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        _check_option(name, value, scheme, kind, follows_secret=not options.keys().isdisjoint(_SECRETS))
        if name in options:
            raise RedisUrlError(f"the option `{name}` is duplicated", f"`{name}` once")
        options[name] = value
    for name, needed in (("ssl_keyfile", "ssl_certfile"), ("sentinel_username", "sentinel_password")):
        if name in options and needed not in options:
            raise RedisUrlError(f"`{name}` needs `{needed}`", f"both, or `{needed}` alone")
    return options


def _check_option(name: str, value: str, scheme: str, kind: str, *, follows_secret: bool) -> None:
    option = OPTIONS.get(name)
    if option is None:  # after a secret perhaps the rest of it
        named = "an option after a password" if follows_secret else f"the option `{name}`"
        raise RedisUrlError(f"{named} is unknown", f"the options {', '.join(OPTIONS)}")
    if option.needs_tls and scheme != "rediss":
        raise RedisUrlError(f"the option `{name}` needs TLS", f"`{name}` with rediss://")
    if option.needs_sentinel and kind != "sentinel":
        raise RedisUrlError(f"the option `{name}` needs Sentinel", f"`{name}` with redis+sentinel://")
    if not option.is_valid(value):
        raise RedisUrlError(f"the value of `{name}` is invalid", option.allowed)


def _check_tls(url: str) -> None:
    """Build the TLS context as redis-py does, without a prompt for the password of a private key."""
    options: dict[str, Any] = {"ssl_password": "", **parse_url(url)}
    options.pop("connection_class")
    try:
        SSLConnection(**options).ssl_context.get()
    except (OSError, ValueError, RedisError) as error:
        allowed = "certificates, a private key with its password, and ciphers that OpenSSL accepts"
        raise RedisUrlError(f"the `ssl_…` options cannot be used ({error})", allowed) from error
