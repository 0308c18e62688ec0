"""Who a client is, by the address that it comes from."""

from ipaddress import IPv6Address, ip_address

from litestar.types import Scope


def unmapped(host: str) -> str:
    """Return an address as its client has it: a socket that listens for both sees IPv4 as `::ffff:192.0.2.1`."""
    try:
        address = ip_address(host)
    except ValueError:  # a proxy that names its clients otherwise
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)


def client_of(scope: Scope) -> str:
    """Return whose request it is, as limits count it."""
    client = scope["client"]
    return "local" if client is None else network(client[0])


def network(host: str) -> str:
    """Return what belongs to one client: an IPv4 address, or of IPv6 the /64 network, as one client has all of it."""
    try:
        address = ip_address(unmapped(host))
    except ValueError:
        return host
    return address.exploded[:19] if isinstance(address, IPv6Address) else str(address)
