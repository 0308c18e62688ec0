"""The database that a copy fills. Until the copy is whole, its version is a mark that every service refuses."""

import secrets
from functools import partial
from typing import Any, Final

from service.store.calls import with_timeout
from service.store.client import StoreClient
from service.store.copy.errors import CopyRefused
from service.store.copy.source import Record
from service.store.data_version import COPY_MARK, DATA_VERSION
from service.store.deployments import Deployment
from service.store.deployments.node import Node
from service.store.doctor.key_names import has_prefix
from service.store.partition import COMMON_ROOT, PARTITION, Partition
from service.store.scan import scan

_STEP: Final = 1000


class Target:
    """A database that was empty, or has what an interrupted copy has left. `take` must come first.

    On a cluster every partition has the mark, because services read the versions there. That with the common root
    tells whether there was a copy: it gets the mark first, and the version last.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._mark: Final = COPY_MARK + secrets.token_hex(8).encode()
        #: Works only while the database has this mark.
        self.client: Final = StoreClient(deployment, copy=self._mark)
        #: The keys that have the mark, with their partitions.
        self.marked: Final = _marked_by_copies(deployment)
        self._first: Final = next(iter(self.marked))

    async def take(self) -> bool:
        """Mark the database. Returns whether an interrupted copy was deleted. Raises `CopyRefused` for other data."""
        await self.client.find_nodes()
        found = await self._do(self._first, "GET")
        is_resumed = isinstance(found, bytes) and found.startswith(COPY_MARK)
        if not is_resumed:
            await self._empty(delete=False)
        for key in self.marked:
            await self._do(key, "SET", self._mark, *(() if is_resumed else ("NX",)))
            if not is_resumed and await self._do(key, "GET") != self._mark:
                raise CopyRefused("A service or another copy has just started on TO. Stop it, and empty TO.")
        if is_resumed:
            await self._empty(delete=True)
        return is_resumed

    async def _empty(self, *, delete: bool) -> None:
        """Delete all keys of jobstate but the marks, or raise `CopyRefused` if there are any."""
        marked = {key.encode() for key in self.marked}
        async for node, keys in scan(self.client, "*", _STEP, any_data=True):
            ours = [key for key in keys if has_prefix(key)]
            if ours and not delete:
                raise CopyRefused(f"TO has data, such as {min(ours)!r}. Copy into an empty database.")
            if left := [["UNLINK", key] for key in ours if key not in marked]:
                await self.client.read_from(node, *left, any_data=True)  # like reads they may run twice

    async def write(self, records: list[Record]) -> None:
        """Write records without their index entries. Raises `CopyRefused` if another copy has taken the database."""
        self._require_mark(await self._do(self._first, "GET"))
        commands: list[list[Any]] = []
        for record in records:
            key = self.client.partitions.of(record.job_id).job(record.job_id)
            commands += [["UNLINK", key], ["HSET", key, *(part for pair in record.fields.items() for part in pair)]]
            if record.expires >= 0:
                commands.append(["PEXPIREAT", key, str(record.expires)])
        if commands:
            await self.client.read(*commands)  # like reads they may run twice

    async def write_common(self, clock: int, settings: dict[bytes, bytes]) -> None:
        """Write the settings of queues, and what each partition must have.

        Every partition gets the clock of all: a new job then has a creation time that none of the copied ones has.
        """
        commands: list[list[Any]] = []
        for partition in self.client.partitions:
            if clock:
                commands.append(["HSET", partition.meta, "clock", str(clock)])
            if settings:
                pairs = (part for pair in settings.items() for part in pair)
                commands.append(["HSET", partition.queues, *pairs])
            if len(self.client.partitions) > 1:
                if partition.version not in self.marked:
                    commands.append(["SET", partition.version, str(DATA_VERSION)])
                commands.append(["SET", partition.partitions, str(len(self.client.partitions))])
        if commands:
            await self.client.read(*commands)

    async def finish(self) -> None:
        """Replace the marks by the version, so that services can start. Raises `CopyRefused` if one is another's."""
        for key in reversed(self.marked):
            await self.client.call("copy", with_timeout(partial(self._replace_mark, key)))

    async def _replace_mark(self, key: str) -> None:
        redis: Any = self._node_of(key).redis  # some of its methods have no types
        async with redis.pipeline() as transaction:
            await transaction.watch(key)
            self._require_mark(await transaction.get(key))
            transaction.multi()
            transaction.set(key, DATA_VERSION)
            await transaction.execute()

    def _require_mark(self, found: bytes | None) -> None:
        if found != self._mark:
            raise CopyRefused("Another copy has taken TO meanwhile. Wait for its end, or run the copy again.")

    async def _do(self, key: str, command: str, *args: Any) -> Any:
        [reply] = await self.client.read_from(self._node_of(key), [command, key, *args], any_data=True)
        return reply

    def _node_of(self, key: str) -> Node:
        return self.client.deployment.node_of(self.marked[key])


def _marked_by_copies(deployment: Deployment) -> dict[str, Partition]:
    if not deployment.is_cluster:
        return {PARTITION.version: deployment.partitions.first}
    common_first = sorted(deployment.partitions, key=lambda one: one.root != COMMON_ROOT)
    return {one.version: one for one in common_first}
