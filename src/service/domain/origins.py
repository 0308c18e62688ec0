"""Hosts and web origins in one spelling, so that two that mean the same are equal (RFC 6454, section 4)."""

import re
from ipaddress import IPv6Address
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{0,5}))?")
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:\[]*)(?::[0-9]*)?")


def normalize_origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case, without the default port. Raises `ValueError`."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{text!r} is not an origin")
    scheme, host, digits = match.groups()
    port = int(digits or _DEFAULT_PORTS[scheme])
    if port > 65535:
        raise ValueError(f"{text!r} is not an origin")
    return f"{scheme}://{_short(host)}{'' if port == _DEFAULT_PORTS[scheme] else f':{port}'}"


def normalize_host(text: str) -> str:
    """Return the host of a `Host` header: in lower case, without its port, an IPv6 address in its short form."""
    lower = text.lower()
    match = _HOST.fullmatch(lower)
    if match is None:
        return lower
    try:
        return _short(match[1])
    except ValueError:
        return match[1]


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page of `origin` comes from where a request with this `Host` header goes.

    The scheme is the origin's: a proxy may have ended TLS. A host without a port has the default port of that scheme.
    """
    scheme = origin.partition("://")[0]
    try:
        return normalize_origin(origin) == normalize_origin(f"{scheme}://{host}")
    except ValueError:
        return False


def _short(host: str) -> str:
    """Return a host, an IPv6 address in its short form. Raises `ValueError`."""
    return f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") else host
