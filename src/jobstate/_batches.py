"""Creates many jobs: as few requests as possible, each of limited size."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

from msgspec import Raw

from jobstate._flow import Flow
from jobstate._handle import call_once
from jobstate._json import encode
from jobstate._options import NewJob
from jobstate._problems import error_for
from jobstate._requests import change, check_names
from jobstate._responses import Response, parse_retry_after, read_json
from jobstate._retry import RetryPolicy
from jobstate.errors import JobstateError, ServiceUnavailable, UnexpectedResponse
from jobstate.models import CreatedJobs, Job

#: The most jobs of a request, as the service allows.
MAX_JOBS: Final = 1000
#: The most bytes of jobs of a request, unless one has more: half of what the service allows by default.
MAX_BYTES: Final = 4 * 1024 * 1024


def submit_many_flow(
    jobs: Iterable[NewJob], key: str | None, policy: RetryPolicy, timeout: float | None, return_exceptions: bool
) -> Flow[list[Any]]:
    """Create jobs, and return their records in order; with `return_exceptions` errors in the place of records.

    `timeout` is for each request with its retries.
    """
    key = key or str(uuid4())
    results: list[Job | JobstateError] = []
    for number, batch in enumerate(list(_batches(jobs))):
        results += yield from _create(batch, _key_of(key, number), policy, timeout, return_exceptions)
    if not return_exceptions and (error := next((one for one in results if isinstance(one, JobstateError)), None)):
        raise error
    return results


def _create(
    batch: list[bytes], key: str, policy: RetryPolicy, timeout: float | None, return_exceptions: bool
) -> Flow[list[Job | JobstateError]]:
    """Create jobs, each a JSON object, once per `job_id`, or per `key` and place. Sends all again if that may help."""
    latest: list[Job | JobstateError] = []

    def read(response: Response) -> list[Job | JobstateError]:
        latest[:] = _read_created(response, len(batch))
        for one in latest:
            if isinstance(one, ServiceUnavailable) and one.problem is not None and one.problem.status == 503:
                raise one
        return latest

    request = change("POST", "/v1/batch-create", read, b'{"jobs":[%s]}' % b",".join(batch), key)
    try:
        return (yield from call_once(request, policy, timeout))
    except JobstateError as error:
        if not return_exceptions:
            raise
        return latest or [error] * len(batch)


def _key_of(key: str, number: int) -> str:
    """Return the key of a request: `key` for the first, else a hash, which is no key of another program."""
    return sha256(f"{key}\n{number}".encode()).hexdigest() if number else key


def _batches(jobs: Iterable[NewJob]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for job in jobs:
        text = _encoded(job)
        if batch and (len(batch) == MAX_JOBS or size + len(text) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _encoded(job: NewJob) -> bytes:
    """Return a job as JSON. Raises `TypeError` or `ValueError` if it cannot be, `TypeError` for an unknown field."""
    check_names(job, NewJob)
    if "input_params" not in job:
        raise TypeError("a job has no `input_params`")
    fields: dict[str, Any] = {name: value for name, value in job.items() if value is not None}
    if "id" in fields:
        fields["job_id"] = fields.pop("id")
    return encode(fields | {"input_params": Raw(encode(job["input_params"]))})


def _read_created(response: Response, count: int) -> list[Job | JobstateError]:
    """Return what became of each of `count` jobs."""
    results: list[Job | JobstateError] = []
    retry_after = parse_retry_after(response.headers.get("retry-after", ""))
    for item in read_json(CreatedJobs)(response).items:
        if item.job is not None:
            results.append(item.job)
        elif item.problem is not None:
            results.append(error_for(item.problem, item.problem.status, retry_after))
    if len(results) != count:
        raise UnexpectedResponse(f"the response is not from a jobstate service ({len(results)} items for {count} jobs)")
    return results
