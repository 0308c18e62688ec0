"""Bulk actions over HTTP: cancel, retry or delete all jobs that match filters."""

from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.params import JSONBody

from service.api.auth import requires
from service.api.bulk_schemas import BulkAction, BulkActionList, StartBulkAction, filter_of, from_domain
from service.api.openapi import examples
from service.api.openapi import operations as docs
from service.api.openapi.operations import Success, operation_docs
from service.api.params import IdempotencyKey, in_path
from service.api.request_context import address, correlation_id
from service.api.responses import StructResponse
from service.api.schemas import unset_to_none
from service.domain import bulk, constraints, errors
from service.domain.api_keys import Scope
from service.domain.bulk import BulkActionNotFound
from service.services import HttpRequest, services_of

BulkActionId = Annotated[str, in_path("The bulk action's id", constraints.JOB_ID, examples.BULK_ACTION_ID)]

_DONE = from_domain(examples.BULK_ACTION, "c1")


class BulkActionController(Controller):
    """Bulk actions."""

    path = "/v1"
    tags = ("jobs",)

    @post(
        "/bulk-actions",
        operation_id="startBulkAction",
        summary="Cancel, retry or delete all jobs that match",
        **requires(Scope.WRITE),
        **operation_docs(
            {
                202: Success(
                    "The action, new or started by an equal request before.",
                    {"done": _DONE},
                    ("Location", "Idempotency-Replayed"),
                )
            },
            (*docs.DELETE_ERRORS, *docs.BODY_ERRORS, errors.IdempotencyKeyReused),
            requests=examples.BULK_ACTIONS,
        ),
    )
    async def start_bulk_action(
        self, request: HttpRequest, data: JSONBody[StartBulkAction], idempotency_key: IdempotencyKey = None
    ) -> Response[BulkAction]:
        """Start a bulk action. The service carries it out in steps, and goes on with it after a restart.

        It first counts the jobs that match, then acts on each once, oldest first. Jobs that are created after the
        response never match. The status of a job counts at the moment at which the action reaches it. A job that cannot
        be cancelled, retried or deleted is refused, and the action goes on.

        With `dry_run` it ends after the count. With `expect` it ends there if another number of jobs matches
        (`unexpected-count`).

        Retried jobs keep their `priority`, and so their place among others. Each changed job causes an event: after
        100,000 of them, clients that follow all jobs may get `reset`.
        """
        services = services_of(request)
        new = bulk.NewBulkAction(
            kind=data.action,
            filters=filter_of(data.filter),
            dry_run=data.dry_run,
            expect=unset_to_none(data.expect),
        )
        action, replayed = await services.bulk_actions.start_action(new, idempotency_key)
        services.bulk_runner.wake()
        headers = {"Location": address(request.scope, f"/v1/bulk-actions/{action.action_id}")}
        if replayed:
            headers["Idempotency-Replayed"] = "true"
        return StructResponse(from_domain(action, correlation_id(request.scope)), headers=headers)

    @get(
        "/bulk-actions",
        operation_id="listBulkActions",
        summary="List bulk actions",
        **requires(Scope.READ),
        **operation_docs({200: Success("The bulk actions.", {"one": BulkActionList([_DONE])})}, docs.READ_ERRORS),
    )
    async def list_bulk_actions(self, request: HttpRequest) -> BulkActionList:
        """Return bulk actions, newest first. They are kept for a day after their last change."""
        actions = await services_of(request).bulk_actions.list_actions()
        return BulkActionList([from_domain(action, correlation_id(request.scope)) for action in actions])

    @get(
        "/bulk-actions/{bulk_action_id:str}",
        operation_id="getBulkAction",
        summary="Get a bulk action",
        **requires(Scope.READ),
        **operation_docs({200: Success("The bulk action.", {"done": _DONE})}, (*docs.READ_ERRORS, BulkActionNotFound)),
    )
    async def get_bulk_action(self, request: HttpRequest, bulk_action_id: BulkActionId) -> BulkAction:
        """Return a bulk action, and how far it is. It is kept for a day after its last change."""
        action = await services_of(request).bulk_actions.get_action(bulk_action_id)
        return from_domain(action, correlation_id(request.scope))

    @delete(
        "/bulk-actions/{bulk_action_id:str}",
        operation_id="abortBulkAction",
        summary="Abort a bulk action",
        **requires(Scope.WRITE),
        **operation_docs(
            {200: Success("The bulk action as it has ended.", {"done": _DONE})},
            (*docs.DELETE_ERRORS, BulkActionNotFound),
        ),
    )
    async def abort_bulk_action(self, request: HttpRequest, bulk_action_id: BulkActionId) -> BulkAction:
        """End a bulk action. It changes no job after the response; what it has done stays. One that has ended stays."""
        action = await services_of(request).bulk_actions.abort_action(bulk_action_id)
        return from_domain(action, correlation_id(request.scope))
