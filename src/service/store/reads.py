"""Read commands of several partitions, each sent to the node that has its key."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis import exceptions as redis_errors

from service.domain import errors
from service.store.deadlines import gather
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node
from service.store.partition import Partition
from service.store.partitions import Partitions

#: What a node replies when it does not have a key, or not now.
REDIRECTIONS: Final = (redis_errors.AskError, redis_errors.TryAgainError, redis_errors.ClusterDownError)

#: Sends commands to a node that has a partition, until a deadline, and returns their replies.
Ask = Callable[[Node, Partition, Sequence[Sequence[str]], float], Awaitable[list[Any]]]


async def ask_nodes(
    deployment: Deployment,
    partitions: Partitions,
    ask: Ask,
    commands: Sequence[Sequence[str]],
    deadline: float,
    *,
    is_partial: bool = False,
) -> list[Any]:
    """Return the replies to read commands, each from the node that has its key; those without a key from the first.

    If `is_partial`, the replies of nodes that are away are errors; otherwise such an error is raised.
    """
    replies: list[Any] = [None] * len(commands)
    owners = [partitions.holding(command[1]) if len(command) > 1 else partitions.first for command in commands]
    left: Sequence[int] = range(len(commands))
    attempt = 0
    while True:
        groups: dict[Node | errors.StoreUnavailable, list[int]] = {}
        for index in left:
            groups.setdefault(_node_of(deployment, owners[index], is_partial=is_partial), []).append(index)

        async def ask_one(node: Node | errors.StoreUnavailable, indexes: list[int]) -> list[Any]:
            if isinstance(node, errors.StoreUnavailable):
                return [node] * len(indexes)
            try:
                return await ask(node, owners[indexes[0]], [commands[index] for index in indexes], deadline)
            except errors.StoreUnavailable as error:
                if not is_partial:
                    raise
                return [error] * len(indexes)

        parts = await gather(ask_one(node, indexes) for node, indexes in groups.items())
        for indexes, part in zip(groups.values(), parts, strict=True):
            for index, reply in zip(indexes, part, strict=True):
                replies[index] = reply
        left = [index for index in left if isinstance(replies[index], REDIRECTIONS)]
        if not left:
            return replies
        await deployment.handle(replies[left[0]], owners[left[0]], attempt, deadline)
        attempt += 1


def _node_of(deployment: Deployment, partition: Partition, *, is_partial: bool) -> Node | errors.StoreUnavailable:
    """Return the node of a partition. If `is_partial`, one that is away is an error."""
    try:
        node = deployment.node_of(partition)
    except errors.StoreUnavailable as error:
        if not is_partial:
            raise
        return error
    return errors.StorePartitionUnavailable() if is_partial and node.is_away else node
