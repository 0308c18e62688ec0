"""One job over HTTP: get, update, cancel and delete it."""

import asyncio
import contextlib
from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import JSONBody
from msgspec import Raw

from service.api.auth import requires
from service.api.etags import ETAG_LIST_PATTERN, etag_matches, parse_if_match
from service.api.long_poll import on_disconnect, parse_prefer_wait
from service.api.middleware.concurrency import get_slot
from service.api.openapi import examples
from service.api.openapi import operations as docs
from service.api.openapi.operations import Success, operation_docs
from service.api.params import IdempotencyKey, JobIdInPath, LeaseToken, in_header, in_query
from service.api.problems import RETRY_AFTER
from service.api.request_bodies import decode
from service.api.request_checks import JSON
from service.api.responses import HEADERS, StructResponse, job_headers, job_response
from service.api.schemas import CancelJob, RetryJob, UpdateJob, progress_of, raw_or_none, unset_to_none
from service.domain import constraints, errors
from service.domain.api_keys import Scope
from service.domain.errors import JobNotFound
from service.domain.events import Event
from service.domain.jobs import History, Job
from service.domain.states import Status
from service.services import HttpRequest, services_of
from service.store.deadlines import new_budget

IfMatch = Annotated[
    str | None,
    in_header(
        "If-Match", "Fail with 412 unless the job's ETag is one of these; `*` allows any", pattern=ETAG_LIST_PATTERN
    ),
]
IfNoneMatch = Annotated[
    str | None, in_header("If-None-Match", "Return 304 if the ETag is one of these", pattern=ETAG_LIST_PATTERN)
]
Wait = Annotated[str | None, in_query("The maximum seconds to wait for a change", constraints.WAIT_SECONDS)]
Prefer = Annotated[
    str | None,
    in_header("Prefer", f"`wait=N` is the same as `wait` (RFC 7240), at most {constraints.WAIT_SECONDS.maximum}"),
]


