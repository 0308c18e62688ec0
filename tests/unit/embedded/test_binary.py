import pytest

from service.embedded.binary import ServerInfo

VALKEY = ServerInfo("valkey", (8, 1, 4))
REDIS = ServerInfo("redis", (7, 4, 0))


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        (VALKEY, VALKEY, True),
        (VALKEY, ServerInfo("valkey", (7, 2, 5)), True),
        (VALKEY, ServerInfo("valkey", (8, 1, 5)), False),
        (VALKEY, ServerInfo("redis", (7, 2, 13)), True),
        (VALKEY, ServerInfo("redis", (7, 4, 0)), False),
        (REDIS, REDIS, True),
        (REDIS, ServerInfo("redis", (8, 0, 0)), False),
        (REDIS, ServerInfo("valkey", (7, 2, 5)), False),
    ],
    ids=str,
)
def test_a_server_reads_data_of_its_product_up_to_its_version_and_valkey_that_of_redis_7_2(
    reader: ServerInfo, writer: ServerInfo, expected: bool
) -> None:
    assert reader.can_read_data_of(writer) is expected
