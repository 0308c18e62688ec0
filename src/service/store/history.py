"""Decodes the change history in a job's hash; `lua/lib/transitions.lua` writes it."""

from collections.abc import Mapping
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
    "t": "retried",
}
#: The first entry of a history whose older entries were dropped.
_TRUNCATED: Final = "-"


def history_from(job_id: str, created_at: str, text: str, errors: str, created_by: str) -> History:
    """Return the history, oldest change first, from its text in the hash and the errors of the attempts.

    `created_by` is the name of the API key that created the job; empty for none. Raises `StoreCorrupt`.
    """
    created, entries = parse_timestamp(created_at), text.split()
    complete = _TRUNCATED not in entries
    try:
        attempt_errors = _by_revision(errors)
        changes = [_change(created, entry, attempt_errors) for entry in entries if entry != _TRUNCATED]
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"job:{job_id} holds an unreadable record ({error})") from error
    first = HistoryEntry(at=created_at, revision=1, change="created", by=created_by or None)
    return History(items=[first, *changes] if complete else changes, complete=complete)


def _by_revision(text: str) -> dict[int, tuple[int, str]]:
    """Return attempt and error by the revision of the change that had the error."""
    errors = (line.split(":", 2) for line in text.split("\n") if line)
    return {int(revision): (int(attempt), error) for revision, attempt, error in errors}


def _change(created: int, entry: str, attempt_errors: Mapping[int, tuple[int, str]]) -> HistoryEntry:
    elapsed, revision, code, *by = entry.split(":", 3)
    attempt, error = attempt_errors.get(int(revision), (0, None))
    at = format_timestamp(created + int(elapsed))
    return HistoryEntry(
        at=at,
        revision=int(revision),
        change=_CHANGE_CODES[code],
        by=by[0] if by else None,
        attempt=attempt or None,
        error=error,
    )
