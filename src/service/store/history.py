"""Decodes the change history in a job's hash; `lua/lib/transitions.lua` writes it."""

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
#: The first entry of a history whose older entries were dropped.
_TRUNCATED: Final = "-"


def history_from(job_id: str, created_at: str, text: str) -> History:
    """Return the history, oldest change first, from its text in the hash. Raises `StoreCorrupt`."""
    created, entries = parse_timestamp(created_at), text.split()
    complete = _TRUNCATED not in entries
    try:
        changes = [_change(created, entry) for entry in entries if entry != _TRUNCATED]
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"job:{job_id} holds an unreadable record ({error})") from error
    first = [HistoryEntry(at=created_at, revision=1, change="created")] if complete else []
    return History(items=[*first, *changes], complete=complete)


def _change(created: int, entry: str) -> HistoryEntry:
    elapsed, revision, code = entry.split(":")
    return HistoryEntry(at=format_timestamp(created + int(elapsed)), revision=int(revision), change=_CHANGE_CODES[code])
