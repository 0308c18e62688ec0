"""The errors of the commands, each with its exit code.

ClientError
├── ServiceUnavailable  no usable response; a retry may help
├── RequestRejected     the service rejected the request
├── Misconfigured       an environment variable has an unusable value
├── JobDeleted          the watched job was deleted or expired
└── TimedOut            `--timeout` was exceeded
"""

from jobstate_cli.exit_codes import PROBLEM_EXIT_CODES, Exit


class ClientError(Exception):
    """The base class of the commands' errors. Its text is shown to the user."""

    exit_code: Exit = Exit.ERROR


class ServiceUnavailable(ClientError):
    """There is no usable response.

    `retry_after` is the number of seconds to wait before a retry, 0 if unknown. `outcome_unknown` says whether the
    service may have executed the request.
    """

    def __init__(self, reason: str, *, retry_after: float = 0.0, outcome_unknown: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown


class RequestRejected(ClientError):
    """The service rejected the request; `problem` is the last part of the problem type, such as `job-not-found`."""

    def __init__(self, reason: str, problem: str = "") -> None:
        super().__init__(reason)
        self.exit_code = PROBLEM_EXIT_CODES.get(problem, Exit.ERROR)


class Misconfigured(ClientError):
    """An environment variable has an unusable value."""

    exit_code = Exit.USAGE


class JobDeleted(ClientError):
    """The job was deleted or expired."""

    exit_code = Exit.NOT_FOUND


class TimedOut(ClientError):
    """The time limit of the user was exceeded."""

    exit_code = Exit.TIMEOUT
