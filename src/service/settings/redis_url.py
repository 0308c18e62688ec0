"""Validation of a Redis URL with every option, so that a wrong one is refused at start and by name."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

_DATABASE: Final = "[0-9]{1,10}"
#: TLS 1.2 and 1.3, as the `ssl` module numbers them.
_TLS_VERSIONS: Final = ("771", "772")


class RedisUrlError(ValueError):
    """A part of a Redis URL is wrong: `detail` says which, `allowed` what may stand there."""

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(f"{detail}; allowed: {allowed}")
        self.detail = detail
        self.allowed = allowed


class Option(NamedTuple):
    """An option in the query of the URL: whether a value fits, and what may stand there."""

    fits: Callable[[str], object]
    allowed: str
    #: Whether it goes with `rediss://` only.
    of_tls: bool = True


def _words(*allowed: str) -> Option:
    return Option(allowed.__contains__, ", ".join(allowed))


def _are_flags(text: str) -> bool:
    return all(flag.strip() in ssl.VerifyFlags.__members__ for flag in text.strip("[]").split(","))


_FILE: Final = Option(lambda text: Path(text).is_file(), "the path of a file")
_FLAGS: Final = Option(_are_flags, f"names out of {', '.join(ssl.VerifyFlags.__members__)}, separated by commas")

#: The options that may stand in the query. redis-py takes more there; the service sets those itself.
OPTIONS: Final = {
    "db": Option(re.compile(_DATABASE).fullmatch, "the number of a database", of_tls=False),
    "ssl_cert_reqs": _words("none", "optional", "required"),
    "ssl_check_hostname": _words("true", "false", "yes", "no", "1", "0"),
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
}


def redis_url(text: str) -> str:
    """Return the URL of a Redis. Raises `RedisUrlError` for an option, else `ValueError`."""
    parts = urlsplit(text)
    if "://" not in text or parts.fragment or not _names_a_place(parts):
        raise ValueError(text)
    seen: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _check(name, value, parts.scheme)
        if name in seen:
            raise RedisUrlError(f"the option `{name}` is given twice", f"`{name}` once")
        seen.add(name)
    if "ssl_keyfile" in seen and "ssl_certfile" not in seen:
        raise RedisUrlError("`ssl_keyfile` needs `ssl_certfile`", "both, or `ssl_certfile` alone")
    if parts.scheme == "rediss":
        _check_tls(text)
    return text


def redact_url(url: str) -> str:
    """Return a URL for people to read: without user and password, and without values of options that may be secret."""
    start, query, options = url.partition("?")
    if "@" in options:  # of a password that is not percent-encoded, or of an option: which of them cannot be known
        return re.sub("//.*", "//***", start)
    return re.sub(r"//.*@", "//***@", start) + query + re.sub(r"([^&=]*)=([^&]*)", _shown, options)


def _shown(option: re.Match[str]) -> str:
    name, value = option.groups()
    return f"{name}={value if name in OPTIONS and name != 'ssl_password' else '***'}"


def _names_a_place(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return not parts.netloc.rpartition("@")[2] and len(parts.path) > 1
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        return False
    parts.hostname.encode("idna")  # raises ValueError where no name server could be asked for it
    return re.fullmatch(f"(/({_DATABASE})?)?", parts.path) is not None


def _check(name: str, value: str, scheme: str) -> None:
    option = OPTIONS.get(name)
    if option is None:
        raise RedisUrlError(f"the option `{name}` is unknown", f"the options {', '.join(OPTIONS)}")
    if option.of_tls and scheme != "rediss":
        raise RedisUrlError(f"the option `{name}` needs TLS", f"`{name}` with rediss://")
    if not option.fits(value):
        raise RedisUrlError(f"the value of `{name}` is invalid", option.allowed)


def _check_tls(url: str) -> None:
    """Set TLS up as redis-py will; without asking a terminal for the password of a key."""
    options: dict[str, Any] = {"ssl_password": "", **parse_url(url)}
    options.pop("connection_class")
    try:
        SSLConnection(**options).ssl_context.get()
    except (OSError, ValueError, RedisError) as error:
        allowed = "certificates, a key with its password, and ciphers that OpenSSL accepts"
        raise RedisUrlError(f"the `ssl_…` options cannot be used ({error})", allowed) from error
