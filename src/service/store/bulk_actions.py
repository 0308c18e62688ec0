"""Bulk actions as clients see them: started, read, listed and aborted."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import structlog

from service.domain import constraints, errors
from service.domain.actor import actor
from service.domain.bulk import BulkAction, BulkActionNotFound, NewBulkAction
from service.store import scripts
from service.store.bulk_records import KEPT_MS, StoredAction, read_actions
from service.store.client import StoreClient
from service.store.deadlines import gather
from service.store.fingerprints import digest
from service.store.partition import Partition
from service.store.scripts import Script

#: How many actions a list has at most, and from how many keys they are read: one for each action and partition.
MAX_LISTED: Final = 100
MAX_KEYS: Final = 4096

_log = structlog.get_logger(__name__)


class BulkActions:
    """Starts, reads, lists and aborts bulk actions, which `BulkSteps` carries out.

    Methods raise the same errors as those of `JobReader`, and the errors that they name.
    """

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def start_action(self, action: NewBulkAction, key: str | None = None) -> tuple[BulkAction, bool]:
        """Start an action, and return it and whether an equal request with this `key` had started it before.

        Jobs that are created after the return never match. Raises `IdempotencyKeyReused` if the key came with another
        action.
        """
        action.validate()
        action_id = constraints.new_job_id() if key is None else constraints.job_id_for_key(key)
        fields = {
            "action": action.kind,
            "filter": msgspec.json.encode(action.filters),
            "dry_run": int(action.dry_run),
            "expect": "" if action.expect is None else action.expect,
            "by": actor.get(),
        }
        args = [action_id, digest("bulk", msgspec.structs.asdict(action)), KEPT_MS]
        home, others = self._places(action_id)
        # The home last: what is registered there is registered everywhere.
        await gather(self._start_in(partition, args) for partition in others)
        word = await self._start_in(home, [*args, *(part for field in fields.items() for part in field)])
        if (started := await self._find(action_id)) is None:
            raise errors.StoreUnreachable("Redis has lost the bulk action in a failover. Send the request again.")
        return started, key is not None and word == "REPLAYED"

    async def get_action(self, action_id: str) -> BulkAction:
        """Return an action. Raises `BulkActionNotFound`."""
        constraints.JOB_ID.validate("bulk_action_id", action_id)
        if (found := await self._find(action_id)) is None:
            raise BulkActionNotFound(action_id)
        return found

    async def list_actions(self) -> list[BulkAction]:
        """Return actions, newest first: those that changed last, at most `MAX_LISTED`."""
        partitions = self._client.partitions
        limit = max(1, min(MAX_LISTED, MAX_KEYS // len(partitions)))
        commands = (["ZRANGE", one.bulk_actions, "0", str(limit - 1), "REV", "WITHSCORES"] for one in partitions)
        listed = [entry for entries in await self._client.read(*commands) for entry in entries]
        newest = sorted(listed, key=lambda entry: float(entry[1]), reverse=True)[:limit]
        found = await read_actions(self._client, [action_id.decode(errors="replace") for action_id, _ in newest])
        return sorted(_readable(found), key=lambda action: action.created_at, reverse=True)

    async def abort_action(self, action_id: str) -> BulkAction:
        """End an action, and return it. It changes no job after that. Raises `BulkActionNotFound`."""
        constraints.JOB_ID.validate("bulk_action_id", action_id)
        home, others = self._places(action_id)
        if await self._run_in(scripts.BULK_ABORT, home, [action_id]) == "NONE":
            raise BulkActionNotFound(action_id)
        await gather(self._run_in(scripts.BULK_ABORT, partition, [action_id]) for partition in others)
        return await self.get_action(action_id)

    async def _find(self, action_id: str) -> BulkAction | None:
        return next((one.decode() for one in await read_actions(self._client, [action_id])), None)

    def _places(self, action_id: str) -> tuple[Partition, list[Partition]]:
        """Return the home of an action, and the other partitions."""
        home = self._client.partitions.of(action_id)
        return home, [partition for partition in self._client.partitions if partition is not home]

    async def _start_in(self, partition: Partition, args: list[Any]) -> str:
        word = await self._run_in(scripts.BULK_START, partition, args)
        if word == "KEY_REUSED":
            raise errors.IdempotencyKeyReused
        return word

    async def _run_in(self, script: Script, partition: Partition, args: list[Any]) -> str:
        word: str = (await self._client.run_script(script, partition, args))[0]
        return word


def _readable(found: Sequence[StoredAction]) -> Iterator[BulkAction]:
    """Yield actions without those that cannot be read: one must not hide all the others."""
    for one in found:
        try:
            yield one.decode()
        except errors.StoreCorrupt as error:
            _log.error("list skipped unreadable bulk action", bulk_action_id=one.action_id, detail=str(error))
