"""The drain over HTTP: start one, read its status, stop it."""

from litestar import Controller, delete, get, post
from litestar.params import JSONBody

from service.api.auth import requires
from service.api.openapi import examples
from service.api.openapi.operations import BODY_ERRORS, DELETE_ERRORS, READ_ERRORS, Success, operation_docs
from service.api.schemas import StartDrain
from service.domain import constraints
from service.domain.api_keys import Scope
from service.domain.jobs import DrainStatus
from service.services import HttpRequest, services_of


class DrainController(Controller):
    """The drain: while it is on, no job is created or claimed."""

    path = "/v1"
    tags = ("operations",)

    @post(
        "/drain",
        operation_id="startDrain",
        summary="Start a drain",
        **requires(Scope.ADMIN),
        **operation_docs(
            {200: Success("The status of the drain.", {"draining": examples.DRAIN})},
            (*DELETE_ERRORS, *BODY_ERRORS),
            requests=examples.START_DRAIN,
            body_required=False,
        ),
    )
    async def start_drain(self, request: HttpRequest, data: JSONBody[StartDrain] = StartDrain()) -> DrainStatus:
        """Create and claim no jobs for `seconds`, in all replicas. Running jobs continue.

        The drain is on when the response comes. With `REDIS_PARTITIONS` above 1 and a response of 503, it may be on for
        some jobs only. Within five seconds after Redis answers again it then is for all or none of them.
        """
        constraints.DRAIN_SECONDS.validate("seconds", data.seconds)
        return await services_of(request).queues.start_drain(data.seconds)

    @get(
        "/drain",
        operation_id="getDrain",
        summary="Get the drain's status",
        **requires(Scope.READ),
        **operation_docs({200: Success("The status of the drain.", {"draining": examples.DRAIN})}, READ_ERRORS),
    )
    async def get_drain(self, request: HttpRequest) -> DrainStatus:
        """Return whether a drain is on, which jobs still run, and whether it is safe to stop."""
        return await services_of(request).queues.get_drain()

    @delete(
        "/drain",
        operation_id="stopDrain",
        summary="Stop the drain",
        **requires(Scope.ADMIN),
        **operation_docs({200: Success("The status of the drain.", {"stopped": examples.NO_DRAIN})}, DELETE_ERRORS),
    )
    async def stop_drain(self, request: HttpRequest) -> DrainStatus:
        """Create and claim jobs again.

        The drain is off when the response comes. With `REDIS_PARTITIONS` above 1 and a response of 503, it may be off
        for some jobs only. Within five seconds after Redis answers again it then is for all or none of them.
        """
        return await services_of(request).queues.end_drain()
