"""One job over HTTP: get, change, cancel, delete."""

import asyncio
import contextlib
from typing import Annotated, Any

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody
from msgspec import Raw

from service.api.etags import ETAG_LIST_PATTERN, etag_matches, parse_if_match
from service.api.middleware.concurrency import get_slot, on_disconnect, parse_prefer_wait
from service.api.openapi import examples as examples
from service.api.openapi.operations import (
    BODY_ERRORS,
    DELETE_ERRORS,
    ETAG,
    PREFERENCE_APPLIED,
    READ_ERRORS,
    WRITE_ERRORS,
    SuccessResponse,
    operation_docs,
    problems,
)
from service.api.params import IdempotencyKey, JobIdInPath, LeaseToken, integer_parameter
from service.api.problems import RETRY_AFTER
from service.api.request_bodies import StructDTO, decode
from service.api.request_checks import JSON
from service.api.responses import HEADERS, StructResponse, job_headers, job_response
from service.api.schemas import (
    CancelJob,
    ChangeJob,
    progress_of,
    raw_or_none,
    unset_to_none,
)
from service.domain import constraints, errors
from service.domain.errors import JobNotFound
from service.domain.events import Event
from service.domain.jobs import History, Job
from service.domain.states import Status
from service.store.deadlines import TimeBudget, budget
from service.store.events.job_watcher import JobWatcher
from service.store.jobs import JobStateManager

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Only if the record has one of these ETags, or `*`",
        schema_extra={"pattern": ETAG_LIST_PATTERN},
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="304 if the record still has one of these ETags",
        schema_extra={"pattern": ETAG_LIST_PATTERN},
    ),
]
Wait = Annotated[str | None, integer_parameter("Seconds to wait for a change", constraints.WAIT_SECONDS)]
Prefer = Annotated[
    str | None,
    HeaderParameter(
        description=f"`wait=…` asks for the same (RFC 7240); more than {constraints.WAIT_SECONDS.maximum} counts as that many",
    ),
]


