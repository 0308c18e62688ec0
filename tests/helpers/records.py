"""Records of jobs as the service sends them."""

from typing import Any

import msgspec

from jobstate.models import Claim, Job

LEASE = {"token": "1-token", "expires_at": "2026-11-20T12:00:30.000000Z"}


def record_fields(status: str = "pending", revision: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a record as decoded JSON; a field that is `None` is absent."""
    record = {
        "job_id": "j1",
        "status": status,
        "queue": "default",
        "revision": revision,
        "attempt": 0 if status == "pending" else 1,
        "failures": 0,
        "max_attempts": 1,
        "retry_delay_seconds": 0,
        "stale": False,
        "created_at": "2026-11-20T12:00:00.000000Z",
        "updated_at": f"2026-11-20T12:00:{revision:02}.000000Z",
        "expires_at": "2026-11-27T12:00:00.000000Z",
        **fields,
    }
    return {name: value for name, value in record.items() if value is not None}


def record(status: str = "pending", revision: int = 1, **fields: Any) -> Job:
    """Return a record as the client decodes it."""
    return msgspec.json.decode(msgspec.json.encode(record_fields(status, revision, **fields)), type=Job)


def claim(**fields: Any) -> Claim:
    """Return a claim of a running job as the worker decodes it."""
    return msgspec.convert({"job": record("running", **fields), "lease": LEASE}, Claim)
