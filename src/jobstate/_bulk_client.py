"""Bulk actions in the synchronous client."""

from abc import ABC, abstractmethod
from typing import TypeVar, Unpack

from jobstate import _bulk
from jobstate._bulk import BaseBulkActionHandle, BulkKind, OnProgress
from jobstate._bulk_models import BulkAction
from jobstate._flow import Flow
from jobstate._options import JobFilter
from jobstate._requests import Request
from jobstate._retry import RetryPolicy

T = TypeVar("T")


class BulkMethods(ABC):
    """The methods of `Jobs` for bulk actions."""

    _policy: RetryPolicy

    def bulk(
        self,
        action: BulkKind,
        *,
        dry_run: bool = False,
        expect: int | None = None,
        idempotency_key: str | None = None,
        **filters: Unpack[JobFilter],
    ) -> "BulkActionHandle":
        """Start to cancel, retry or delete all jobs that match the filters, and return a handle to wait for the end.

        The filters are those of `list`; at least one is needed. Jobs that are created later never match. With `dry_run`
        the jobs are only counted. With `expect` none is changed if another number of jobs matches. With an
        `idempotency_key`, starting the same again returns the same bulk action.

        Raises `InvalidRequest`, `IdempotencyKeyReused`, `TypeError` or `ValueError` if a filter or `action` is unknown,
        or if there is no filter.
        """
        request = _bulk.start_bulk_action(action, filters, dry_run=dry_run, expect=expect, key=idempotency_key)
        return BulkActionHandle(self, self._call(request))

    def bulk_action(self, id: str) -> "BulkActionHandle":
        """Return the handle of an existing bulk action without a request: to wait for it again after a restart.

        All its methods work. `record`, `state` and `is_final` raise `JobstateError` until one of them has seen the bulk
        action. Raises `TypeError` or `ValueError` if `id` cannot be an id.
        """
        return BulkActionHandle(self, _bulk.check_id(id))

    def list_bulk_actions(self) -> "list[BulkActionHandle]":
        """Return the handles of bulk actions, newest first: those that changed last, at most 100."""
        return [BulkActionHandle(self, action) for action in self._call(_bulk.list_bulk_actions()).items]

    @abstractmethod
    def _call(self, request: Request[T]) -> T: ...

    @abstractmethod
    def _run(self, flow: Flow[T]) -> T: ...


class BulkActionHandle(BaseBulkActionHandle):
    """One bulk action. Made by `bulk`, `bulk_action` and `list_bulk_actions` of `Jobs`."""

    def __init__(self, jobs: BulkMethods, action: BulkAction | str) -> None:
        super().__init__(action)
        self._jobs = jobs

    def wait(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> BulkAction:
        """Wait until the bulk action has ended, and return it. Jobs may be refused: see its `refused`.

        `on_progress` is called with the bulk action now, and after changes. Outages of the service are waited out.
        Raises `WaitTimeout` after `timeout` seconds (the service goes on with it; `None` waits for ever),
        `UnexpectedCount` if another number of jobs matched than `expect`, `BulkActionNotFound`. One that a client has
        aborted is returned, with the state `aborted`.
        """
        return self._jobs._run(self._wait(self._jobs._policy, timeout, on_progress))

    def refresh(self) -> BulkAction:
        """Read the bulk action again, keep it as `record`, and return it. Raises `BulkActionNotFound`."""
        return self._see(self._jobs._call(_bulk.get_bulk_action(self.id)))

    def abort(self) -> BulkAction:
        """End the bulk action, and return it. What it has done stays. One that has ended stays as it is.

        Raises `BulkActionNotFound`.
        """
        return self._see(self._jobs._call(_bulk.abort_bulk_action(self.id)))
