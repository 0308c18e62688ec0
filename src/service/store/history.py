"""What has become of a job so far: the twin in Lua, which writes it, is in `lua/moves.lua`."""

from typing import Final

from service.domain.errors import StoreCorrupt
from service.domain.jobs import History, HistoryEntry
from service.domain.timestamps import format_timestamp, parse_timestamp

_CHANGE_CODES: Final = {
    "p": "pending",
    "r": "running",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
    "q": "cancel-requested",
}
#: Stands in front where older entries are gone.
_TRUNCATED: Final = "-"


def history_from(job_id: str, created_at: str, text: str) -> History:
    """Return a history, oldest change first, out of what the hash has of it. Raises `StoreCorrupt`."""
    created, entries = parse_timestamp(created_at), text.split()
    complete = _TRUNCATED not in entries
    try:
        changes = [_change(created, entry) for entry in entries if entry != _TRUNCATED]
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"job:{job_id} is not a record of ours ({error})") from error
    first = [HistoryEntry(at=created_at, revision=1, change="created")] if complete else []
    return History(items=[*first, *changes], complete=complete)


def _change(created: int, entry: str) -> HistoryEntry:
    since, revision, letter = entry.split(":")
    return HistoryEntry(at=format_timestamp(created + int(since)), revision=int(revision), change=_CHANGE_CODES[letter])
