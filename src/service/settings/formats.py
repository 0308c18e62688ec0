"""The types of settings: how their values are written in a variable."""

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

from msgspec import Meta, convert

from service.domain.api_keys import ApiKey, Scope
from service.domain.constraints import PARTITION_COUNTS
from service.domain.origins import normalize_origin
from service.domain.rate_limits import RateLimit
from service.settings.redis_url import redis_url

_HOST_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
API_KEY_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_API_KEY: Final = re.compile(rf"({API_KEY_NAME}):([a-z+]+):([0-9A-Fa-f]{{64}})")
#: A maximum, because each request's key is compared with every API key.
MAX_API_KEYS: Final = 100
_UNIT_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Format(NamedTuple):
    """How values of a type are written, as metadata of the type."""

    #: Returns the value, or raises `ValueError` or `msgspec.ValidationError`.
    parse: Callable[[str], Any]
    allowed: str
    #: The value is not shown in errors.
    is_secret: bool = False


def format_of(hint: Any) -> Format:
    """Return the format of an annotated type: its own, or one that follows from an integer's bounds or from words."""
    base, *metadata = get_args(hint)
    if own := next((one for one in metadata if isinstance(one, Format)), None):
        return own
    if base is int:
        bounds = next(one for one in metadata if isinstance(one, Meta))
        return Format(lambda text: convert(_integer(text), hint), f"an integer from {bounds.ge} to {bounds.le}")
    *words, last = get_args(base)
    return Format(lambda text: convert(text.lower(), hint), f"{', '.join(words)} or {last}")


def are_unique(keys: tuple[ApiKey, ...]) -> bool:
    """Return whether names and keys are unique, and at most `MAX_API_KEYS`."""
    names, digests = {key.name for key in keys}, {key.digest for key in keys}
    return len(keys) == len(names) == len(digests) <= MAX_API_KEYS


def _integer(text: str) -> int:
    """Return an integer of decimal digits; msgspec would also accept `1e1` and `1.0`."""
    if not re.fullmatch("[0-9]{1,12}", text):
        raise ValueError(text)
    return int(text)


def _partitions(text: str) -> int:
    if (count := _integer(text)) not in PARTITION_COUNTS:
        raise ValueError(text)
    return count


def _host(text: str) -> str:
    """Return a host name or an address; an IPv6 address has no brackets."""
    if ":" in text:
        return str(IPv6Address(text))
    if not re.fullmatch(_HOST_NAME, text):
        raise ValueError(text)
    text.encode("idna")  # raises ValueError for a name that DNS cannot resolve
    return text


def _list_of(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of a comma-separated list, in which `*` stands for any."""
    return lambda text: tuple(item if item == "*" else parse(item) for item in map(str.strip, text.split(",")) if item)


def _host_pattern(text: str) -> str:
    """Return a host as a `Host` header has it: in lower case, IPv6 in brackets."""
    text = text.lower()
    if re.fullmatch(rf"(\*\.)?{_HOST_NAME}", text):
        return text
    bracketed = re.fullmatch(r"\[(.*)\]", text)
    return f"[{IPv6Address(bracketed[1] if bracketed else text)}]"


def _proxy(text: str) -> str:
    ip_network(text)
    return text


def _api_keys(text: str) -> tuple[ApiKey, ...]:
    keys = tuple(map(_api_key, re.split(r"[\s,]+", text.strip(" \t\r\n,"))))
    if not are_unique(keys):
        raise ValueError("a duplicate name or key, or too many keys")
    return keys


def _api_key(text: str) -> ApiKey:
    match = _API_KEY.fullmatch(text)
    if match is None:
        raise ValueError("not an API key")
    name, scopes, digest = match.groups()
    return ApiKey(name, frozenset(map(Scope, scopes.split("+"))), bytes.fromhex(digest))


def _api_keys_file(path: str) -> tuple[ApiKey, ...]:
    try:
        return _api_keys(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(path) from error


def _rate_limit(text: str) -> RateLimit | None:
    if text.lower() == "off":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,6})/(second|minute|hour|day)", text.lower())
    if match is None:
        raise ValueError(text)
    return RateLimit(int(match[1]), _UNIT_SECONDS[match[2]])


_KEYS: Final = (
    f"1 to {MAX_API_KEYS} of NAME:SCOPE+SCOPE:SHA256, separated by commas or spaces; "
    f"`jobstate key NAME --scopes {','.join(Scope)}` generates one"
)
_REDIS_URL: Final = (
    "redis://[[user]:password@]host[:port][/db], rediss://… for TLS (with options ssl_…), "
    "unix://[[user]:password@]/path[?db=…], redis+sentinel://[[user]:password@]host[:port],…/name[?db=…], or "
    "redis+cluster://[[user]:password@]host[:port],… (rediss+… for TLS)"
)
_HOSTS: Final = "host names such as jobs.example.org or *.example.org and addresses, separated by commas, or *"
_PROXIES: Final = "addresses and networks such as 10.0.0.0/8, separated by commas, or *"
_ORIGINS: Final = "origins such as https://example.org, separated by commas, or *"
_RATE_LIMIT: Final = "off, or a number per second, minute, hour or day, such as 600/minute"

Flag = Annotated[bool, Format(lambda text: convert(text, Literal["0", "1"]) == "1", "0 or 1")]
RedisUrl = Annotated[str | None, Format(redis_url, _REDIS_URL)]
Directory = Annotated[Path, Format(Path, "a directory")]
Partitions = Annotated[int, Format(_partitions, f"a power of two from 1 to {PARTITION_COUNTS[-1]}")]
Host = Annotated[str, Format(_host, "a host name or address")]
HostPatterns = Annotated[tuple[str, ...] | None, Format(_list_of(_host_pattern), _HOSTS)]
Proxies = Annotated[tuple[str, ...], Format(_list_of(_proxy), _PROXIES)]
Origins = Annotated[tuple[str, ...], Format(_list_of(normalize_origin), _ORIGINS)]
Limit = Annotated[RateLimit | None, Format(_rate_limit, _RATE_LIMIT)]
ApiKeys = Annotated[tuple[ApiKey, ...], Format(_api_keys, _KEYS, is_secret=True)]
ApiKeysFile = Annotated[tuple[ApiKey, ...], Format(_api_keys_file, f"a readable file with {_KEYS}")]
