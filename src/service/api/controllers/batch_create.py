"""Creation of many jobs over HTTP."""

from typing import Final

from litestar import Controller, Router, post
from litestar.params import JSONBody
from msgspec import UNSET

from service.api import rate_limit
from service.api.auth import requires
from service.api.openapi import examples
from service.api.openapi import operations as docs
from service.api.openapi.operations import Success, operation_docs
from service.api.params import IdempotencyKey
from service.api.problems import BODY_LIMIT, problem_of
from service.api.request_context import correlation_id, traceparent
from service.api.schemas import BatchCreate, CreatedJob, CreatedJobs, CreateJob, unset_to_none
from service.domain import constraints, errors
from service.domain.api_keys import Scope
from service.domain.jobs import CreateResult, NewJob
from service.domain.states import Status
from service.services import HttpRequest, services_of
from service.store.creation import Creation

#: The fields of a creation without its id.
_FIELDS: Final = NewJob.__struct_fields__

_EXAMPLE: Final = CreatedJobs(
    [
        CreatedJob(examples.LISTED, replayed=False),
        CreatedJob(problem=problem_of(errors.JobExists("sunday", Status.RUNNING, 2), "c1")),
    ]
)


class BatchCreateController(Controller):
    """The creation of many jobs, with a limit of its own for the body."""

    path = "/v1"
    tags = ("jobs",)

    @post(
        "/batch-create",
        operation_id="batchCreateJobs",
        summary="Create many jobs",
        **requires(Scope.WRITE),
        **operation_docs(
            {200: Success("What became of each job.", {"one created": _EXAMPLE})},
            (*docs.WRITE_ERRORS, *docs.BODY_ERRORS, errors.Draining),
            requests=examples.BATCH_CREATE,
        ),
    )
    async def create_jobs(
        self, request: HttpRequest, data: JSONBody[BatchCreate], idempotency_key: IdempotencyKey = None
    ) -> CreatedJobs:
        """Create up to 1,000 pending jobs, each by itself.

        A wrong field refuses all of them, such as `jobs[17].queue`. Otherwise each item of the response has the job, or
        the problem for which `POST /v1/jobs` would have refused it. So a drain that begins meanwhile refuses the rest.
        If it refuses all of them, it is the response.

        An equal job with the same `job_id`, or at the same place under the same `Idempotency-Key`, is created once. The
        rate limit counts each job.
        """
        if len(data.jobs) not in range(constraints.BATCH_SIZE.minimum, constraints.BATCH_SIZE.maximum + 1):
            allowed = f"{constraints.BATCH_SIZE.minimum} to {constraints.BATCH_SIZE.maximum:,} jobs"
            raise errors.InvalidValue("jobs", f"{len(data.jobs)} jobs are not allowed", allowed)
        services = services_of(request)
        creations = [_creation(request, place, job, idempotency_key) for place, job in enumerate(data.jobs)]
        await rate_limit.charge(request, services.rate_limiter, "jobs", len(creations))
        results = await services.jobs.create_jobs(creations)
        unavailable = [result for result in results if isinstance(result, errors.StoreUnavailable)]
        draining = [result.retry_after for result in results if isinstance(result, errors.Draining)]
        if len(unavailable) == len(results):
            raise unavailable[0]
        if len(draining) == len(results):
            raise errors.Draining(min(draining))
        return CreatedJobs(
            [
                _item(request, result, idempotency_key if job.job_id is UNSET else None)
                for job, result in zip(data.jobs, results, strict=True)
            ]
        )


def batch_create_router(max_bytes: int) -> Router:
    """Return the route, which takes bodies of up to `max_bytes`."""
    opt = {BODY_LIMIT: "MAX_BATCH_BYTES"}
    return Router("/", route_handlers=[BatchCreateController], request_max_body_size=max_bytes, opt=opt)


def _creation(request: HttpRequest, place: int, job: CreateJob, key: str | None) -> Creation:
    """Return the creation of a job: under the client's id, else that of key and place, else a new one.

    Raises `InvalidValue` with the place.
    """
    new_job = NewJob(**{name: getattr(job, name) for name in _FIELDS})
    try:
        by_key = None if key is None else constraints.job_id_for_key(key, place)
        job_id = unset_to_none(job.job_id)
        if job_id is None:
            job_id = by_key or services_of(request).jobs.new_job_id()
        return Creation(job_id, new_job, traceparent(request), correlation_id(request.scope))
    except errors.InvalidValue as error:
        if error.field == "Idempotency-Key":
            raise
        raise errors.InvalidValue(f"jobs[{place}].{error.field}", error.detail, error.allowed) from error


def _item(request: HttpRequest, result: CreateResult | errors.JobStateError, key: str | None) -> CreatedJob:
    """Return what became of a job; `key` is that of the request, if the id of the job comes from it."""
    if isinstance(result, CreateResult):
        return CreatedJob(result.job, result.replayed)
    if isinstance(result, errors.JobExists) and key is not None:
        result = errors.IdempotencyKeyReused()
    return CreatedJob(problem=problem_of(result, correlation_id(request.scope)))
