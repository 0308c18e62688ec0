"""What has become of a job so far: the twin in Lua, which writes it, is in `lua/moves.lua`."""

from typing import Final

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Change, History
from service.domain.timestamps import micros, timestamp

_CHANGES: Final = {
    "p": "pending",
    "r": "running",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
    "q": "cancel-requested",
}
#: Stands in front where older entries are gone.
_GONE: Final = "-"


def history_from(job_id: str, created_at: str, text: str) -> History:
    """Return a history, oldest change first, out of what the hash has of it. Raises `StoreCorrupt`."""
    created, entries = micros(created_at), text.split()
    complete = _GONE not in entries
    try:
        changes = [_change(created, entry) for entry in entries if entry != _GONE]
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"job:{job_id} is not a record of ours ({error})") from error
    first = [Change(at=created_at, revision=1, change="created")] if complete else []
    return History(items=[*first, *changes], complete=complete)


def _change(created: int, entry: str) -> Change:
    since, revision, letter = entry.split(":")
    return Change(at=timestamp(created + int(since)), revision=int(revision), change=_CHANGES[letter])
