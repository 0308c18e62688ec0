import pytest

from service.api.client_identity import client_network, unmap_ipv4


@pytest.mark.parametrize(
    ("host", "address", "of_one"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1", "2001:0db8:0000:0000"),
        ("2001:db8:0:0:ffff::2", "2001:db8:0:0:ffff::2", "2001:0db8:0000:0000"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80:0000:0000:0000"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1", "192.0.2.1"),
        ("fe80::1%", "fe80::1%", "fe80::1%"),
        ("a client", "a client", "a client"),
    ],
)
def test_a_client_is_identified_by_its_network(host: str, address: str, of_one: str) -> None:
    assert (unmap_ipv4(host), client_network(host)) == (address, of_one)
