"""Bulk actions: their requests, how the end of one is waited for, and what the handles of both clients share."""

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_args

from jobstate._bulk_models import BulkAction, BulkActionList
from jobstate._flow import Flow, Sleep, call
from jobstate._json import encode
from jobstate._options import JobFilter
from jobstate._problems import error_for
from jobstate._requests import Request, change, check_names, id_segment, with_labels
from jobstate._responses import read_json
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate.errors import JobstateError, ServiceUnavailable, UnexpectedCount, WaitTimeout

#: What a bulk action does with each job.
BulkKind: TypeAlias = Literal["cancel", "retry", "delete"]
#: Is called with a bulk action after each change of it.
OnProgress: TypeAlias = Callable[[BulkAction], object]

_PATH: Final = "/v1/bulk-actions"
#: Seconds before the action is read again: at first and at most.
_FIRST_PAUSE, _MAX_PAUSE = 0.1, 2.0

read_bulk_action: Final = read_json(BulkAction)


def start_bulk_action(
    action: BulkKind, filters: JobFilter, *, dry_run: bool = False, expect: int | None = None, key: str | None = None
) -> Request[BulkAction]:
    """Start a bulk action, once per `key`.

    Raises `TypeError` for an unknown filter, `ValueError` for an unknown `action` or if there is no filter.
    """
    if action not in get_args(BulkKind):
        raise ValueError(f"`action` is {action!r}: use one of {', '.join(map(repr, get_args(BulkKind)))}")
    check_names(filters, JobFilter)
    given = {name: value for name, value in with_labels(filters).items() if value is not None}
    if not given:
        names = ", ".join(f"`{name}`" for name in JobFilter.__annotations__)
        raise ValueError(f"no filter is given, so that all jobs would match: use one or more of {names}")
    body: dict[str, Any] = {"action": action, "filter": given, "dry_run": dry_run}
    return change("POST", _PATH, read_bulk_action, encode(body if expect is None else body | {"expect": expect}), key)


def get_bulk_action(action_id: str) -> Request[BulkAction]:
    """Get a bulk action."""
    return Request(method="GET", path=_path(action_id), read=read_bulk_action)


def abort_bulk_action(action_id: str) -> Request[BulkAction]:
    """End a bulk action. Sending it again is safe without a key: an action that has ended stays as it is."""
    return Request(method="DELETE", path=_path(action_id), read=read_bulk_action)


def list_bulk_actions() -> Request[BulkActionList]:
    """Get the bulk actions that changed last."""
    return Request(method="GET", path=_PATH, read=read_json(BulkActionList))


def ended_flow(request: Request[BulkAction], retry: Retry, on_progress: OnProgress) -> Flow[BulkAction]:
    """Read a bulk action again and again until it has ended, and return it.

    Outages are waited out as `retry` says. Raises `WaitTimeout` at its deadline, `BulkActionNotFound`.
    """
    last, pause = None, _FIRST_PAUSE
    while True:
        try:
            action = yield from call(request, retry)
        except ServiceUnavailable as error:
            raise WaitTimeout(f"{_NOT_ENDED}; the service was unavailable: {error}") from error
        if action != last:
            on_progress(action)
        if action.is_final:
            return action
        if retry.deadline.remaining <= 0:
            raise WaitTimeout(f"{_NOT_ENDED}; its state is `{action.state}`")
        yield Sleep(min(pause, retry.deadline.remaining))
        last, pause = action, min(2 * pause, _MAX_PAUSE)


_NOT_ENDED: Final = "the bulk action has not ended within the time-out"


def error_of(action: BulkAction) -> JobstateError | None:
    """Return the error for a bulk action that was aborted because of a problem; `None` for any other."""
    if action.problem is None:
        return None
    error = error_for(action.problem, action.problem.status)
    if isinstance(error, UnexpectedCount):
        error.action = action
    return error


class BaseBulkActionHandle:
    """A bulk action, as the client last saw it. `wait`, `refresh` and `abort` bring news."""

    #: The id of the bulk action.
    id: str

    def __init__(self, action: BulkAction | str) -> None:
        """Create the handle of this bulk action, or of the one with this id."""
        self._record = None if isinstance(action, str) else action
        self.id = action if isinstance(action, str) else action.bulk_action_id

    @property
    def record(self) -> BulkAction:
        """The bulk action as the client last saw it. It is replaced, and never changes itself.

        Raises `JobstateError` if the client has not seen it yet: a handle of `bulk_action` starts without a record.
        """
        if self._record is None:
            raise JobstateError(f"the client has not seen bulk action {self.id} yet: call `refresh` or `wait` first")
        return self._record

    @property
    def state(self) -> str:
        """The state when the client last saw it: `counting`, `running`, `done`, `aborted`."""
        return self.record.state

    @property
    def is_final(self) -> bool:
        """Whether it had ended when the client last saw it."""
        return self.record.is_final

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self._record.state if self._record else 'not seen yet'}>"

    def _see(self, action: BulkAction) -> BulkAction:
        """Keep the record of a response, and return it."""
        self._record = action
        return action

    def _wait(self, policy: RetryPolicy, timeout: float | None, on_progress: OnProgress | None) -> Flow[BulkAction]:
        """Return the bulk action as it has ended. Raises the error for which it was aborted."""

        def see(action: BulkAction) -> None:
            self._see(action)
            if on_progress is not None:
                on_progress(action)

        retry = Retry(policy, Deadline(timeout), persistent=True)
        action = yield from ended_flow(get_bulk_action(self.id), retry, see)
        if (error := error_of(action)) is not None:
            raise error
        return action


def check_id(action_id: str) -> str:
    """Return an id. Raises `TypeError` or `ValueError` for what is not an id."""
    _path(action_id)
    return action_id


def _path(action_id: str) -> str:
    return f"{_PATH}/{id_segment(action_id, 'the id of a bulk action')}"
