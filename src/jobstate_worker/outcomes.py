"""The update that ends an attempt, in a form that the service accepts."""

from collections.abc import Callable, Mapping
from typing import Final

from jobstate_worker.encoding import SIZES, description, text_of
from jobstate_worker.requests import JobUpdate

#: Maximum characters of a rejected `error_message` that are reported.
MAX_EXCERPT: Final = 2_000
_ERROR_MESSAGE: Final = "the `error_message` of `JobFailed`"
#: Sent if the service rejects an error in every other form.
_REJECTED: Final = {"type": "RequestRefused", "message": "the service rejected the error; see the worker's log"}


def cancelled() -> JobUpdate:
    """Return the update for a function that stopped after a cancel request."""
    return JobUpdate.to("cancelled")


def completed(result: object, progress: Mapping[str, object] | None) -> JobUpdate:
    """Return the update that completes a job; a result that cannot be sent fails the job with the reason."""
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
    """Return the update that fails a job for good with `error.error_message`, or the reason why it cannot be sent."""
    excerpt = ""
    try:
        error_message = error.error_message  # type: ignore[attr-defined]
        excerpt = text_of(lambda: ascii(error_message))[:MAX_EXCERPT]
        return JobUpdate.to("failed", error_message=error_message)._replace(content=_ERROR_MESSAGE, excerpt=excerpt)
    except Exception as reason:
        return unsendable(_ERROR_MESSAGE, reason, excerpt)


def released(error: BaseException) -> JobUpdate:
    """Return the release that counts as a failed attempt, with the type and text of `error`."""
    last = JobUpdate.release(error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.release(error_message=description(error, size)), last)


def unsendable(content: str, reason: Exception, excerpt: str = "") -> JobUpdate:
    """Return the update that fails a job for good because `content` cannot be sent for `reason`."""
    message = f"{content} cannot be sent: {text_of(lambda: reason)}" + (f"; value: {excerpt}" if excerpt else "")
    last = JobUpdate.to("failed", error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.to("failed", error_message=description(reason, size, message)), last)


def _largest(build: Callable[[int], JobUpdate], last: JobUpdate) -> JobUpdate:
    """Return the update of the largest size, with the smaller ones and `last` as its alternatives."""
    first, *smaller = {change.body: change for change in map(build, SIZES)}.values()
    return first._replace(alternatives=(*smaller, last))
