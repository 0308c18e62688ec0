"""Jobs over HTTP: create one, list them, get many, count them."""

from typing import Annotated, Final

import structlog
from litestar import Controller, Response, get, post
from litestar.params import JSONBody
from msgspec import structs

from service.api import cursors
from service.api.auth import requires
from service.api.etags import etag
from service.api.openapi import examples
from service.api.openapi import operations as docs
from service.api.openapi.operations import Success, operation_docs
from service.api.params import IdempotencyKey, LabelFilter, QueueFilter, SlateFilter, StatusFilter, in_query
from service.api.request_context import address, correlation_id, traceparent
from service.api.responses import StructResponse
from service.api.schemas import BatchGet, CreateJob, JobList, unset_to_none
from service.domain import constraints, errors, validation
from service.domain.api_keys import Scope
from service.domain.errors import IdempotencyKeyReused, JobExists
from service.domain.jobs import CreateResult, Job, JobBatch, JobFilter, Stats
from service.services import HttpRequest, services_of

_OPTIONAL_FIELD: Final = rf"(?:{'|'.join(validation.OPTIONAL_FIELDS)})"

CorrelationFilter = Annotated[str | None, in_query("Only jobs with this correlation id", constraints.TEXT)]
CreatedAfter = Annotated[str | None, in_query("Only jobs created after this", constraints.TIME)]
CreatedBefore = Annotated[str | None, in_query("Only jobs created before this", constraints.TIME)]
Limit = Annotated[
    str | None,
    in_query("The maximum jobs on the page", constraints.PAGE_LIMIT, default=constraints.DEFAULT_PAGE_LIMIT),
]
Cursor = Annotated[str | None, in_query("`next_cursor` of the previous page; send the same filters")]
Include = Annotated[
    str | None,
    in_query(
        f"Fields to include: one or more of {', '.join(validation.OPTIONAL_FIELDS)}, separated by commas",
        pattern=rf"^ *{_OPTIONAL_FIELD} *(?:, *{_OPTIONAL_FIELD} *)*$",
    ),
]


class JobsController(Controller):
    """The collection of jobs."""

    path = "/v1"
    tags = ("jobs",)

    @post(
        "/jobs",
        operation_id="createJob",
        summary="Create a job",
        **requires(Scope.WRITE),
        **operation_docs(
            {
                201: Success(
                    "The job, new or created by an equal request before.",
                    {"pending": examples.PENDING},
                    ("ETag", "Location", "Idempotency-Replayed"),
                    ("getJob", "getJobResult", "updateJob", "cancelJob", "deleteJob"),
                )
            },
            (*docs.WRITE_ERRORS, *docs.BODY_ERRORS, errors.JobExists, errors.IdempotencyKeyReused, errors.Draining),
            requests=examples.CREATE,
        ),
    )
    async def create_job(
        self, request: HttpRequest, data: JSONBody[CreateJob], idempotency_key: IdempotencyKey = None
    ) -> Response[Job]:
        """Create a pending job.

        An equal request with the same `job_id` or `Idempotency-Key` creates nothing. It returns the current job, with
        `Idempotency-Replayed: true`.
        """
        created = await _create(request, data, idempotency_key)
        structlog.contextvars.bind_contextvars(job_id=created.job.job_id)
        headers = {"Location": address(request.scope, f"/v1/jobs/{created.job.job_id}"), "ETag": etag(created.job)}
        if created.replayed:
            headers["Idempotency-Replayed"] = "true"
        return StructResponse(created.job, headers=headers)

    @get(
        "/jobs",
        operation_id="listJobs",
        summary="List jobs",
        **requires(Scope.READ),
        **operation_docs({200: Success("A page of jobs.", {"page": JobList([examples.LISTED])})}, docs.READ_ERRORS),
    )
    async def list_jobs(
        self,
        request: HttpRequest,
        status: StatusFilter = None,
        queue: QueueFilter = None,
        slate_id: SlateFilter = None,
        correlation_id: CorrelationFilter = None,
        limit: Limit = None,
        cursor: Cursor = None,
        include: Include = None,
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
        labels: LabelFilter = None,
    ) -> JobList:
        """Return the jobs that match all filters, newest first.

        A page may have fewer than `limit` jobs although more follow: read on until `next_cursor` is absent.
        """
        filters = JobFilter(
            status=None if status is None else validation.parse_status(status),
            queue=queue,
            slate_id=slate_id,
            correlation_id=correlation_id,
            created_after=created_after,
            created_before=created_before,
            labels=tuple(dict.fromkeys(labels or ())),
        )
        before = cursors.decode(cursor, filters)
        max_jobs = constraints.DEFAULT_PAGE_LIMIT if limit is None else constraints.PAGE_LIMIT.parse("limit", limit)
        page = await services_of(request).jobs.list_jobs(
            filters, limit=max_jobs, before=before, include=_included(include)
        )
        return JobList(page.items, cursors.encode(page.next_before, filters))

    @post(
        "/batch-get",
        operation_id="batchGetJobs",
        summary="Get many jobs",
        **requires(Scope.READ),
        **operation_docs(
            {200: Success("The jobs, and the ids without a job.", {"one found": examples.BATCH})},
            (*docs.READ_ERRORS, *docs.BODY_ERRORS),
            requests=examples.BATCH_GET,
        ),
    )
    async def batch_get_jobs(self, request: HttpRequest, data: JSONBody[BatchGet]) -> JobBatch:
        """Return jobs by their ids, each once and in the order of the request, and the ids without a job."""
        return await services_of(request).jobs.get_jobs(data.job_ids)

    @get(
        "/stats",
        operation_id="getStats",
        summary="Count jobs",
        **requires(Scope.READ),
        **operation_docs({200: Success("The counts.", {"counts": examples.STATS})}, docs.READ_ERRORS),
    )
    async def get_stats(self, request: HttpRequest) -> Stats:
        """Return the current number of jobs by status and by queue. The counts are exact.

        If the data has several partitions, they are not of one instant: each job is counted once, in a status that it
        had during the request.
        """
        return await services_of(request).jobs.get_stats()


async def _create(request: HttpRequest, data: CreateJob, key: str | None) -> CreateResult:
    """Create a job under the client's id, else under the id of its idempotency key, else under a new one."""
    fields = structs.asdict(data)
    client_id = unset_to_none(fields.pop("job_id"))
    by_key = None if key is None else constraints.job_id_for_key(key)
    jobs = services_of(request).jobs
    try:
        return await jobs.create_job(
            client_id if client_id is not None else by_key or jobs.new_job_id(),
            **fields,
            traceparent=traceparent(request),
            request_correlation_id=correlation_id(request.scope),
        )
    except JobExists as error:
        if client_id is None and key is not None:
            raise IdempotencyKeyReused from error
        raise


def _included(include: str | None) -> list[str]:
    return [] if include is None else [name.strip() for name in include.split(",")]
