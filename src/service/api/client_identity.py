"""The identity of a client: its API key, else its network address."""

from ipaddress import IPv6Address, ip_address

from litestar.types import Scope

from service.api.request_context import context_of


def unmap_ipv4(host: str) -> str:
    """Return an IPv4 address in its own form; a dual-stack socket shows it as `::ffff:192.0.2.1`."""
    try:
        address = ip_address(host)
    except ValueError:  # not an IP address: some proxies forward other names
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)


def client_id(scope: Scope) -> str:
    """Return the client of a request, as limits count it: `key:NAME`, a network, or `local`."""
    key = context_of(scope).api_key
    if key is not None:
        return f"key:{key.name}"
    client = scope["client"]
    return "local" if client is None else client_network(client[0])


def client_network(host: str) -> str:
    """Return an IPv4 address as it is, and the /64 network of an IPv6 address, which usually is one client's."""
    try:
        address = ip_address(unmap_ipv4(host))
    except ValueError:
        return host
    # From the number, because `exploded` fails for an address with a zone, such as `fe80::1%eth0`.
    return IPv6Address(int(address)).exploded[:19] if isinstance(address, IPv6Address) else str(address)
