"""Validation of a Redis URL and its options, which rejects an invalid option at start and by name."""

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
    """A part of a Redis URL is invalid: `detail` says which one, `allowed` what is allowed."""

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(f"{detail}; allowed: {allowed}")
        self.detail = detail
        self.allowed = allowed


class Option(NamedTuple):
    """An option in the query of the URL: a test of its value, and a text that says what is allowed."""

    is_valid: Callable[[str], object]
    allowed: str
    #: Allowed with `rediss://` only.
    needs_tls: bool = True


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
}


def redis_url(text: str) -> str:
    """Return `text` if it is a valid Redis URL. Raises `RedisUrlError` for an option, and `ValueError` for the rest."""
    parts = urlsplit(text)
    if "://" not in text or parts.fragment or not _has_valid_address(parts):
        raise ValueError(text)
    seen: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _check_option(name, value, parts.scheme)
        if name in seen:
            raise RedisUrlError(f"the option `{name}` is duplicated", f"`{name}` once")
        seen.add(name)
    if "ssl_keyfile" in seen and "ssl_certfile" not in seen:
        raise RedisUrlError("`ssl_keyfile` needs `ssl_certfile`", "both, or `ssl_certfile` alone")
    if parts.scheme == "rediss":
        _check_tls(text)
    return text


def redact_url(url: str) -> str:
    """Return a URL that is safe to show: without user, password and values of options that may be secret."""
    start, query, options = url.partition("?")
    if "@" in options:  # perhaps a password that is not percent-encoded
        return re.sub("//.*", "//***", start)
    return re.sub(r"//.*@", "//***@", start) + query + re.sub(r"([^&=]*)=([^&]*)", _redact_option, options)


def _redact_option(option: re.Match[str]) -> str:
    name, value = option.groups()
    return f"{name}={value if name in OPTIONS and name != 'ssl_password' else '***'}"


def _has_valid_address(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return not parts.netloc.rpartition("@")[2] and len(parts.path) > 1
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        return False
    parts.hostname.encode("idna")  # raises ValueError for a name that DNS cannot resolve
    return re.fullmatch(f"(/({_DATABASE})?)?", parts.path) is not None


def _check_option(name: str, value: str, scheme: str) -> None:
    option = OPTIONS.get(name)
    if option is None:
        raise RedisUrlError(f"the option `{name}` is unknown", f"the options {', '.join(OPTIONS)}")
    if option.needs_tls and scheme != "rediss":
        raise RedisUrlError(f"the option `{name}` needs TLS", f"`{name}` with rediss://")
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
