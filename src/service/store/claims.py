"""A claim of jobs, and the script that makes it in one partition."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from service.domain import constraints, errors, validation
from service.domain.jobs import Claim, Lease
from service.domain.states import Status
from service.store import scripts
from service.store.client import StoreClient
from service.store.delays import end_delays
from service.store.fingerprints import change_id_for, digest, new_token_secret
from service.store.partition import Partition
from service.store.records import ceil_seconds, decode_packed, log_skipped

#: How much longer than its lease a claim is remembered (ms). A retry is only possible until the unextended lease has
#: ended, so a minute more is enough.
CLAIM_RECORD_TTL_MS: Final = 60_000
#: How many entries of jobs that cannot be claimed, such as expired ones, one claim skips at the head of a queue.
MAX_CLAIM_SCAN: Final = 1000
#: The most bytes of the records of one claim of several jobs.
MAX_CLAIM_BYTES: Final = 8 * 1024 * 1024

_log = structlog.get_logger(__name__)


class ClaimRequest(NamedTuple):
    """What a client asks for."""

    claim_id: str
    #: Whether the client can send the claim again.
    is_keyed: bool
    #: Equal for claims with equal content.
    digest: str
    #: Each once.
    queues: tuple[str, ...]
    worker: str
    lease_seconds: int
    #: The most jobs.
    max_jobs: int
    #: How long the claim is remembered (ms).
    record_ttl: int

    @classmethod
    def of(
        cls, queues: Sequence[str], worker: str, lease_seconds: int, claim_key: str | None, max_jobs: int | None
    ) -> "ClaimRequest":
        """Return the request, for one job if `max_jobs` is `None`. Raises `InvalidValue`."""
        validation.validate_claim(queues, worker, lease_seconds, max_jobs)
        content = digest(
            "claim",
            {"queues": sorted(set(queues)), "worker": worker, "lease_seconds": lease_seconds, "max_jobs": max_jobs},
            {"lease_seconds": constraints.DEFAULT_LEASE_SECONDS},
        )
        record_ttl = lease_seconds * 1000 + CLAIM_RECORD_TTL_MS
        return cls(
            *(change_id_for(claim_key), claim_key is not None, content, tuple(dict.fromkeys(queues)), worker),
            *(lease_seconds, max_jobs or 1, record_ttl),
        )


class Claimed(NamedTuple):
    """What a claim got from one partition."""

    claims: list[Claim]
    #: Of the records of these jobs.
    size: int
    #: Seconds until the next delay in the partition is over; `None` for none, and if a job was claimed.
    next_due: float | None


class ClaimScript:
    """Claims jobs in one partition: one atomic script, and another one first where a delay is over."""

    def __init__(self, client: StoreClient, ttl_ms: int) -> None:
        """Keep a job for `ttl_ms` after its claim."""
        self._client = client
        self._ttl_ms = ttl_ms
        #: By the number of the partition.
        self._last_skipped: dict[int, set[bytes]] = {}

    async def run(
        self,
        request: ClaimRequest,
        partition: Partition,
        count: int | None = None,
        max_bytes: int | None = None,
        facts: Mapping[str, int] | None = None,
    ) -> Claimed:
        """Claim up to `count` jobs (those of the request) of a partition, up to `max_bytes` (`MAX_CLAIM_BYTES`).

        `facts` are what the script needs to know of other partitions, as claim.lua names it; `None` with one.

        Raises `Draining`, `IdempotencyKeyReused`, and the errors of `StoreClient.run_script`.
        """
        args = [request.claim_id, request.digest, new_token_secret(), request.worker, request.lease_seconds]
        args += [self._ttl_ms, request.record_ttl, request.max_jobs if count is None else count]
        args += [MAX_CLAIM_BYTES if max_bytes is None else max_bytes, MAX_CLAIM_SCAN]
        known = "" if facts is None else "".join([":", *(f" {name}={value}" for name, value in facts.items())])
        outcome, *reply = await self._run(partition, [*args, "1" + known, *request.queues])
        if outcome == "DELAY_OVER":
            await end_delays(self._client, partition)
            outcome, *reply = await self._run(partition, [*args, "0" + known, *request.queues])
        match outcome:
            case "DRAINING":
                raise errors.Draining(ceil_seconds(reply[0]))
            case "KEY_REUSED":
                raise errors.IdempotencyKeyReused
        time, skipped, *claimed = reply
        self._log_skipped(partition, skipped)
        if outcome == "NONE":
            [next_due] = claimed
            return Claimed([], 0, max(0.0, (int(next_due) - int(time)) / 1e6) if next_due else None)
        self._client.observer.on_job_change(Status.RUNNING, len(claimed) // 2)
        return Claimed(_decode_claims(claimed, int(time)), sum(map(len, claimed[1::2])), None)

    async def _run(self, partition: Partition, args: Sequence[Any]) -> list[Any]:
        return await self._client.run_script(scripts.CLAIM, partition, args)

    def _log_skipped(self, partition: Partition, skipped: Sequence[bytes]) -> None:
        """Log jobs that cannot be claimed, unless they are those of the last time: each claim meets them again."""
        if skipped and set(skipped) != self._last_skipped.get(partition.number):
            self._last_skipped[partition.number] = set(skipped)
            log_skipped("claim skipped unreadable job", skipped)


def _decode_claims(reply: Sequence[Any], time: int) -> list[Claim]:
    """Return the claims in a reply: job id, packed record, … Raises `StoreCorrupt` if none of the jobs is readable."""
    claims: list[Claim] = []
    unreadable: errors.StoreCorrupt | None = None
    for job_id, packed in zip(reply[::2], reply[1::2], strict=True):
        try:
            job, token = decode_packed(job_id.decode(), packed, time)
        except errors.StoreCorrupt as error:  # its lease expires; the others have their workers
            _log.error("claimed unreadable job", job_id=job_id.decode(errors="replace"), error=str(error))
            unreadable = error
        else:
            claims.append(Claim(job, Lease(token, job.lease_expires_at or "")))
    if unreadable is not None and not claims:
        raise unreadable
    return claims
