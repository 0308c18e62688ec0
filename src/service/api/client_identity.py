"""Who a client is: by its API key where there are some, else by the address that it comes from."""

from ipaddress import IPv6Address, ip_address
from typing import Final

from litestar.types import Scope

from service.domain.api_keys import ApiKey

#: Where a request's state has the key that it was let in by.
KEY: Final = "api_key"


def unmap_ipv4(host: str) -> str:
    """Return an address as its client has it: a socket that listens for both sees IPv4 as `::ffff:192.0.2.1`."""
    try:
        address = ip_address(host)
    except ValueError:  # a proxy that names its clients otherwise
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return host if mapped is None else str(mapped)


def client_id(scope: Scope) -> str:
    """Return whose request it is, as limits count it."""
    key = get_api_key(scope)
    if key is not None:
        return f"key:{key.name}"  # no address looks like this
    client = scope["client"]
    return "local" if client is None else client_network(client[0])


def get_api_key(scope: Scope) -> ApiKey | None:
    """Return the API key that a request was let in by."""
    key: ApiKey | None = scope["state"].get(KEY)
    return key


def client_network(host: str) -> str:
    """Return what belongs to one client: an IPv4 address, or of IPv6 the /64 network, as one client has all of it."""
    try:
        address = ip_address(unmap_ipv4(host))
    except ValueError:
        return host
    # Made anew of its number: the library fails to write out an address with a zone, such as `fe80::1%eth0`.
    return IPv6Address(int(address)).exploded[:19] if isinstance(address, IPv6Address) else str(address)
