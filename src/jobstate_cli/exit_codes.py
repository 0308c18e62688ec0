"""The exit codes of the commands."""

from enum import IntEnum
from typing import Final


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
#: The exit codes of problems for which it is not `ERROR`.
PROBLEM_EXIT_CODES: Final = {
    "job-not-found": Exit.NOT_FOUND,
    "job-failed": Exit.FAILED,
    "job-cancelled": Exit.CANCELLED,
}

HELP: Final = """\
Exit codes: 0 success, or the watched job completed; 1 request rejected or service unavailable; 2 usage error; 3 the
job failed; 4 the job was cancelled; 5 the job is unknown, deleted or expired; 6 --timeout exceeded; 130 Ctrl-C;
143 SIGTERM."""
