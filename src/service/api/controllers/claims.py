"""The work on jobs over HTTP: claim one, be heard of, give it back."""

import contextlib
from collections.abc import Awaitable
from typing import Any, Final

import structlog
from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from service.api.middleware.concurrency import get_slot, on_disconnect
from service.api.openapi import examples as examples
from service.api.openapi.operations import (
    BODY_ERRORS,
    DELETE_ERRORS,
    WRITE_ERRORS,
    SuccessResponse,
    operation_docs,
    problems,
)
from service.api.params import IdempotencyKey, JobIdInPath, LeaseToken
from service.api.request_bodies import StructDTO
from service.api.responses import HEADERS, StructResponse, job_response
from service.api.schemas import (
    ClaimJob,
    ReleaseJob,
    SendHeartbeat,
    progress_of,
    raw_or_none,
    unset_to_none,
)
from service.domain import constraints, errors
from service.domain.jobs import Claim, HeartbeatResult, Job
from service.store.events.claim_waiter import ClaimWaiter, PendingClaim
from service.store.leases import LeaseManager

#: What a request without a body says.
NO_PROGRESS: Final = SendHeartbeat()
NO_ERROR: Final = ReleaseJob()


class ClaimController(Controller):
    """What workers do."""

    path = "/v1"
    tags = ("workers",)

    @post(
        "/claims",
        operation_id="claimJob",
        summary="Claim a job",
        status_code=200,
        dto=StructDTO[ClaimJob],
        return_dto=None,
        **operation_docs(
            {
                200: SuccessResponse("A job, and the lease on it.", examples={"claim": examples.CLAIM}),
                204: SuccessResponse("No job is due in these queues."),
            },
            *WRITE_ERRORS,
            *BODY_ERRORS,
            *problems(errors.IdempotencyKeyReused, errors.Draining),
            requests=examples.CLAIM_JOB,
        ),
    )
    async def claim(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[ClaimJob],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[Claim]:
        """Take the oldest job that is due in the queues; the lease's token goes along with all that is said of it.

        Repeated under its `Idempotency-Key`, a claim gives the same job and lease while that lease holds. The same key
        with other `queues`, `worker` or `lease_seconds` is refused until a minute after the lease that was asked for.
        The order of `queues`, and `wait_seconds`, may differ. A claim that got no job is not remembered.
        """
        constraints.WAIT_SECONDS.validate("wait_seconds", data.wait_seconds)
        turn = PendingClaim(data.queues)
        state = request.app.state
        lease_manager: LeaseManager = state["lease_manager"]
        waiting: ClaimWaiter = state["waiting"]

        def try_claim() -> Awaitable[tuple[Claim | None, float | None]]:
            return lease_manager.try_claim(
                data.queues, data.worker, lease_seconds=data.lease_seconds, claim_key=idempotency_key
            )

        if data.wait_seconds:
            get_slot(request.scope).start_waiting()
        async with on_disconnect(request, turn.disconnect):
            claim = await waiting.claim(turn, data.wait_seconds, try_claim)
        if claim is None:
            return Response(None, status_code=204)  # type: ignore[arg-type]
        structlog.contextvars.bind_contextvars(job_id=claim.job.job_id)
        if (
            turn.is_disconnected and idempotency_key is None
        ):  # nobody will ever hear of the lease: the next may have the job
            await _release_unclaimed(lease_manager, claim)
        return StructResponse(claim)

    @post(
        "/jobs/{job_id:str}/heartbeat",
        operation_id="heartbeatJob",
        summary="Extend a lease",
        status_code=200,
        dto=StructDTO[SendHeartbeat],
        return_dto=None,
        **operation_docs(
            {200: SuccessResponse("The lease's new end, and whether to stop.", examples={"go on": examples.HEARTBEAT})},
            *DELETE_ERRORS,
            *BODY_ERRORS,
            *problems(errors.JobNotFound, errors.LeaseLost),
            requests=examples.SEND_HEARTBEAT,
            body_required=False,
        ),
    )
    async def heartbeat(
        self,
        request: Request[Any, Any, Any],
        job_id: JobIdInPath,
        data: JSONBody[SendHeartbeat] = NO_PROGRESS,
        lease_token: LeaseToken = None,
    ) -> Response[HeartbeatResult]:
        """Extend the lease and take the progress; the answer says whether a cancel was asked for."""
        lease_manager: LeaseManager = request.app.state["lease_manager"]
        return StructResponse(
            await lease_manager.heartbeat(
                job_id,
                lease_token,
                lease_seconds=unset_to_none(data.lease_seconds),
                progress=progress_of(data.progress),
            )
        )

    @post(
        "/jobs/{job_id:str}/release",
        operation_id="releaseJob",
        summary="Give a job back",
        status_code=200,
        dto=StructDTO[ReleaseJob],
        return_dto=None,
        **operation_docs(
            {
                200: SuccessResponse(
                    "The record: pending again, failed, or cancelled.", HEADERS, {"pending": examples.RELEASED}
                )
            },
            *WRITE_ERRORS,
            *BODY_ERRORS,
            *problems(errors.JobNotFound, errors.LeaseLost, errors.NotLeased, errors.IdempotencyKeyReused),
            requests=examples.RELEASE_JOB,
            body_required=False,
        ),
    )
    async def release(
        self,
        job_id: JobIdInPath,
        lease_manager: NamedDependency[LeaseManager],
        data: JSONBody[ReleaseJob] = NO_ERROR,
        idempotency_key: IdempotencyKey = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """Let another worker have the job; an error counts as a failed attempt, and the last one ends the job."""
        job = await lease_manager.release_job(
            job_id,
            lease_token,
            error=raw_or_none(data.error_message),
            delay_seconds=unset_to_none(data.delay_seconds),
            change_id=idempotency_key,
        )
        return job_response(job)


async def _release_unclaimed(lease_manager: LeaseManager, claim: Claim) -> None:
    """Give back a job that nobody has heard of; where that fails, its lease runs out."""
    with contextlib.suppress(errors.JobStateError):
        await lease_manager.release_job(claim.job.job_id, claim.lease.token)
