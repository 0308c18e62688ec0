"""The database that a copy fills. Until the copy is whole, its version is a mark that every service refuses."""

import secrets
from typing import Any, Final

from service.store.calls import with_timeout
from service.store.client import StoreClient
from service.store.copy.errors import CopyRefused
from service.store.copy.source import Record
from service.store.data_version import COPY_MARK, DATA_VERSION
from service.store.deployments import Deployment
from service.store.doctor.key_names import has_prefix
from service.store.partition import PARTITION

_STEP: Final = "1000"


class Target:
    """A database that was empty, or has what an interrupted copy has left. `take` must come first."""

    def __init__(self, deployment: Deployment) -> None:
        self._mark: Final = COPY_MARK + secrets.token_hex(8).encode()
        #: Works only while the database has this mark.
        self.client: Final = StoreClient(deployment, copy=self._mark)
        self._redis: Final[Any] = self.client.redis  # some of its methods have no types

    async def take(self) -> bool:
        """Mark the database. Returns whether an interrupted copy was deleted. Raises `CopyRefused` for other data."""
        found = await self._do("GET", PARTITION.version)
        is_resumed = isinstance(found, bytes) and found.startswith(COPY_MARK)
        if is_resumed:
            await self._do("SET", PARTITION.version, self._mark)
        await self._empty(delete=is_resumed)
        if not is_resumed and await self._do("SET", PARTITION.version, self._mark, "NX") is None:
            raise CopyRefused("A service or another copy has just started on TO. Stop it, and empty TO.")
        return is_resumed

    async def _empty(self, *, delete: bool) -> None:
        """Delete all keys of jobstate but the mark, or raise `CopyRefused` if there are any."""
        cursor = 0
        while True:
            cursor, keys = await self._do("SCAN", cursor, "COUNT", _STEP)
            ours = [key for key in keys if has_prefix(key) and key != PARTITION.version.encode()]
            if not delete and [key for key in keys if has_prefix(key)]:
                raise CopyRefused(
                    f"TO has data, such as {min(filter(has_prefix, keys))!r}. Copy into an empty database."
                )
            if ours:
                await self._do("UNLINK", *ours)
            if int(cursor) == 0:
                return

    async def write(self, records: list[Record]) -> None:
        """Write records without their index entries. Raises `CopyRefused` if another copy has taken the database."""
        self._require_mark(await self._do("GET", PARTITION.version))
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
                commands.append(["SET", partition.version, str(DATA_VERSION)])
                commands.append(["SET", partition.partitions, str(len(self.client.partitions))])
        if commands:
            await self.client.read(*commands)

    async def finish(self) -> None:
        """Replace the mark by the version, so that services can start. Raises `CopyRefused` if it is another's."""

        async def replace() -> None:
            async with self._redis.pipeline() as transaction:
                await transaction.watch(PARTITION.version)
                self._require_mark(await transaction.get(PARTITION.version))
                transaction.multi()
                transaction.set(PARTITION.version, DATA_VERSION)
                await transaction.execute()

        await self.client.call("copy", with_timeout(replace))

    def _require_mark(self, found: bytes | None) -> None:
        if found != self._mark:
            raise CopyRefused("Another copy has taken TO meanwhile. Wait for its end, or run the copy again.")

    async def _do(self, *command: Any) -> Any:
        return await self.client.call("copy", with_timeout(lambda: self._redis.execute_command(*command)))
