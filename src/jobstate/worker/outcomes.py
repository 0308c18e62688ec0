"""The update that ends an attempt, in a form that the service accepts."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Self
from uuid import uuid4

from jobstate._flow import log
from jobstate.models import Progress
from jobstate.worker.context import JobContext
from jobstate.worker.encoding import SIZES, description, encoded, text_of

#: Maximum characters of a rejected `error_message` that are reported.
MAX_EXCERPT: Final = 2_000
_RESULT: Final = "the result"
_ERROR_MESSAGE: Final = "the `error_message` of `PermanentFailure`"
#: Sent if the service rejects an error in every other form.
_REJECTED: Final = {"type": "RequestRejected", "message": "the service rejected the error; see the worker's log"}


class PermanentFailure(Exception):
    """Raise it in a function to fail its job for good, whatever attempts remain.

    `error_message` is any JSON, and becomes the job's `error_message`. For other values the constructor raises an error
    that is both a `TypeError` and a `ValueError`. If the function does not catch it, the job fails for good too.
    """

    def __init__(self, error_message: object) -> None:
        try:
            encoded(error_message)
        except Exception as error:
            raise InvalidErrorMessage(error_message, error) from error
        super().__init__(error_message)
        self.error_message = error_message


class InvalidErrorMessage(TypeError, ValueError):
    """The `error_message` of a `PermanentFailure` cannot be sent as JSON."""

    def __init__(self, error_message: object, reason: Exception) -> None:
        super().__init__(f"{_ERROR_MESSAGE} cannot be sent as JSON: {text_of(lambda: reason)}")
        self.error_message = error_message


class JobUpdate(NamedTuple):
    """A change of a job that ends the attempt, under one idempotency key."""

    #: JSON.
    body: bytes
    key: str
    is_release: bool = False
    #: What the body contains, and an excerpt of it, for the error message if the service rejects it.
    content: str = ""
    excerpt: str = ""
    #: Sent instead, in this order, if the service rejects the body.
    alternatives: tuple["JobUpdate", ...] = ()

    @classmethod
    def to(cls, status: str, **fields: object) -> Self:
        """Return the transition to a final status. Raises `TypeError` or `ValueError` if a field is not JSON."""
        return cls(encoded({"status": status, **fields}), str(uuid4()))

    @classmethod
    def release(cls, **fields: object) -> Self:
        """Return a release; with an `error_message` it counts as a failed attempt."""
        return cls(encoded(fields), str(uuid4()), is_release=True)


def success_update(context: JobContext, result: object) -> JobUpdate:
    """Return the update for a function that returned: `cancelled` after a cancel request and `None`, else completed."""
    if result is None and context.cancel_requested:
        return JobUpdate.to("cancelled")
    return _completed(result, context.latest)


def failure_update(context: JobContext, error: BaseException) -> JobUpdate:
    """Return the update for a function that raised `error`."""
    if isinstance(error, PermanentFailure | InvalidErrorMessage):
        return _failed(error)
    if isinstance(error, asyncio.CancelledError) and context.cancel_requested:
        return JobUpdate.to("cancelled")
    _log_failure(context, error)
    last = JobUpdate.release(error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.release(error_message=description(error, size)), last)


def unsendable(content: str, reason: Exception, excerpt: str = "") -> JobUpdate:
    """Return the update that fails a job for good because `content` cannot be sent for `reason`."""
    message = f"{content} cannot be sent: {text_of(lambda: reason)}" + (f"; value: {excerpt}" if excerpt else "")
    last = JobUpdate.to("failed", error_message=_REJECTED)
    return _largest(lambda size: JobUpdate.to("failed", error_message=description(reason, size, message)), last)


def _completed(result: object, progress: Progress | None) -> JobUpdate:
    try:
        update = JobUpdate.to("completed", result=result)._replace(content=_RESULT)
        if not progress:
            return update
        whole = JobUpdate.to("completed", result=result, progress=progress)
        return whole._replace(content=_RESULT, alternatives=(update,))
    except Exception as reason:
        return unsendable(_RESULT, reason)


def _failed(error: PermanentFailure | InvalidErrorMessage) -> JobUpdate:
    excerpt = ""
    try:
        error_message = error.error_message
        excerpt = text_of(lambda: ascii(error_message))[:MAX_EXCERPT]
        return JobUpdate.to("failed", error_message=error_message)._replace(content=_ERROR_MESSAGE, excerpt=excerpt)
    except Exception as reason:
        return unsendable(_ERROR_MESSAGE, reason, excerpt)


def _largest(build: Callable[[int], JobUpdate], last: JobUpdate) -> JobUpdate:
    """Return the update of the largest size, with the smaller ones and `last` as its alternatives."""
    first, *smaller = {update.body: update for update in map(build, SIZES)}.values()
    return first._replace(alternatives=(*smaller, last))


def _log_failure(context: JobContext, error: BaseException) -> None:
    try:
        log.warning("job %s: attempt failed", context.job_id, exc_info=error)
    except Exception:  # such as RecursionError, if the exception is nested too deep to be formatted
        log.warning("job %s: attempt failed with %s", context.job_id, text_of(lambda: type(error).__name__))
