"""The error that each problem of the service, and each outcome of a job, means."""

import re
from collections.abc import Iterator
from typing import Any, Final

from jobstate import errors
from jobstate._json import decode, encode
from jobstate.models import Job, Problem

_MAX_MESSAGE: Final = 500

#: Classes that stand for no single problem type.
_GENERAL: Final = {
    *(
        errors.JobstateError,
        errors.ConfigurationError,
        errors.WaitTimeout,
        errors.InvalidResult,
        errors.JobUnsuccessful,
        errors.ServiceUnavailable,
    ),
    *(
        errors.ConnectionFailed,
        errors.ConnectionLost,
        errors.UnexpectedResponse,
        errors.Redirected,
        errors.RequestRejected,
        errors.AccessDenied,
        errors.NotFound,
    ),
    *(errors.Conflict, errors.JobExpired, errors.JobDeleted),
}
_BY_STATUS: Final = {
    401: errors.AccessDenied,
    403: errors.AccessDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Conflict,
}
#: Statuses after which a later retry may succeed.
RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)})
#: Problems with a retryable status that the service reports before it does anything.
_NOT_EXECUTED: Final = frozenset({"draining", "overloaded"})


def _tree(root: type[errors.JobstateError]) -> Iterator[type[errors.JobstateError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


#: The class of each problem type, by its name: `job-not-found` is `JobNotFound`.
PROBLEM_ERRORS: Final = {
    re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind
    for kind in _tree(errors.JobstateError)
    if kind not in _GENERAL
}


def error_for(problem: Problem, status: int, retry_after: float = 0.0) -> errors.JobstateError:
    """Return the error for a problem that came with an HTTP status."""
    message = _message(problem, status)
    kind = PROBLEM_ERRORS.get(problem.name)
    if kind is None:
        kind = (
            errors.ServiceUnavailable
            if status in RETRYABLE_STATUSES
            else _BY_STATUS.get(status, errors.RequestRejected)
        )
    if issubclass(kind, errors.ServiceUnavailable):
        unknown = status >= 500 and problem.name not in _NOT_EXECUTED
        return kind(message, problem=problem, retry_after=retry_after, outcome_unknown=unknown)
    if issubclass(kind, errors.JobUnsuccessful):
        return kind(message, error_message=decode(problem.raw_error_message), problem=problem)
    return kind(message, problem=problem)


def error_for_outcome(job: Job) -> errors.JobUnsuccessful:
    """Return the error for a job that failed or was cancelled."""
    reason = job.error_message
    kind = errors.JobCancelled if job.status == "cancelled" else errors.JobFailed
    text = f"job {job.job_id} {'was cancelled' if kind is errors.JobCancelled else 'failed'}"
    return kind(f"{text}: {_text(reason)}" if reason is not None else text, job_id=job.job_id, error_message=reason)


def _message(problem: Problem, status: int) -> str:
    text = problem.detail or problem.title or f"the service responded {status}"
    return f"{text} ({problem.name})" if problem.name else text


def _text(error_message: Any) -> str:
    """Return an error message as one line; workers send `{"type": …, "message": …}`."""
    if isinstance(error_message, dict) and "message" in error_message:
        parts = [error_message.get("type"), error_message["message"]]
        text = ": ".join(str(part) for part in parts if part)
    else:
        text = error_message if isinstance(error_message, str) else encode(error_message).decode()
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"