class JobController(Controller):
    """One job."""

    path = "/v1/jobs"
    tags = ("jobs",)

    @get(
        "/{job_id:str}",
        operation_id="getJob",
        summary="Get a job",
        **requires(Scope.READ),
        **operation_docs(
            {
                200: Success("The job.", examples.JOB, (*HEADERS, "Preference-Applied")),
                304: Success("The ETag is one of `If-None-Match`.", headers=(*HEADERS, "Preference-Applied")),
            },
            (*docs.READ_ERRORS, errors.JobNotFound, errors.TooManyWatchers, errors.Draining),
        ),
    )
    async def get_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        wait: Wait = None,
        prefer: Prefer = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response[Job]:
        """Return the job with its ETag. Until the job is finished, `Retry-After` says when to poll again.

        With `wait`, the service responds when the ETag is none of `If-None-Match`. Without that header it responds
        when the job changes. It responds at the latest after `wait` seconds, and at once if the job is finished.
        """
        requested = None if wait is None else constraints.WAIT_SECONDS.parse("wait", wait)
        preferred = parse_prefer_wait(prefer) if requested is None else None
        if seconds := requested or preferred:
            await _wait_for_change(request, job_id, seconds, if_none_match)
        job = await services_of(request).jobs.get_job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        applied = {} if preferred is None else {"Preference-Applied": f"wait={preferred}"}
        if etag_matches(job, if_none_match):
            return Response(None, status_code=304, headers=job_headers(job) | applied)  # type: ignore[arg-type]
        return StructResponse(job, headers=job_headers(job) | applied)

    @get(
        "/{job_id:str}/result",
        operation_id="getJobResult",
        summary="Get a job's result",
        **requires(Scope.READ),
        **operation_docs(
            {
                200: Success("The result, any JSON.", {"lineups": examples.RESULT}, ("ETag",)),
                204: Success("The job completed without a result.", headers=("ETag",)),
                304: Success("The ETag is one of `If-None-Match`.", headers=("ETag",)),
            },
            (*docs.READ_ERRORS, errors.JobNotFound, errors.ResultNotReady, errors.JobFailed, errors.JobCancelled),
        ),
    )
    async def get_job_result(
        self, request: HttpRequest, job_id: JobIdInPath, if_none_match: IfNoneMatch = None
    ) -> Response[Raw]:
        """Return the job's result as the worker sent it, or 204 if the job completed without one."""
        job = await services_of(request).jobs.get_result(job_id)
        if etag_matches(job, if_none_match):
            return Response(None, status_code=304, headers=job_headers(job))  # type: ignore[arg-type]
        if job.result is None:
            return Response(None, status_code=204, headers=job_headers(job))  # type: ignore[arg-type]
        return Response(job.result, media_type=JSON, headers=job_headers(job))

    @get(
        "/{job_id:str}/history",
        operation_id="getJobHistory",
        summary="Get a job's history",
        **requires(Scope.READ),
        **operation_docs(
            {200: Success("The history.", {"completed": examples.HISTORY})}, (*docs.READ_ERRORS, errors.JobNotFound)
        ),
    )
    async def get_job_history(self, request: HttpRequest, job_id: JobIdInPath) -> History:
        """Return the job's changes, oldest first: creation, claims, releases, cancellation request, final status."""
        history = await services_of(request).jobs.get_history(job_id)
        if history is None:
            raise JobNotFound(job_id)
        return history

    @patch(
        "/{job_id:str}",
        operation_id="updateJob",
        summary="Update a job",
        **requires(Scope.WRITE, lease_holder=Scope.WORK),
        **operation_docs(
            {200: Success("The updated job.", examples.UPDATED, HEADERS)},
            (*docs.CHANGE_ERRORS, *docs.BODY_ERRORS),
            requests=examples.CHANGE,
        ),
    )
    async def update_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        data: JSONBody[UpdateJob],
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """Change the job's status, or report progress of a running job.

        `status` is required: to report progress, send `status: running` and `progress`.
        A `result` needs the status `completed`, an `error_message` needs `failed` or `cancelled`. A leased job needs
        the `Lease-Token` of its lease.
        """
        job = await services_of(request).jobs.update_job_status(
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
        **requires(Scope.WRITE),
        **operation_docs(
            {
                200: Success("The cancelled job.", {"cancelled": examples.CANCELLED}, HEADERS),
                202: Success("The worker is asked to stop.", {"requested": examples.CANCEL_REQUESTED}, HEADERS),
            },
            (*docs.CHANGE_ERRORS, 413, 415),
        ),
    )
    async def cancel_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
        lease_token: LeaseToken = None,
    ) -> Response[Job]:
        """Cancel a job that is not finished. If the job is leased, ask its worker to stop. The request has no body."""
        decode(CancelJob, await request.body() or b"{}")
        versions = parse_if_match(if_match)
        job = await services_of(request).jobs.cancel_job(
            job_id, change_id=idempotency_key, if_match=versions, lease_token=lease_token
        )
        return job_response(job, 200 if job.status is Status.CANCELLED else 202)

    @post(
        "/{job_id:str}/retry",
        operation_id="retryJob",
        summary="Retry a job",
        **requires(Scope.WRITE),
        **operation_docs(
            {200: Success("The job, pending again.", {"retried": examples.RETRIED}, HEADERS)},
            (*docs.RETRY_ERRORS, *docs.BODY_ERRORS),
            requests=examples.RETRY_JOB,
            body_required=False,
        ),
    )
    async def retry_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        data: JSONBody[RetryJob] = RetryJob(),  # noqa: B008
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
    ) -> Response[Job]:
        """Make a failed or cancelled job pending again, also during a drain.

        `failures` becomes 0 and `attempt` counts on. Error, progress and lease are removed; the history keeps the
        errors. An `Idempotency-Key` is known until the next retry. A change under the former lease is answered with
        `lease-lost`, and a repetition of the last change before the retry within a minute with `illegal-transition`.
        """
        job = await services_of(request).jobs.retry_job(
            job_id,
            max_attempts=unset_to_none(data.max_attempts),
            delay_seconds=data.delay_seconds,
            priority=unset_to_none(data.priority),
            run_timeout_seconds=unset_to_none(data.run_timeout_seconds),
            change_id=idempotency_key,
            if_match=parse_if_match(if_match),
        )
        return job_response(job)

    @delete(
        "/{job_id:str}",
        operation_id="deleteJob",
        summary="Delete a job",
        **requires(Scope.WRITE),
        **operation_docs(
            {204: Success("The job is deleted.")},
            (*docs.DELETE_ERRORS, errors.JobNotFound, errors.JobNotFinal, errors.PreconditionFailed),
        ),
    )
    async def delete_job(
        self,
        request: HttpRequest,
        job_id: JobIdInPath,
        idempotency_key: IdempotencyKey = None,
        if_match: IfMatch = None,
    ) -> None:
        """Delete a finished job. Its id can be used again."""
        versions = parse_if_match(if_match)
        await services_of(request).jobs.delete_job(job_id, change_id=idempotency_key, if_match=versions)


async def _wait_for_change(request: HttpRequest, job_id: str, seconds: int, if_none_match: str | None) -> None:
    """Return when the job changes, when it is finished, or after `seconds`."""
    services = services_of(request)
    if services.shutdown.has_begun:  # an immediate response would make the client poll again at once
        raise errors.Draining(RETRY_AFTER, is_shutdown=True)
    slot = get_slot(request.scope)
    slot.start_watching()
    watch = slot.enter_context(services.job_watcher.watch(job_id))
    job = await services.job_watcher.get_job(job_id)
    if job is None or job.is_final or (if_none_match is not None and not etag_matches(job, if_none_match)):
        return
    changes = services.job_watcher.follow(watch, job, job.version)
    with contextlib.suppress(TimeoutError):
        async with on_disconnect(request, watch.disconnect), asyncio.timeout(seconds), contextlib.aclosing(changes):
            async for change in changes:
                if isinstance(change, Event) or (isinstance(change, Job) and not etag_matches(change, if_none_match)):
                    break
    new_budget()
