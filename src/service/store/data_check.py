"""Checks that the data of each node is that of this service, and registers the service where there is none."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from service.domain.errors import StorePartitionUnavailable
from service.store import scripts
from service.store.auto_pipeline import AutoPipeline
from service.store.data_version import DATA_VERSION, READ_VERSION, VERSION_KEYS, check_version
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node
from service.store.partition import COMMON_ROOT, Partition
from service.store.records import time_reply_to_micros
from service.store.redis_errors import NODE_ERRORS, REDIRECTIONS, parse_reply, raise_errors
from service.store.scripts import Script

#: Seconds that the node of the common partition has to tell whether a copy has filled the database.
COMMON_TIMEOUT: Final = 0.5

#: Runs a script in a partition, given its command, until a deadline, and returns its reply.
RunScript = Callable[[Script, Partition, tuple[Any, ...], float], Awaitable[list[Any]]]


class DataCheck:
    """Knows in which partitions Redis has the version of the data and the number of partitions.

    Both are written before the first change. On one Redis, a script writes them for all partitions, because data of one
    partition must not exist there. On a cluster each partition has its own, and that with the common root comes first.
    """

    def __init__(self, deployment: Deployment, copy: bytes | None) -> None:
        """With `copy`, the mark of a copy, the data must be that of this copy."""
        self._deployment = deployment
        self._partitions = partitions = deployment.partitions
        self._copy = copy
        #: The partition that is registered first. A copy marks it first, and writes its version last.
        self._common: Final = next((one for one in partitions if one.root == COMMON_ROOT), None)
        self._is_common_checked = False
        #: The partitions that have both. The only partition needs neither.
        self.registered: Final[set[Partition]] = {*partitions} if partitions.size == 1 else set()

    async def check(self, node: Node, pipeline: AutoPipeline, deadline: float) -> None:
        """Read the clock of a node, and check the data there. Raises if this service does not support it."""
        is_cluster = self._deployment.is_cluster
        if is_cluster and self._common and not self._is_common_checked:
            await self._check_common(self._common, deadline)
        held = self._deployment.partitions_on(node) if is_cluster else ()
        commands = [command for one in held for command in _versions_of(one)] if is_cluster else READ_VERSION
        reply, *stored = await pipeline.ask(("TIME",), *commands, until=deadline)
        now = parse_reply("TIME", time_reply_to_micros, *raise_errors([reply]))
        if not is_cluster:
            self._check_all(raise_errors(stored))
        for partition, values in zip(held, zip(stored[::2], stored[1::2], strict=True), strict=False):
            if not any(isinstance(value, REDIRECTIONS) for value in values):  # else it is on another node now
                self._check_one(partition, raise_errors([*values]))
        node.set_checked(pipeline, now)

    async def _check_common(self, common: Partition, deadline: float) -> None:
        """Check the common partition, which shows an interrupted copy even where its end has begun.

        While its node is away, the others are used without it.
        """
        try:
            pipeline = self._deployment.node_of(common).pipeline
            until = min(deadline, time.monotonic() + COMMON_TIMEOUT)
            stored = raise_errors(await pipeline.ask(*_versions_of(common), until=until))
        except (*NODE_ERRORS, StorePartitionUnavailable):
            return
        self._check_one(common, stored)
        self._is_common_checked = True

    def _check_all(self, stored: list[Any]) -> None:
        if check_version(*stored, partitions=self._partitions.size, copy=self._copy):
            self.registered.update(self._partitions)
        else:
            self.registered.clear()

    def _check_one(self, partition: Partition, stored: list[Any]) -> None:
        version, count = stored
        if check_version(version, 0, count, partitions=self._partitions.size, copy=self._copy, partition=partition):
            self.registered.add(partition)
        else:
            self.registered.discard(partition)

    def keys_on(self, node: Node) -> tuple[str, ...]:
        """Return keys of a node like `VERSION_KEYS`."""
        if not self._deployment.is_cluster:
            return VERSION_KEYS
        one = self._probed_on(node)
        return one.version, one.partitions, one.meta, one.root  # no key has the name of a root

    def require_supported(self, node: Node, *stored: Any) -> None:
        """Raise like `check` for values of `keys_on`, as `check_version` takes them."""
        one = self._probed_on(node) if self._deployment.is_cluster else None
        check_version(*stored, partitions=self._partitions.size, partition=one)

    def _probed_on(self, node: Node) -> Partition:
        """Return the common partition if a node has it, which shows an interrupted copy, or else another one."""
        held = self._deployment.partitions_on(node)
        return self._common if self._common and self._common in held else held[0]

    async def register(self, run: RunScript, partition: Partition, deadline: float) -> None:
        """Write the version of this service and the number of partitions, if there is no other data.

        Raises `DataVersionUnsupported` or `PartitionsMismatch` if there is.
        """
        if self._deployment.is_cluster:
            for one in dict.fromkeys((self._common or partition, partition)):
                await self._register_one(one, deadline)
            others = [self._register_one(one, deadline) for one in self._partitions if one not in self.registered]
            await asyncio.gather(*others, return_exceptions=True)  # one that fails is tried again when it is used
        else:
            await self._register_all(run, deadline)

    async def _register_all(self, run: RunScript, deadline: float) -> None:
        count, script, first = self._partitions.size, scripts.WRITE_VERSION, self._partitions.first
        command = ("EVALSHA", script.sha, len(VERSION_KEYS) + 1, *VERSION_KEYS, first.root, DATA_VERSION, count)
        _, *stored = await run(script, first, command, deadline)
        check_version(*stored, partitions=count)
        if count > 1:
            commands = [command for one in self._partitions for command in self._writes(one)]
            raise_errors(await self._deployment.node_of(first).pipeline.ask(*commands, until=deadline))
        self.registered.update(self._partitions)

    async def _register_one(self, partition: Partition, deadline: float) -> None:
        """Write what is missing in a partition of a cluster, and check what it then has."""
        commands = (*self._writes(partition), *_versions_of(partition))
        replies = await self._deployment.node_of(partition).pipeline.ask(*commands, until=deadline)
        self._check_one(partition, raise_errors(replies)[2:])

    def _writes(self, partition: Partition) -> tuple[tuple[str | int, ...], ...]:
        held = ((partition.version, DATA_VERSION), (partition.partitions, self._partitions.size))
        return tuple(("SET", *pair, "NX") for pair in held)


def _versions_of(partition: Partition) -> tuple[tuple[str, str], ...]:
    return (("GET", partition.version), ("GET", partition.partitions))
