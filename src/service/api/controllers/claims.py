"""Claims and leases over HTTP: claim a job, extend its lease, release it."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Final

import structlog
from litestar import Controller, Response, post
from litestar.params import JSONBody

from service.api.auth import requires
from service.api.long_poll import on_disconnect
from service.api.middleware.concurrency import get_slot
from service.api.openapi import examples
from service.api.openapi import operations as docs
from service.api.openapi.operations import Success, operation_docs
from service.api.params import IdempotencyKey, JobIdInPath, LeaseToken
from service.api.responses import HEADERS, StructResponse, job_response
from service.api.schemas import (
    BatchClaim,
    ClaimJob,
    ClaimList,
    HeartbeatJob,
    ReleaseJob,
    progress_of,
    raw_or_none,
    unset_to_none,
)
from service.domain import constraints, errors
from service.domain.api_keys import Scope
from service.domain.jobs import Claim, HeartbeatResult, Job
from service.services import HttpRequest, services_of
from service.store.events.claim_waiter import PendingClaim
from service.store.leases import LeaseManager

NO_JOB: Final = Success("No job in these queues is ready.")
CLAIM_ERRORS: Final[tuple[docs.Cause, ...]] = (
    *docs.WRITE_ERRORS,
    *docs.BODY_ERRORS,
    errors.IdempotencyKeyReused,
    errors.Draining,
)


class ClaimController(Controller):
    """Claims and leases."""

    path = "/v1"
    tags = ("workers",)

    @post(
        "/claims",
        operation_id="claimJob",
        summary="Claim a job",
        **requires(Scope.WORK),
        **operation_docs(
            {
                200: Success("The job and its lease.", {"claim": examples.CLAIM}),
                204: NO_JOB,
            },
            CLAIM_ERRORS,
            requests=examples.CLAIM_JOB,
        ),
    )
    async def claim_job(
        self, request: HttpRequest, data: JSONBody[ClaimJob], idempotency_key: IdempotencyKey = None
    ) -> Response[Claim]:
        """Claim the first job that is ready in the queues. Send its lease's token as `Lease-Token` with each change.

        A repeated claim with the same `Idempotency-Key` returns the same job and lease while that lease holds. The
        same key with other `queues`, `worker` or `lease_seconds` is rejected until a minute after `lease_seconds`. The
        order of `queues`, and `wait_seconds`, may differ. A claim that got no job is not remembered.

        The first job is that with the smallest `created_at` less `priority`. With `REDIS_PARTITIONS` above 1, of many
        claims at once each gets a job near the first.
        """
        claims = await _claim(request, data, idempotency_key)
        if not claims:
            return Response(None, status_code=204)  # type: ignore[arg-type]
        structlog.contextvars.bind_contextvars(job_id=claims[0].job.job_id)
        return StructResponse(claims[0])

    @post(
        "/batch-claim",
        operation_id="batchClaimJobs",
        summary="Claim several jobs",
        **requires(Scope.WORK),
        **operation_docs(
            {
                200: Success("The jobs, at least one, each with its lease.", {"claims": ClaimList([examples.CLAIM])}),
                204: NO_JOB,
            },
            CLAIM_ERRORS,
            requests=examples.CLAIM_JOBS,
        ),
    )
    async def claim_jobs(
        self, request: HttpRequest, data: JSONBody[BatchClaim], idempotency_key: IdempotencyKey = None
    ) -> Response[ClaimList]:
        """Claim the first jobs that are ready in the queues, each under its own lease.

        The response has at most `max_jobs`, those with the smallest `created_at` less `priority` first, and ends at
        8 MiB of records. It waits for the first job only. A repeated claim with the same `Idempotency-Key` returns the
        same jobs and leases, as far as these leases hold. If none does, it is a new claim. The same key with other
        content, or of a single claim, is rejected.

        With `REDIS_PARTITIONS` above 1 the jobs are nearly the first ones.
        """
        claims = await _claim(request, data, idempotency_key, max_jobs=data.max_jobs)
        if not claims:
            return Response(None, status_code=204)  # type: ignore[arg-type]
        return StructResponse(ClaimList(claims))

    @post(
        "/jobs/{job_id:str}/heartbeat",
        operation_id="heartbeatJob",
        summary="Extend a lease",
        **requires(Scope.WORK),
        **operation_docs(
            {200: Success("When the lease expires, and whether to stop.", {"continue": examples.HEARTBEAT})},
            (*docs.DELETE_ERRORS, *docs.BODY_ERRORS, *docs.LEASE_ERRORS),
            requests=examples.SEND_HEARTBEAT,
            body_required=False,
        ),
    )
    async def heartbeat_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        data: JSONBody[HeartbeatJob] = HeartbeatJob(),
        lease_token: LeaseToken = None,
    ) -> Response[HeartbeatResult]:
        """Extend the lease and report progress. The worker should stop if `cancel_requested` is true."""
        result = await services_of(request).leases.heartbeat(
            job_id, lease_token, lease_seconds=unset_to_none(data.lease_seconds), progress=progress_of(data.progress)
        )
        return StructResponse(result)

    @post(
        "/jobs/{job_id:str}/release",
        operation_id="releaseJob",
        summary="Release a job",
        **requires(Scope.WORK),
        **operation_docs(
            {200: Success("The job: pending again, failed or cancelled.", {"pending": examples.RELEASED}, HEADERS)},
            (*docs.WRITE_ERRORS, *docs.BODY_ERRORS, *docs.LEASE_ERRORS, errors.NotLeased, errors.IdempotencyKeyReused),
            requests=examples.RELEASE_JOB,
            body_required=False,
        ),
    )
    async def release_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        data: JSONBody[ReleaseJob] = ReleaseJob(),
        idempotency_key: IdempotencyKey = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """End the lease so that another worker can claim the job.

        With an `error_message` the attempt counts as failed; after `max_attempts` failures the job is failed. If
        cancellation was requested, the job becomes cancelled.
        """
        job = await services_of(request).leases.release_job(
            job_id,
            lease_token,
            error=raw_or_none(data.error_message),
            delay_seconds=unset_to_none(data.delay_seconds),
            change_id=idempotency_key,
        )
        return job_response(job)


async def _claim(
    request: HttpRequest, data: ClaimJob, idempotency_key: str | None, *, max_jobs: int | None = None
) -> list[Claim]:
    """Claim jobs, waiting for the first one; release them if the client has disconnected meanwhile."""
    constraints.WAIT_SECONDS.validate("wait_seconds", data.wait_seconds)
    pending = PendingClaim(data.queues)
    services = services_of(request)

    def try_claim() -> Awaitable[tuple[list[Claim], float | None]]:
        return services.leases.try_claim(
            *(data.queues, data.worker),
            lease_seconds=data.lease_seconds,
            claim_key=idempotency_key,
            max_jobs=max_jobs,
        )

    if data.wait_seconds:
        get_slot(request.scope).start_waiting()
    async with on_disconnect(request, pending.disconnect):
        claims = await services.claim_waiter.claim(pending, data.wait_seconds, try_claim)
    if pending.is_disconnected and idempotency_key is None:  # nobody can learn of these leases
        await asyncio.gather(*(_release_unclaimed(services.leases, claim) for claim in claims))
    return claims


async def _release_unclaimed(leases: LeaseManager, claim: Claim) -> None:
    """Release a job whose claim got no response. If that fails, its lease expires."""
    with contextlib.suppress(errors.JobStateError):
        await leases.release_job(claim.job.job_id, claim.lease.token)
