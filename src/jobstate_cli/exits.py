"""The exit codes: what a script learns without reading a word."""

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    FAILED = 3
    CANCELLED = 4
    NOT_FOUND = 5
    TIMEOUT = 6
    INTERRUPTED = 130
    TERMINATED = 143


#: The statuses that end a job.
STATUS_EXIT_CODES: Final = {"completed": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}
#: Problems that say more than that the service refused.
PROBLEM_EXIT_CODES: Final = {
    "job-not-found": Exit.NOT_FOUND,
    "job-failed": Exit.FAILED,
    "job-cancelled": Exit.CANCELLED,
}

HELP: Final = """\
Exit codes: 0 done, or the watched job completed; 1 the service refused or cannot be reached; 2 wrong usage; 3 the job
failed; 4 it was cancelled; 5 it is unknown, deleted or expired; 6 --timeout ran out; 130 Ctrl-C."""
