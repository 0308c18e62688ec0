"""What can go wrong between the terminal and the service.

ClientError
├── ServiceAway  no usable answer, perhaps one later
├── Refused      the service understood, and said no
├── Misconfigured  the environment has a value that cannot be used
├── JobGone      the job that is watched was deleted, or its retention ran out
└── TimedOut     the user's own patience is over
"""

from jobstate_cli.exits import PROBLEM_EXIT_CODES, Exit


class ClientError(Exception):
    """Anything but a success; its text is for people."""

    exit_code: Exit = Exit.ERROR


class ServiceUnavailable(ClientError):
    """No usable answer. `lost`: the request may have been carried out; `retry_after`: seconds to leave it alone."""

    def __init__(self, reason: str, *, retry_after: float = 0.0, outcome_unknown: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown


class RequestRejected(ClientError):
    """The service said no; `problem` is the name of its problem type, empty where it gave none."""

    def __init__(self, reason: str, problem: str = "") -> None:
        super().__init__(reason)
        self.exit_code = PROBLEM_EXIT_CODES.get(problem, Exit.ERROR)


class Misconfigured(ClientError):
    """A variable of the environment has a value that cannot be used."""

    exit_code = Exit.USAGE


class JobDeleted(ClientError):
    """The job is there no more."""

    exit_code = Exit.NOT_FOUND


class TimedOut(ClientError):
    """The time that the user gave is over."""

    exit_code = Exit.TIMEOUT
