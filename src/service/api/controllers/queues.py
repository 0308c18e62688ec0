"""Queues over HTTP: list them, pause one, limit how many of its jobs run."""

from typing import Annotated, Final

from litestar import Controller, get, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from service.api.openapi import examples as examples
from service.api.openapi.operations import (
    BODY_ERRORS,
    READ_ERRORS,
    WRITE_ERRORS,
    SuccessResponse,
    operation_docs,
)
from service.api.request_bodies import StructDTO
from service.api.schemas import ConfigureQueue, QueueList
from service.domain import constraints
from service.domain.jobs import Queue
from service.store.leases import LeaseManager

#: What a request without a body asks for.
NO_SETTINGS: Final = ConfigureQueue()
QueueInPath = Annotated[
    str,
    PathParameter(
        description=f"The queue: {constraints.QUEUE.allowed}",
        pattern=constraints.QUEUE.regex,
        examples=[Example(value="lineups")],
    ),
]


class QueueController(Controller):
    """What is given out."""

    path = "/v1"
    tags = ("operations",)

    @get(
        "/queues",
        operation_id="listQueues",
        summary="List queues",
        **operation_docs(
            {200: SuccessResponse("The queues.", examples={"one": QueueList([examples.QUEUE])})}, *READ_ERRORS
        ),
    )
    async def list_queues(self, lease_manager: NamedDependency[LeaseManager]) -> QueueList:
        """Return the queues that have jobs or settings of their own, by name."""
        return QueueList(await lease_manager.get_queues())

    @put(
        "/queues/{queue:str}",
        operation_id="configureQueue",
        summary="Pause a queue, or cap it",
        dto=StructDTO[ConfigureQueue],
        return_dto=None,
        **operation_docs(
            {200: SuccessResponse("The queue as it is now.", examples={"capped": examples.QUEUE})},
            *WRITE_ERRORS,
            *BODY_ERRORS,
            requests=examples.CONFIGURE_QUEUE,
            body_required=False,
        ),
    )
    async def configure(
        self,
        queue: QueueInPath,
        lease_manager: NamedDependency[LeaseManager],
        data: JSONBody[ConfigureQueue] = NO_SETTINGS,
    ) -> Queue:
        """Set whether workers get jobs out of the queue, and how many of its jobs may run at one time.

        A field that is left out stays as it is, so clients that set different fields do not undo one another. `null`
        clears a field. Without fields, or without a body, nothing changes.
        """
        return await lease_manager.configure_queue(queue, paused=data.paused, max_running=data.max_running)
