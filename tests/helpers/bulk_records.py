"""Bulk actions as the service sends them."""

from typing import Any

NOT_FINAL = "urn:jobstate:problem:job-not-final"
ILLEGAL = "urn:jobstate:problem:illegal-transition"


def action_fields(state: str = "done", **fields: Any) -> dict[str, Any]:
    """Return a bulk action with the id `b1`; `done` and `aborted` have ended."""
    ended = {"finished_at": "2026-11-29T10:00:09.000000Z"} if state in {"done", "aborted"} else {}
    return {
        "bulk_action_id": "b1",
        "action": "cancel",
        "filter": {"queue": "q"},
        "dry_run": False,
        "state": state,
        "matched": 0,
        "done": 0,
        "refused": {},
        "examples": [],
        "created_at": "2026-11-29T10:00:00.000000Z",
        **ended,
        **fields,
    }


def unexpected_count(**fields: Any) -> dict[str, Any]:
    """Return a bulk action that was aborted because two jobs matched instead of three."""
    problem = {
        "type": "urn:jobstate:problem:unexpected-count",
        "title": "Unexpected count",
        "status": 409,
        "detail": "2 jobs match, and `expect` is 3. No job was changed.",
    }
    return action_fields("aborted", matched=2, expect=3, problem=problem, **fields)
