"""What becomes of a job after its attempt, as changes that the service can accept."""

from collections.abc import Callable, Mapping
from typing import Final

from jobstate_worker.encoding import SIZES, description, text_of
from jobstate_worker.requests import JobUpdate

#: Characters of a rejected `error_message` that are kept.
MAX_EXCERPT: Final = 2_000
_ERROR_MESSAGE: Final = "the `error_message` of `JobFailed`"
#: The last alternative for an error that the service rejects in every form.
_REJECTED: Final = {"type": "RequestRefused", "message": "the service rejected the error; the worker's log has it"}


def cancelled() -> JobUpdate:
    """Return the end of a job that has stopped because that was asked for."""
    return JobUpdate.to("cancelled")


def completed(result: object, progress: Mapping[str, object] | None) -> JobUpdate:
    """Return the end of a job with its result; a result that cannot be sent fails the job, with the reason."""
    content = "the result"
    try:
        change = JobUpdate.to("completed", result=result)._replace(content=content)
        if not progress:
            return change
        return JobUpdate.to("completed", result=result, progress=progress)._replace(
            content=content, alternatives=(change,)
        )
    except Exception as reason:
        return unsendable(content, reason)


def failed(error: BaseException) -> JobUpdate:
    """Return the final failure with the `error_message` of `error`, or with the reason why that cannot be sent."""
    excerpt = ""
    try:
        error_message = error.error_message  # type: ignore[attr-defined]
        excerpt = text_of(lambda: ascii(error_message))[:MAX_EXCERPT]
        return JobUpdate.to("failed", error_message=error_message)._replace(content=_ERROR_MESSAGE, excerpt=excerpt)
    except Exception as reason:
        return unsendable(_ERROR_MESSAGE, reason, excerpt)


def released(error: BaseException) -> JobUpdate:
    """Return a failed attempt with the type and the text of `error`, cut as far as the service needs."""
    last = JobUpdate.release(error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.release(error_message=description(error, size)), last)


def unsendable(content: str, reason: Exception, excerpt: str = "") -> JobUpdate:
    """Return the final failure that says which content of an outcome cannot be sent, and why."""
    message = f"{content} cannot be sent: {text_of(lambda: reason)}" + (f"; it was {excerpt}" if excerpt else "")
    last = JobUpdate.to("failed", error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.to("failed", error_message=description(reason, size, message)), last)


def _largest(build: Callable[[int], JobUpdate], last: JobUpdate) -> JobUpdate:
    """Return the change of the largest size, with the smaller ones and the last one as its alternatives."""
    first, *smaller = {change.body: change for change in map(build, SIZES)}.values()
    return first._replace(alternatives=(*smaller, last))