class JobController(Controller):
    """The record of one job."""

    path = "/v1/jobs"
    tags = ("jobs",)

    @get(
        "/{job_id:str}",
        operation_id="getJob",
        summary="Get a job",
        **operation_docs(
            {
                200: SuccessResponse(
                    "The record.",
                    (*HEADERS, PREFERENCE_APPLIED),
                    {"pending": examples.PENDING, "running": examples.RUNNING, "completed": examples.COMPLETED},
                ),
                304: SuccessResponse("The client has this very record.", (*HEADERS, PREFERENCE_APPLIED)),
            },
            *READ_ERRORS,
            *problems(errors.JobNotFound, errors.TooManyWatchers, errors.Draining),
        ),
    )
    async def read(
        self,
        request: Request[Any, Any, Any],
        job_id: JobIdInPath,
        job_manager: NamedDependency[JobStateManager],
        wait: Wait = None,
        prefer: Prefer = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response[Job]:
        """Return the record with its ETag; `Retry-After` says when to ask again while the job has not ended.

        With `wait`, return it once its ETag is none of `If-None-Match`, or without that header once it has changed; at
        the latest after so many seconds, and at once if the job has ended.
        """
        asked = None if wait is None else constraints.WAIT_SECONDS.parse("wait", wait)
        preferred = parse_prefer_wait(prefer) if asked is None else None
        if seconds := asked or preferred:
            await _wait_for_change(request, job_id, seconds, if_none_match)
        job = await job_manager.get_job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        applied = {} if preferred is None else {PREFERENCE_APPLIED: f"wait={preferred}"}
        if etag_matches(job, if_none_match):
            return Response(None, status_code=304, headers=job_headers(job) | applied)  # type: ignore[arg-type]
        return StructResponse(job, headers=job_headers(job) | applied)

    @get(
        "/{job_id:str}/result",
        operation_id="getJobResult",
        summary="Get a job's result",
        **operation_docs(
            {
                200: SuccessResponse("The result, any JSON.", (ETAG,), {"lineups": examples.RESULT}),
                204: SuccessResponse("The job completed without a result.", (ETAG,)),
                304: SuccessResponse("The client has this very result.", (ETAG,)),
            },
            *READ_ERRORS,
            *problems(errors.JobNotFound, errors.ResultNotReady, errors.JobFailed, errors.JobCancelled),
        ),
    )
    async def result(
        self, job_id: JobIdInPath, job_manager: NamedDependency[JobStateManager], if_none_match: IfNoneMatch = None
    ) -> Response[Raw]:
        """Return the bare result as it was sent; 204 if the job completed without one."""
        job = await job_manager.get_result(job_id)
        if etag_matches(job, if_none_match):
            return Response(None, status_code=304, headers=job_headers(job))  # type: ignore[arg-type]
        if job.result is None:
            return Response(None, status_code=204, headers=job_headers(job))  # type: ignore[arg-type]
        return Response(job.result, media_type=JSON, headers=job_headers(job))

    @get(
        "/{job_id:str}/history",
        operation_id="getJobHistory",
        summary="Get what has become of a job",
        **operation_docs(
            {200: SuccessResponse("Its changes.", examples={"completed": examples.HISTORY})},
            *READ_ERRORS,
            *problems(errors.JobNotFound),
        ),
    )
    async def history(self, job_id: JobIdInPath, job_manager: NamedDependency[JobStateManager]) -> History:
        """Return the job's changes so far, oldest first: created, claimed, given back, asked to stop, ended."""
        history = await job_manager.get_history(job_id)
        if history is None:
            raise JobNotFound(job_id)
        return history

    @patch(
        "/{job_id:str}",
        operation_id="updateJob",
        summary="Move a job to another status",
        dto=StructDTO[ChangeJob],
        return_dto=None,
        **operation_docs(
            {
                200: SuccessResponse(
                    "The new record.", HEADERS, {"running": examples.RUNNING, "completed": examples.COMPLETED}
                )
            },
            *WRITE_ERRORS,
            *BODY_ERRORS,
            *problems(errors.JobNotFound, errors.LeaseLost, errors.IllegalTransition),
            *problems(errors.PreconditionFailed, errors.IdempotencyKeyReused),
            requests=examples.CHANGE,
        ),
    )
    async def change(
        self,
        request: Request[Any, Any, Any],
        job_id: JobIdInPath,
        data: JSONBody[ChangeJob],
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """Apply the change whole or refuse it; a result goes with completed, an error with failed or cancelled."""
        job_manager: JobStateManager = request.app.state["job_manager"]
        job = await job_manager.update_job_status(
            job_id,
            data.status,
            result=raw_or_none(data.result),
            error=raw_or_none(data.error_message),
            progress=progress_of(data.progress),
            scenario_count=unset_to_none(data.scenario_count),
            change_id=idempotency_key,
            if_match=parse_if_match(if_match),
            lease_token=lease_token,
        )
        return job_response(job)

    @post(
        "/{job_id:str}/cancel",
        operation_id="cancelJob",
        summary="Cancel a job",
        status_code=200,
        **operation_docs(
            {
                200: SuccessResponse("The record, cancelled.", HEADERS, {"cancelled": examples.CANCELLED}),
                202: SuccessResponse(
                    "The holder of its lease was asked to stop.", HEADERS, {"asked": examples.CANCEL_REQUESTED}
                ),
            },
            *WRITE_ERRORS,
            *problems(errors.JobNotFound, errors.LeaseLost, errors.IllegalTransition),
            *problems(errors.PreconditionFailed, errors.IdempotencyKeyReused, 413, 415),
        ),
    )
    async def cancel(
        self,
        request: Request[Any, Any, Any],
        job_id: JobIdInPath,
        job_manager: NamedDependency[JobStateManager],
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """Cancel a job that has not ended; ask the holder of a leased one to stop. The body is empty."""
        decode(CancelJob, await request.body() or b"{}")
        versions = parse_if_match(if_match)
        job = await job_manager.cancel_job(
            job_id, change_id=idempotency_key, if_match=versions, lease_token=lease_token
        )
        return job_response(job, 200 if job.status is Status.CANCELLED else 202)

    @delete(
        "/{job_id:str}",
        operation_id="deleteJob",
        summary="Delete a job",
        **operation_docs(
            {204: SuccessResponse("The job is gone.")},
            *DELETE_ERRORS,
            *problems(errors.JobNotFound, errors.JobNotFinal, errors.PreconditionFailed),
        ),
    )
    async def remove(
        self,
        job_id: JobIdInPath,
        job_manager: NamedDependency[JobStateManager],
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
    ) -> None:
        """Delete a job that has ended; its id is free again."""
        versions = parse_if_match(if_match)
        await job_manager.delete_job(job_id, change_id=idempotency_key, if_match=versions)


async def _wait_for_change(
    request: Request[Any, Any, Any], job_id: str, seconds: int, if_none_match: str | None
) -> None:
    """Return when a job is there to be answered: by what it is, by what it becomes, or because the time is over."""
    watching: JobWatcher = request.app.state.watching
    if watching.is_closed:  # else its client would ask again at once
        raise errors.Draining(RETRY_AFTER)
    seat = get_slot(request.scope)
    seat.start_watching()
    watch = seat.enter_context(watching.watch(job_id))
    job = await watching.get_job(job_id)
    if job is None or job.is_final or (if_none_match is not None and not etag_matches(job, if_none_match)):
        return
    following = watching.follow(watch, job, job.version)
    with contextlib.suppress(TimeoutError):
        async with on_disconnect(request, watch.leave), asyncio.timeout(seconds), contextlib.aclosing(following):
            async for seen in following:
                if isinstance(seen, Event) or (isinstance(seen, Job) and not etag_matches(seen, if_none_match)):
                    break
    budget.set(TimeBudget())
