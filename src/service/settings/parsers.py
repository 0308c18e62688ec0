"""What may stand in a variable of the environment: each function returns its value or raises `ValueError`."""

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
#: Each request's key is compared with all of them.
MAX_API_KEYS: Final = 100
_UNIT_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of the integers from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a parser of these words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(text)
        return text.lower()

    return parse


def host(text: str) -> str:
    """Return a host name or address, an IPv6 address without brackets."""
    if ":" in text:
        return str(IPv6Address(text))
    if not re.fullmatch(_HOST_NAME, text):
        raise ValueError(text)
    text.encode("idna")  # raises ValueError where no name server could be asked for it
    return text


def origins(text: str) -> tuple[str, ...]:
    """Return the origins of a list, each as browsers send it."""
    return tuple(one if one == "*" else normalize_origin(one) for one in _items(text))


def host_patterns(text: str) -> tuple[str, ...]:
    """Return the host names of a list in lower case, IPv6 addresses in brackets, as a Host header has them."""
    return tuple(_host_pattern(one.lower()) for one in _items(text))


def proxies(text: str) -> tuple[str, ...]:
    """Return the addresses and networks of a list."""
    listed = _items(text)
    for one in listed:
        if one != "*":
            ip_network(one)
    return listed


def api_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys of a list: names and keys each once, at least one."""
    found = tuple(map(_api_key, re.split(r"[\s,]+", text.strip(" \t\r\n,"))))
    if not are_unique(found):
        raise ValueError("a name or a key twice, or too many")
    return found


def are_unique(keys: tuple[ApiKey, ...]) -> bool:
    """Say whether keys can be told apart, and are not too many."""
    names, digests = {one.name for one in keys}, {one.digest for one in keys}
    return len(keys) == len(names) == len(digests) <= MAX_API_KEYS


def api_keys_file(text: str) -> tuple[ApiKey, ...]:
    """Return the keys that are listed in a file."""
    try:
        return api_keys(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(text) from error


def _api_key(text: str) -> ApiKey:
    match = _API_KEY.fullmatch(text)
    if match is None:
        raise ValueError("no key")
    name, scopes, digest = match.groups()
    return ApiKey(name, frozenset(map(Scope, scopes.split("+"))), bytes.fromhex(digest))


def boolean(text: str) -> bool:
    """Return whether something is on."""
    return choice("0", "1")(text) == "1"


def rate_limit(text: str) -> RateLimit | None:
    """Return how many requests in how long, `None` for off."""
    if text.lower() == "off":
        return None
    match = re.fullmatch(r"(?P<requests>[1-9][0-9]{0,6})/(?P<unit>second|minute|hour|day)", text.lower())
    if match is None:
        raise ValueError(text)
    return RateLimit(int(match["requests"]), _UNIT_SECONDS[match["unit"]])


def _items(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _host_pattern(text: str) -> str:
    if text == "*" or re.fullmatch(rf"(\*\.)?{_HOST_NAME}", text):
        return text
    bracketed = re.fullmatch(r"\[(.*)\]", text)
    return f"[{IPv6Address(bracketed[1] if bracketed else text)}]"
