"""Read commands of several partitions, each sent to the node that has its key."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from service.domain.errors import JobStateError, StoreMoving, StorePartitionUnavailable, StoreUnavailable
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node, partition_unavailable
from service.store.partition import Partition
from service.store.redis_errors import REDIRECTIONS, map_error

#: Seconds that a partial read waits for a node.
PARTIAL_TIMEOUT: Final = 0.5

#: Sends commands to a node until a deadline, and returns their replies.
Ask = Callable[[Node, Sequence[Sequence[str]], float], Awaitable[list[Any]]]


class NodeReads:
    """Reads from the nodes of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def read(
        self,
        ask: Ask,
        commands: Sequence[Sequence[str]],
        places: Sequence[Partition],
        deadline: float,
        *,
        is_partial: bool,
    ) -> list[Any]:
        """Send commands by `ask`, each to the node that has its key, and return the replies.

        Those without a key go to the nodes of `places`, in their order, and then from the beginning.

        With `is_partial`, the replies of nodes that are away are of the class `StoreUnavailable`. Otherwise one of them
        is raised.
        """
        deployment = self._deployment
        if not deployment.is_cluster:
            return await ask(deployment.nodes[0], commands, deadline)
        replies: list[Any] = [None] * len(commands)
        keyless, holding = itertools.cycle(places), deployment.partitions.holding
        owners = [holding(command[1]) if len(command) > 1 else next(keyless) for command in commands]
        left: Iterable[int] = range(len(commands))
        for attempt in itertools.count():
            await self._read_once(ask, replies, left, commands, owners, deadline, is_partial=is_partial)
            left = [index for index in left if isinstance(replies[index], REDIRECTIONS)]
            if not left:
                return replies
            try:
                await deployment.handle(replies[left[0]], attempt, deadline)
            except Exception as error:
                if not (is_partial and issubclass(map_error(error), StoreUnavailable)):
                    raise
                for index in left:
                    replies[index] = StoreMoving()
                return replies
        raise AssertionError

    async def _read_once(
        self,
        ask: Ask,
        replies: list[Any],
        indexes: Iterable[int],
        commands: Sequence[Sequence[str]],
        owners: Sequence[Partition],
        deadline: float,
        *,
        is_partial: bool,
    ) -> None:
        """Ask the nodes of some commands at the same time, and set their replies."""
        if not self._deployment.is_located:
            await self._deployment.locate(deadline)
        by_node: dict[Node, list[int]] = {}
        for index in indexes:
            try:
                by_node.setdefault(self._deployment.node_of(owners[index]), []).append(index)
            except StorePartitionUnavailable as error:
                if not is_partial:
                    raise
                replies[index] = error

        async def ask_one(node: Node, own: list[int]) -> None:
            wanted = [commands[index] for index in own]
            parts = await (_ask_partly(ask, node, wanted, deadline) if is_partial else ask(node, wanted, deadline))
            for index, reply in zip(own, parts, strict=True):
                replies[index] = reply

        await asyncio.gather(*(ask_one(node, own) for node, own in by_node.items()))


async def _ask_partly(ask: Ask, node: Node, commands: Sequence[Sequence[str]], deadline: float) -> list[Any]:
    """Ask a node, again if the connection breaks. The replies of one that is away are errors."""
    until = min(deadline, time.monotonic() + PARTIAL_TIMEOUT)
    for attempt in range(2):
        try:
            return await ask(node, commands, until)
        except Exception as error:
            if not _is_of_node(error):
                raise
            if attempt or time.monotonic() >= until:
                return [partition_unavailable(node, error)] * len(commands)
    raise AssertionError


def _is_of_node(error: Exception) -> bool:
    """Whether a node has failed. Other domain errors say that its data is not that of this service."""
    if isinstance(error, JobStateError):
        return isinstance(error, StorePartitionUnavailable)
    return issubclass(map_error(error), StoreUnavailable)
