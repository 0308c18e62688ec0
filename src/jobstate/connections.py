"""How a client connects to the service: through which proxy, with which certificates and which API key."""

import ipaddress
import os
from importlib.util import find_spec
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

_SOCKS: Final = {"socks5", "socks5h"}
_WHAT_TO_DO: Final = "set it to a proxy with http:// or https://, or add the host of the service to `NO_PROXY`"


class UnusableProxy(ValueError):
    """The environment names a proxy that cannot be used; the message names the variable, and shows no password."""


def connection_options(url: str) -> dict[str, Any]:
    """Return the keyword arguments for an httpx client of the service at `url`. Raises `UnusableProxy`."""
    options: dict[str, Any] = {"trust_env": False, "proxy": proxy_for(url)}
    if httpx.URL(url).scheme == "https":
        options["verify"] = httpx.create_ssl_context()  # with SSL_CERT_FILE and SSL_CERT_DIR
    return options


def authorization(api_key: str, url: str) -> dict[str, str]:
    """Return the header that shows an API key; empty for none. Raises `ValueError`, which does not show it either."""
    key = api_key.strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an API key has visible ASCII characters only")
    if httpx.URL(url).userinfo:
        raise ValueError("a password in the URL and an API key would go into one header: give one of them")
    return {"Authorization": f"Bearer {key}"}


def proxy_for(url: str) -> httpx.Proxy | None:
    """Return the proxy for requests to `url`; `None` for this machine, and where NO_PROXY or no variable applies.

    Only the variable that applies to the scheme of `url` is read, or else ALL_PROXY. Raises `UnusableProxy`.
    """
    target = httpx.URL(url)
    if is_loopback(target.host) or _is_bypassed(target):
        return None
    proxies = getproxies()
    kind = target.scheme if target.scheme in proxies else "all"
    return _proxy(_variable(kind), proxies[kind]) if kind in proxies else None


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine: `localhost`, names below it, loopback and unspecified addresses."""
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
    """Return the name of the variable that `getproxies` has read: of two spellings the one in lower case."""
    name = f"{kind}_proxy"
    return name if os.environ.get(name) else name.upper()


def _proxy(variable: str, address: str) -> httpx.Proxy:
    scheme, separator, _ = address.partition("://")
    if not separator:
        scheme, address = "http", f"http://{address}"
    if scheme.lower() in _SOCKS and find_spec("socksio") is None:
        raise UnusableProxy(
            f"`{variable}` names a proxy with {scheme}://, for which the package `socksio` is missing: install it, "
            f"or {_WHAT_TO_DO}"
        )
    if scheme.lower() not in {"http", "https", *_SOCKS}:
        raise UnusableProxy(f"`{variable}` names a proxy with {scheme!a}, which is not supported: {_WHAT_TO_DO}")
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise UnusableProxy(f"`{variable}` is not a valid URL: {_WHAT_TO_DO}")
    return proxy
