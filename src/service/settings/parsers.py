"""Parsers of environment variables: each returns the value or raises `ValueError`."""

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Final

from service.domain.api_keys import ApiKey, Scope
from service.domain.origins import normalize_origin
from service.domain.rate_limits import RateLimit

_HOST_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
API_KEY_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_API_KEY: Final = re.compile(rf"({API_KEY_NAME}):([a-z+]+):([0-9A-Fa-f]{{64}})")
#: A maximum, because each request's key is compared with every API key.
MAX_API_KEYS: Final = 100
_UNIT_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a parser of the integers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(text)
        return int(text)

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a parser of one of these words, ignoring case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(text)
        return text.lower()

    return parse


def host(text: str) -> str:
    """Return a host name or an address; an IPv6 address has no brackets."""
    if ":" in text:
        return str(IPv6Address(text))
    if not re.fullmatch(_HOST_NAME, text):
        raise ValueError(text)
    text.encode("idna")  # raises ValueError for a name that DNS cannot resolve
    return text


def origins(text: str) -> tuple[str, ...]:
    """Return the origins of a comma-separated list, normalized."""
    return tuple(item if item == "*" else normalize_origin(item) for item in _items(text))


def host_patterns(text: str) -> tuple[str, ...]:
    """Return the hosts of a comma-separated list as a `Host` header has them: in lower case, IPv6 in brackets."""
    return tuple(_host_pattern(item.lower()) for item in _items(text))


def proxies(text: str) -> tuple[str, ...]:
    """Return the addresses and networks of a comma-separated list."""
    items = _items(text)
    for item in items:
        if item != "*":
            ip_network(item)
    return items


def api_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the API keys of a list that is separated by commas or whitespace."""
    keys = tuple(map(_api_key, re.split(r"[\s,]+", text.strip(" \t\r\n,"))))
    if not are_unique(keys):
        raise ValueError("a duplicate name or key, or too many keys")
    return keys


def are_unique(keys: tuple[ApiKey, ...]) -> bool:
    """Return whether names and keys are unique, and at most `MAX_API_KEYS`."""
    names, digests = {key.name for key in keys}, {key.digest for key in keys}
    return len(keys) == len(names) == len(digests) <= MAX_API_KEYS


def api_keys_file(text: str) -> tuple[ApiKey, ...]:
    """Return the API keys in the file at the path `text`."""
    try:
        return api_keys(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(text) from error


def _api_key(text: str) -> ApiKey:
    match = _API_KEY.fullmatch(text)
    if match is None:
        raise ValueError("not an API key")
    name, scopes, digest = match.groups()
    return ApiKey(name, frozenset(map(Scope, scopes.split("+"))), bytes.fromhex(digest))


def boolean(text: str) -> bool:
    """Return whether the text is `1` and not `0`."""
    return choice("0", "1")(text) == "1"


def rate_limit(text: str) -> RateLimit | None:
    """Return a rate limit such as `600/minute`, or `None` for `off`."""
    if text.lower() == "off":
        return None
    match = re.fullmatch(r"(?P<requests>[1-9][0-9]{0,6})/(?P<unit>second|minute|hour|day)", text.lower())
    if match is None:
        raise ValueError(text)
    return RateLimit(int(match["requests"]), _UNIT_SECONDS[match["unit"]])


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _host_pattern(text: str) -> str:
    if text == "*" or re.fullmatch(rf"(\*\.)?{_HOST_NAME}", text):
        return text
    bracketed = re.fullmatch(r"\[(.*)\]", text)
    return f"[{IPv6Address(bracketed[1] if bracketed else text)}]"
