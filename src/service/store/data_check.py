"""Checks that the data of each node is that of this service, and registers the service where there is none."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from service.store import scripts
from service.store.auto_pipeline import AutoPipeline
from service.store.data_version import DATA_VERSION, READ_VERSION, VERSION_KEYS, check_version
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node
from service.store.partition import COMMON_ROOT, Partition
from service.store.partitions import Partitions
from service.store.records import time_reply_to_micros
from service.store.redis_errors import parse_reply, raise_errors
from service.store.scripts import Script

#: Runs a script in a partition, given its command, until a deadline, and returns its reply.
RunScript = Callable[[Script, Partition, tuple[Any, ...], float], Awaitable[list[Any]]]


class DataCheck:
    """Knows in which partitions Redis has the version of the data and the number of partitions.

    Both are written before the first change. On one Redis, a script writes them for all partitions, because data of one
    partition must not exist there. On a cluster each partition has its own, and that with the common root comes first.
    """

    def __init__(self, deployment: Deployment, partitions: Partitions, copy: bytes | None, run: RunScript) -> None:
        """Run scripts with `run`. With `copy`, the mark of a copy, the data must be that of this copy."""
        self._deployment = deployment
        self._partitions = partitions
        self._copy = copy
        self._run = run
        #: The partitions that have both. The only partition needs neither.
        self.registered: set[Partition] = {*partitions} if partitions.size == 1 else set()

    async def check(self, node: Node, pipeline: AutoPipeline, partition: Partition, deadline: float) -> None:
        """Read the clock of a node, and the data of a partition there. Raises if this service does not support it."""
        is_cluster = self._deployment.is_cluster
        commands = _versions_of(partition) if is_cluster else READ_VERSION
        time, *stored = raise_errors(await pipeline.ask(("TIME",), *commands, until=deadline))
        now = parse_reply("TIME", time_reply_to_micros, time)
        if is_cluster:
            self._check_one(partition, stored)
        elif check_version(*stored, partitions=self._partitions.size, copy=self._copy):
            self.registered.update(self._partitions)
        else:
            self.registered.clear()
        node.set_checked(pipeline, now)

    async def register(self, partition: Partition, deadline: float) -> None:
        """Write the version of this service and the number of partitions, if there is no other data.

        Raises `DataVersionUnsupported` or `PartitionsMismatch` if there is.
        """
        if self._deployment.is_cluster:
            common = next(one for one in self._partitions if one.root == COMMON_ROOT)
            for one in dict.fromkeys((common, partition)):
                await self._register_one(one, deadline)
        else:
            await self._register_all(deadline)

    async def _register_all(self, deadline: float) -> None:
        count, script, first = self._partitions.size, scripts.WRITE_VERSION, self._partitions.first
        command = ("EVALSHA", script.sha, len(VERSION_KEYS) + 1, *VERSION_KEYS, first.root, DATA_VERSION, count)
        _, *stored = await self._run(script, first, command, deadline)
        check_version(*stored, partitions=count)
        if count > 1:
            commands = [command for one in self._partitions for command in self._writes(one)]
            raise_errors(await self._deployment.node_of(first).pipeline.ask(*commands, until=deadline))
        self.registered.update(self._partitions)

    async def _register_one(self, partition: Partition, deadline: float) -> None:
        """Write what is missing in a partition of a cluster, and check what it then has."""
        commands = (*self._writes(partition), *_versions_of(partition))
        replies = await self._deployment.node_of(partition).changes.ask(*commands, until=deadline)
        self._check_one(partition, raise_errors(replies)[2:])

    def _writes(self, partition: Partition) -> tuple[tuple[str | int, ...], ...]:
        held = ((partition.version, DATA_VERSION), (partition.partitions, self._partitions.size))
        return tuple(("SET", *pair, "NX") for pair in held)

    def _check_one(self, partition: Partition, stored: list[Any]) -> None:
        version, count = stored
        if check_version(version, 0, count, partitions=self._partitions.size, copy=self._copy, partition=partition):
            self.registered.add(partition)
        else:
            self.registered.discard(partition)


def _versions_of(partition: Partition) -> tuple[tuple[str, str], ...]:
    return (("GET", partition.version), ("GET", partition.partitions))
