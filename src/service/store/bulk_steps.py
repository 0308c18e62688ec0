"""The steps of bulk actions: each counts or changes a few jobs of one partition, and writes how far it has come."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog

from service.domain.bulk import BulkAction, BulkKind, BulkState
from service.store import scripts
from service.store.bulk_records import KEPT_MS, UNEXPECTED_COUNT, StoredAction, read_actions
from service.store.client import StoreClient
from service.store.fingerprints import change_id_for, new_change_id
from service.store.listing import tags_of, time_bound
from service.store.partition import Partition
from service.store.records import DELETION_RECORD_TTL_MS, decode_skipped, validate_ttl_ms
from service.store.scripts import Script

#: How long a process takes an action for. Another one goes on with it after that.
TAKEN_MS: Final = 3_000
#: How many actions of each partition are looked for at once.
MAX_ACTIVE: Final = 20
#: Index entries that a step may walk, and jobs that it may count, for each job that it may change: that takes ten times
#: as long.
SCAN_FACTOR: Final = 10

_log = structlog.get_logger(__name__)


class BulkSteps:
    """Carries out bulk actions. A step that is repeated goes on where the one before has ended.

    Methods raise the same errors as `StoreClient.run_script`.
    """

    def __init__(self, client: StoreClient, *, ttl: timedelta) -> None:
        """Keep jobs for `ttl` after their last change. Raises `ValueError` for a `ttl` outside 1 ms to 365 days."""
        self._client = client
        self._ttl = validate_ttl_ms(ttl)
        #: The name under which this process takes actions.
        self._runner = new_change_id()

    async def find_active(self) -> list[str]:
        """Return the ids of actions that have not ended. Those whose node is away are left out."""
        last = str(MAX_ACTIVE - 1)
        commands = (["ZRANGE", one.bulk_active, "0", last] for one in self._client.partitions)
        replies = await self._client.read(*commands, is_partial=True)
        return [member.decode() for reply in replies if isinstance(reply, list) for member in reply]

    async def take(self, action_id: str) -> StoredAction | None:
        """Take an action for `TAKEN_MS` from now; `None` if another process has it, or it has ended."""
        if not await self._take(action_id):
            return None
        found = await read_actions(self._client, [action_id], is_partial=True)
        return found[0] if found else None

    def unfinished(self, stored: StoredAction, action: BulkAction) -> list[Partition]:
        """Return the partitions in which the pass is not known to have come to its end."""
        place = "counted" if action.state is BulkState.COUNTING else "acted"
        return [one for one in self._client.partitions if not stored.has_ended_in(one, place)]

    async def move_on(self, action: BulkAction) -> BulkState:
        """Move an action to its next state, once a pass has come to its end in all partitions, and return its state."""
        following, fields = BulkState.RUNNING, tuple[str, ...]()
        if action.state is BulkState.COUNTING and action.expect not in (None, action.matched):
            following, fields = BulkState.ABORTED, ("reason", UNEXPECTED_COUNT)
        elif action.state is BulkState.RUNNING or action.dry_run:
            following = BulkState.DONE
        return following if await self._take(action.action_id, action.state, following, *fields) else action.state

    async def step(self, stored: StoredAction, action: BulkAction, partition: Partition, jobs: int) -> bool:
        """Change up to `jobs` jobs, or count more, and return whether the pass has ended in this partition."""
        script, args = self._script(stored, action, jobs)
        # No reply acknowledges a single step. So only the last one must be on the disk of Redis and on its replicas,
        # with all before it: the script is called a second time, finds nothing left to do, and waits for that.
        if not await self._run(script._replace(writes=False), partition, args):
            return False
        return await self._run(script, partition, args)

    async def _run(self, script: Script, partition: Partition, args: list[Any]) -> bool:
        _, is_end, *found = await self._client.run_script(script, partition, args)
        if found:
            skipped, changes = found
            if skipped:
                job_ids, reasons = decode_skipped(skipped)
                _log.error("bulk action skipped unreadable job", job_ids=job_ids, errors=reasons)
            for kind, number in zip(changes[::2], changes[1::2], strict=True):
                self._client.observer.on_job_change(kind.decode(), number)
        return bool(is_end)

    def _script(self, stored: StoredAction, action: BulkAction, jobs: int) -> tuple[Script, list[Any]]:
        """Return the script of the pass, and its arguments."""
        filters = msgspec.msgpack.encode(dict(_filter(action)))
        entries = jobs * SCAN_FACTOR
        if action.state is BulkState.COUNTING:
            return scripts.BULK_COUNT, [action.action_id, KEPT_MS, entries, entries, filters]
        args = [action.action_id, KEPT_MS, jobs, entries, filters]
        change_id = change_id_for(action.action_id)
        if action.kind is BulkKind.DELETE:
            return scripts.BULK_DELETE, [*args, change_id, DELETION_RECORD_TTL_MS]
        change = [action.kind, change_id, stored.digest, self._ttl, DELETION_RECORD_TTL_MS, action.by]
        return scripts.BULK_CHANGE, [*args, *change]

    async def _take(self, action_id: str, *move: BulkState | str) -> bool:
        partition = self._client.partitions.of(action_id)
        args = [action_id, self._runner, TAKEN_MS, KEPT_MS, *(move or ("", ""))]
        [word] = await self._client.run_script(scripts.BULK_TAKE, partition, args)
        return bool(word == "TAKEN")


def _filter(action: BulkAction) -> Iterator[tuple[str, Any]]:
    """Yield what the scripts compare."""
    filters = action.filters
    for name in ("status", "queue", "slate_id", "correlation_id"):
        yield name, getattr(filters, name) or ""
    yield "tags", ",".join(tags_of(filters))
    if filters.labels:
        yield "labels", dict(label.split(":", 1) for label in filters.labels)
    if filters.created_after is not None:
        yield "after", time_bound(filters.created_after)
    if filters.created_before is not None:
        yield "before", time_bound(filters.created_before)
