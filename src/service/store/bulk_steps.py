"""The steps of bulk actions: each counts or changes a few jobs of one partition, and writes how far it has come."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog

from service.domain.bulk import BulkAction, BulkKind, BulkState
from service.domain.errors import StoreCorrupt
from service.store import scripts
from service.store.bulk_records import KEPT_MS, LOST, UNEXPECTED_COUNT, StoredAction, read_actions
from service.store.client import StoreClient
from service.store.deadlines import gather
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
        #: Actions of which it is logged that they have refused unreadable jobs.
        self._logged: set[str] = set()

    async def find_active(self) -> list[str]:
        """Return the ids of actions that have not ended. Those that cannot be read are left out."""
        last = str(MAX_ACTIVE - 1)
        commands = (["ZRANGE", one.bulk_active, "0", last] for one in self._client.partitions)
        replies = await self._client.read(*commands, is_partial=True, isolate_errors=True)
        found = [member.decode(errors="replace") for reply in replies if isinstance(reply, list) for member in reply]
        self._logged &= {*found}
        return found

    async def take(self, action_id: str, *, is_kept: bool = False) -> StoredAction | None:
        """Take an action for `TAKEN_MS` from now; `None` if another process has it, or it has ended.

        With `is_kept` it has changed, so it is kept for `KEPT_MS` from now.
        """
        if not await self._take(action_id, KEPT_MS if is_kept else 0):
            return None
        found = await read_actions(self._client, [action_id], is_partial=True)
        return found[0] if found else None

    def unfinished(self, stored: StoredAction, action: BulkAction) -> list[Partition]:
        """Return the partitions in which the pass is not known to have come to its end."""
        place = _place(action)
        return [one for one in self._client.partitions if not stored.has_ended_in(one, place)]

    def is_away(self, partition: Partition) -> bool:
        """Return whether the node of a partition is known to be away."""
        return self._client.is_away(partition)

    async def step(self, stored: StoredAction, action: BulkAction, partition: Partition, jobs: int) -> bool:
        """Change up to `jobs` jobs, or count more, and return whether the pass has ended in this partition.

        No reply to a client acknowledges a single step, so it is not awaited on disk or on replicas. Raises
        `StoreCorrupt` if a key that the next job needs is not ours.
        """
        script, args = self._script(stored, action, jobs)
        return await self._run(script._replace(writes=False), partition, args)

    async def move_on(self, stored: StoredAction, action: BulkAction) -> BulkState:
        """Move an action on, once a pass has come to its end in all partitions, and return its state.

        First all steps of the pass are awaited on disk or on replicas, where the service is set up so. A pass of which
        a failover has lost steps is not at its end any more, and goes on.
        """
        script, args = self._script(stored, action, 0)
        if not all(await gather(self._run(script, partition, args) for partition in self._client.partitions)):
            return action.state
        following, fields = BulkState.RUNNING, tuple[str, ...]()
        if action.state is BulkState.COUNTING and action.expect not in (None, action.matched):
            following, fields = BulkState.ABORTED, ("reason", UNEXPECTED_COUNT)
        elif action.state is BulkState.RUNNING or action.dry_run:
            following = BulkState.DONE
        return await self._move(action, following, *fields)

    async def give_up(self, action: BulkAction) -> BulkState:
        """Abort an action of which Redis has lost a part, and return its state."""
        return await self._move(action, BulkState.ABORTED, "reason", LOST)

    async def finish_abort(self, action: BulkAction) -> BulkState:
        """Abort an action that a client has aborted in some partitions only, and return its state."""
        await gather(
            self._client.run_script(scripts.BULK_ABORT, one, [action.action_id]) for one in self._client.partitions
        )
        return BulkState.ABORTED

    async def _move(self, action: BulkAction, following: BulkState, *fields: str) -> BulkState:
        is_moved = await self._take(action.action_id, KEPT_MS, action.state, following, *fields)
        return following if is_moved else action.state

    async def _take(self, action_id: str, kept: int, *move: BulkState | str) -> bool:
        partition = self._client.partitions.of(action_id)
        args = [action_id, self._runner, TAKEN_MS, kept, *(move or ("", ""))]
        [word] = await self._client.run_script(scripts.BULK_TAKE, partition, args)
        return bool(word == "TAKEN")

    async def _run(self, script: Script, partition: Partition, args: list[Any]) -> bool:
        _, is_end, *found = await self._client.run_script(script, partition, args)
        if found:
            failure, skipped, changes = found
            self._log_skipped(args[0], skipped)
            for kind, number in zip(changes[::2], changes[1::2], strict=True):
                self._client.observer.on_job_change(kind.decode(), number)
            if failure:
                raise StoreCorrupt(f"a bulk action waits until this is fixed: {failure.decode(errors='replace')}")
        return bool(is_end)

    def _log_skipped(self, action_id: str, skipped: list[bytes]) -> None:
        if skipped and action_id not in self._logged:
            self._logged.add(action_id)
            job_ids, reasons = decode_skipped(skipped)
            _log.error("bulk action met unreadable keys", bulk_action_id=action_id, job_ids=job_ids, errors=reasons)

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


def _place(action: BulkAction) -> str:
    """Return the field with the place of the pass."""
    return "counted" if action.state is BulkState.COUNTING else "acted"


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
