"""What a worker asks the service for, and what it sends; each can be repeated without harm."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

from jobstate_worker.encoding import encoded

#: Sooner where a lease is held: a service that is back takes leases that have run out from those not heard of in 10 s.
MAX_PAUSE_WITH_LEASE: Final = 5.0


class Claim(NamedTuple):
    """A job, and the lease on it."""

    #: The record as the service gave it.
    job: Mapping[str, Any]
    token: str
    lease_seconds: int

    @property
    def max_pause(self) -> float:
        """Seconds that may pass between two attempts to reach the service."""
        return min(MAX_PAUSE_WITH_LEASE, self.lease_seconds / 3)


class ClaimRequest:
    """A wish for a job, under a key that makes it harmless to say it again."""

    #: Whether it was sent and not answered: it may have got a job then.
    is_unanswered = False

    def __init__(self, queues: Sequence[str], worker: str, lease_seconds: int) -> None:
        """Ask for the oldest job of `queues` that is due."""
        self.key = str(uuid4())
        self._lease_seconds = lease_seconds
        self._fields = {"queues": list(queues), "worker": worker, "lease_seconds": lease_seconds}

    def body(self, wait_seconds: int) -> bytes:
        """Return what to send in order to wait so long."""
        return encoded({**self._fields, "wait_seconds": wait_seconds})

    def read(self, answer: Any) -> Claim | None:
        """Return the job of an answer."""
        if answer is None:
            return None
        claim = Claim(answer["job"], answer["lease"]["token"], self._lease_seconds)
        claim.job["job_id"]  # without it nothing can be said of the job
        return claim

    async def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Take down what httpx tells of the request."""
        self.is_unanswered = self.is_unanswered or event.endswith("send_request_body.started")


class JobUpdate(NamedTuple):
    """What is to become of a job, under a key that makes it harmless to say it again."""

    method: str
    #: What follows the job's address.
    path: str
    #: JSON.
    body: bytes
    key: str
    #: Which part of the outcome the body carries, and an excerpt of it, for the message when the service rejects it.
    content: str = ""
    excerpt: str = ""
    #: What is sent instead, in this order, when the service rejects the body.
    alternatives: tuple["JobUpdate", ...] = ()

    @classmethod
    def to(cls, status: str, **fields: object) -> Self:
        """Return the move to a final status; raise `TypeError` or `ValueError` for fields that are not JSON."""
        return cls("PATCH", "", encoded({"status": status, **fields}), str(uuid4()))

    @classmethod
    def release(cls, **fields: object) -> Self:
        """Return what gives the job back; an `error_message` counts as a failed attempt."""
        return cls("POST", "/release", encoded(fields), str(uuid4()))
