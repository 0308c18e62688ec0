"""The optional arguments of the methods of the clients."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Required, TypedDict


class _JobFields(TypedDict, total=False):
    """The optional fields of a new job, but for the trace context of its request."""

    #: The id of a group of jobs, which lists can filter by.
    slate_id: str | None
    #: Up to ten names and values, which lists can filter by.
    labels: Mapping[str, str] | None
    #: The number of scenarios that the job computes.
    scenario_count: int | None
    #: Connects the job to the request that caused it: in records, logs, lists, and at the worker.
    correlation_id: str | None
    #: How many failed attempts make the job failed; 1 by default.
    max_attempts: int | None
    #: Seconds before the second attempt, doubled for each further one, up to an hour.
    retry_delay_seconds: int | None
    #: Seconds before the job may be claimed.
    delay_seconds: int | None
    #: Seconds of seniority, also negative ones: claims give the job with the smallest `created_at` less priority first.
    priority: int | None
    #: Seconds from the start of an attempt after which it has failed.
    run_timeout_seconds: int | None
    #: Seconds from the moment it may be claimed after which the job fails unless a worker has started it.
    start_timeout_seconds: int | None
    #: Seconds for which the service keeps the record after the job has ended.
    retention_seconds: int | None


class JobOptions(_JobFields, total=False):
    """The optional fields of a new job."""

    #: The W3C trace context that the worker continues.
    traceparent: str | None


class NewJob(_JobFields, total=False):
    """A job for `submit_many`."""

    #: Any JSON, as `submit` takes it.
    input_params: Required[object]
    #: The id; by default the service makes one.
    id: str | None
    #: The queue; `default` by default.
    queue: str | None


class RetryOptions(TypedDict, total=False):
    """The optional fields of a retry."""

    #: How many failed attempts make the job failed from now on; by default those of the job.
    max_attempts: int | None
    #: Seconds before the job may be claimed.
    delay_seconds: int | None
    #: Seconds of seniority, as for a new job; by default those of the job.
    priority: int | None
    #: Seconds from the start of an attempt after which it has failed; by default those of the job.
    run_timeout_seconds: int | None


class JobFilter(TypedDict, total=False):
    """The filters of a list. A job must match all of them."""

    status: Literal["pending", "running", "completed", "failed", "cancelled"] | None
    queue: str | None
    slate_id: str | None
    correlation_id: str | None
    #: The job has all of these, and perhaps others; at most five.
    labels: Mapping[str, str] | None
    #: Both exclusive, with a time zone.
    created_after: datetime | str | None
    created_before: datetime | str | None
