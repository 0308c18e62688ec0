"""The requests of a worker. Each has an idempotency key, so that it can be retried."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

from jobstate_worker.encoding import encoded

#: Maximum seconds between two attempts while the worker has a lease. After an outage the service waits 10 s before it
#: reaps expired leases.
MAX_PAUSE_WITH_LEASE: Final = 5.0


class Claim(NamedTuple):
    """A claimed job and its lease."""

    #: The record as the service returned it.
    job: Mapping[str, Any]
    token: str
    lease_seconds: int

    @property
    def max_pause(self) -> float:
        """Maximum seconds between two attempts to reach the service."""
        return min(MAX_PAUSE_WITH_LEASE, self.lease_seconds / 3)


class ClaimRequest:
    """A request for a job, under an idempotency key."""

    #: Whether it was sent without a response. The service may then have assigned a job.
    is_unanswered = False

    def __init__(self, queues: Sequence[str], worker: str, lease_seconds: int) -> None:
        """Request the oldest due job of `queues`, for a lease of `lease_seconds`."""
        self.key = str(uuid4())
        self._lease_seconds = lease_seconds
        self._fields = {"queues": list(queues), "worker": worker, "lease_seconds": lease_seconds}

    def body(self, wait_seconds: int) -> bytes:
        """Return the JSON of the request."""
        return encoded({**self._fields, "wait_seconds": wait_seconds})

    def read(self, response: Any) -> Claim | None:
        """Return the claim in a response; raise `LookupError` or `TypeError` if the response is invalid."""
        if response is None:
            return None
        claim = Claim(response["job"], response["lease"]["token"], self._lease_seconds)
        claim.job["job_id"]  # raises if the job has no id
        return claim

    async def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Note that the request was sent; called by httpx as its `trace` extension."""
        self.is_unanswered = self.is_unanswered or event.endswith("send_request_body.started")


class JobUpdate(NamedTuple):
    """A request that changes a job, under an idempotency key."""

    method: str
    #: The path after `/v1/jobs/{id}`.
    path: str
    #: JSON.
    body: bytes
    key: str
    #: What the body contains, and an excerpt of it, for the error message if the service rejects it.
    content: str = ""
    excerpt: str = ""
    #: Sent instead, in this order, if the service rejects the body.
    alternatives: tuple["JobUpdate", ...] = ()

    @classmethod
    def to(cls, status: str, **fields: object) -> Self:
        """Return the transition to a final status. Raises `TypeError` or `ValueError` if a field is not JSON."""
        return cls("PATCH", "", encoded({"status": status, **fields}), str(uuid4()))

    @classmethod
    def release(cls, **fields: object) -> Self:
        """Return a release; with an `error_message` it counts as a failed attempt."""
        return cls("POST", "/release", encoded(fields), str(uuid4()))
