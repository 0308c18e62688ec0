"""The proxy, the certificates and the API key that a client uses to connect to the service."""

import ipaddress
import os
import ssl
from importlib.util import find_spec
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

_SOCKS: Final = {"socks5", "socks5h"}
_WHAT_TO_DO: Final = "set it to an http:// or https:// proxy, or add the service's host to `NO_PROXY`"


class UnusableProxy(ValueError):
    """The environment names an unusable proxy. The message names the variable and contains no password."""


def connection_options(url: str) -> dict[str, Any]:
    """Return the keyword arguments of an httpx client for the service at `url`. Raises `UnusableProxy`."""
    if httpx.URL(url).scheme == "https":
        context = httpx.create_ssl_context()  # with SSL_CERT_FILE and SSL_CERT_DIR
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused; httpx would read the certificates, in 20 ms
    return {"trust_env": False, "proxy": proxy_for(url), "verify": context}


def authorization(api_key: str, url: str) -> dict[str, str]:
    """Return the `Authorization` header for an API key, or no header for an empty one.

    Raises `ValueError` for an invalid key, with a message that does not contain the key.
    """
    key = api_key.strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the API key must consist of visible ASCII characters")
    if httpx.URL(url).userinfo:
        raise ValueError("credentials in the URL and an API key exclude each other: remove one of them")
    return {"Authorization": f"Bearer {key}"}


def proxy_for(url: str) -> httpx.Proxy | None:
    """Return the proxy for requests to `url`, or `None` for a direct connection.

    The connection is direct to a loopback host, to a host in NO_PROXY, and if no variable applies. Reads the variable
    for the scheme of `url`, else ALL_PROXY. Raises `UnusableProxy`.
    """
    target = httpx.URL(url)
    if is_loopback(target.host) or _is_bypassed(target):
        return None
    proxies = getproxies()
    kind = target.scheme if target.scheme in proxies else "all"
    return _proxy(_variable(kind), proxies[kind]) if kind in proxies else None


def is_loopback(host: str) -> bool:
    """Return whether `host` is `localhost`, a name below it, or a loopback or unspecified address."""
    name = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _is_bypassed(target: httpx.URL) -> bool:
    port = target.port or {"http": 80, "https": 443}.get(target.scheme)
    return bool(proxy_bypass(target.host) or proxy_bypass(f"{target.host}:{port}"))


def _variable(kind: str) -> str:
    """Return the name of the variable that `getproxies` read, which prefers the lower-case spelling."""
    name = f"{kind}_proxy"
    return name if os.environ.get(name) else name.upper()


def _proxy(variable: str, address: str) -> httpx.Proxy:
    scheme, separator, _ = address.partition("://")
    if not separator:
        scheme, address = "http", f"http://{address}"
    if scheme.lower() in _SOCKS and find_spec("socksio") is None:
        raise UnusableProxy(
            f"`{variable}` names a {scheme}:// proxy, which needs the package `socksio`: install it, or {_WHAT_TO_DO}"
        )
    if scheme.lower() not in {"http", "https", *_SOCKS}:
        raise UnusableProxy(f"`{variable}` names a proxy with the unsupported scheme {scheme!a}: {_WHAT_TO_DO}")
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise UnusableProxy(f"`{variable}` is not a valid URL: {_WHAT_TO_DO}")
    return proxy
