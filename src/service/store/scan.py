"""All keys of all nodes, in steps."""

from collections.abc import AsyncIterator
from typing import Final

from service.domain.errors import StoreMoving
from service.store.client import StoreClient
from service.store.deployments.node import Node

MOVED: Final = "Partitions have moved to other nodes during the scan, which may have missed keys. Run it again."


async def scan(
    client: StoreClient, pattern: str, count: int, *, any_data: bool = False
) -> AsyncIterator[tuple[Node, list[bytes]]]:
    """Yield the keys that match a pattern, with their node. `count` is that of one `SCAN`. A key may come twice.

    With `any_data` the data need not be that of this service. Raises what `StoreClient.read` raises, and `StoreMoving`
    if a partition has moved meanwhile, or is on its way.
    """
    deployment = client.deployment
    await client.find_nodes()
    for partition in client.partitions:
        deployment.node_of(partition)  # raises if its node is away
    held = {node: deployment.partitions_on(node) for node in deployment.masters}
    for node in held:
        async for keys in _scan_node(client, node, pattern, count, any_data=any_data):
            yield node, keys
    if not deployment.is_cluster:
        return
    for node, partitions in held.items():
        if partitions:  # no key has the name of a root: a node answers ASK when that would move
            await client.read_from(node, *(["EXISTS", one.root] for one in partitions), any_data=any_data)


async def _scan_node(
    client: StoreClient, node: Node, pattern: str, count: int, *, any_data: bool
) -> AsyncIterator[list[bytes]]:
    cursor, name = "0", ""
    while True:
        command = ["SCAN", cursor, "MATCH", pattern, "COUNT", str(count)]
        [(found, keys)] = await client.read_from(node, command, any_data=any_data)
        if name not in ("", node.name):  # a cursor of the former master means nothing to the present one
            raise StoreMoving(MOVED)
        cursor, name = str(int(found)), node.name
        yield keys
        if cursor == "0":
            return
