"""The exit codes of the commands."""

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Final

from jobstate import errors


class Exit(IntEnum):
    """The exit code of a command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    FAILED = 3
    CANCELLED = 4
    NOT_FOUND = 5
    TIMEOUT = 6
    INTERRUPTED = 130
    TERMINATED = 143


#: The exit code for each final status of a job.
STATUS_EXIT_CODES: Final = {"completed": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}
#: The exit codes of errors for which it is not `ERROR`.
_ERROR_EXIT_CODES: Final = {
    errors.JobNotFound: Exit.NOT_FOUND,
    errors.BulkActionNotFound: Exit.NOT_FOUND,
    errors.JobFailed: Exit.FAILED,
    errors.JobCancelled: Exit.CANCELLED,
    errors.WaitTimeout: Exit.TIMEOUT,
    errors.ConfigurationError: Exit.USAGE,
}
_MEANINGS: Final = {
    Exit.OK: "success",
    Exit.ERROR: "request rejected or service unavailable",
    Exit.USAGE: "usage error",
    Exit.FAILED: "the job failed",
    Exit.CANCELLED: "the job was cancelled",
    Exit.NOT_FOUND: "the job is unknown, deleted or expired",
    Exit.TIMEOUT: "--timeout exceeded",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM",
}
_COMMON: Final = frozenset({Exit.OK, Exit.ERROR, Exit.USAGE, Exit.INTERRUPTED, Exit.TERMINATED})
#: The exit codes of commands that follow a job, in addition to the common ones.
FOLLOWING: Final = frozenset({Exit.FAILED, Exit.CANCELLED, Exit.NOT_FOUND, Exit.TIMEOUT})
#: The exit codes of commands about an existing bulk action, and of those that carry one out, with their meanings.
ABOUT_BULK: Final = {Exit.NOT_FOUND: "the bulk action is unknown or expired"}
BULK: Final = {Exit.FAILED: "some jobs were refused", Exit.CANCELLED: "the bulk action was aborted", **ABOUT_BULK}


def help_text(further: Collection[Exit]) -> str:
    """Return the exit codes of a command for its help: those that all commands have, and `further` ones.

    A mapping of `further` ones has meanings of its own.
    """
    meanings = {**_MEANINGS, **(further if isinstance(further, Mapping) else {})}
    if Exit.TIMEOUT in further:
        meanings[Exit.OK] = "success, or the watched job completed"
    codes = [f"{code:d} {meaning}" for code, meaning in meanings.items() if code in _COMMON or code in further]
    return f"Exit codes: {'; '.join(codes)}."


def exit_code(error: errors.JobstateError) -> Exit:
    """Return the exit code of a command that ends with an error."""
    return next((code for kind, code in _ERROR_EXIT_CODES.items() if isinstance(error, kind)), Exit.ERROR)


def error_text(error: errors.JobstateError) -> str:
    """Return the text of an error for people: what the service wrote, if it sent a problem."""
    problem = error.problem
    text = (problem and (problem.detail or problem.title)) or str(error)
    return f"{text} (set JOBSTATE_API_KEY)" if isinstance(error, errors.Unauthenticated) else text
