"""Normalization of hosts and web origins, so that equal ones compare equal (RFC 6454, section 4)."""

import re
from ipaddress import IPv6Address
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{0,5}))?")
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:\[]*)(?::[0-9]*)?")


def normalize_origin(text: str) -> str:
    """Return an origin as browsers send it, in lower case and without the default port. Raises `ValueError`."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{text!r} is not an origin")
    scheme, host, digits = match.groups()
    port = int(digits or _DEFAULT_PORTS[scheme])
    if port > 65535:
        raise ValueError(f"{text!r} is not an origin")
    return f"{scheme}://{_compress_ipv6(host)}{'' if port == _DEFAULT_PORTS[scheme] else f':{port}'}"


def normalize_host(text: str) -> str:
    """Return the host of a `Host` header in lower case, without port, with an IPv6 address in its shortest form."""
    host = text.lower()
    match = _HOST.fullmatch(host)
    if match is None:
        return host
    try:
        return _compress_ipv6(match[1])
    except ValueError:
        return match[1]


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page of `origin` was served by the host of this `Host` header.

    The scheme is that of the origin, because a proxy may terminate TLS. A host without a port has its default port.
    """
    scheme = origin.partition("://")[0]
    try:
        return normalize_origin(origin) == normalize_origin(f"{scheme}://{host}")
    except ValueError:
        return False


def _compress_ipv6(host: str) -> str:
    """Return the host, with an IPv6 address in its shortest form. Raises `ValueError`."""
    return f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") else host
