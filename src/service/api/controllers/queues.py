"""The queues and the drain over HTTP: what operators let workers have."""

from typing import Annotated, Final

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from service.api.openapi import examples as examples
from service.api.openapi.operations import (
    BODY_ERRORS,
    DELETE_ERRORS,
    READ_ERRORS,
    WRITE_ERRORS,
    SuccessResponse,
    operation_docs,
)
from service.api.request_bodies import StructDTO
from service.api.schemas import ConfigureQueue, QueueList, StartDrain
from service.domain import constraints
from service.domain.jobs import DrainStatus, Queue
from service.store.queues import QueueManager

#: What a request without a body asks for.
NO_SETTINGS: Final = ConfigureQueue()
DEFAULT_DRAIN: Final = StartDrain()
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
    async def list_queues(self, queue_manager: NamedDependency[QueueManager]) -> QueueList:
        """Return the queues that have jobs or settings of their own, by name."""
        return QueueList(await queue_manager.get_queues())

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
        queue_manager: NamedDependency[QueueManager],
        data: JSONBody[ConfigureQueue] = NO_SETTINGS,
    ) -> Queue:
        """Set whether workers get jobs out of the queue, and how many of its jobs may run at one time.

        A field that is left out stays as it is, so clients that set different fields do not undo one another. `null`
        clears a field. Without fields, or without a body, nothing changes.
        """
        return await queue_manager.configure_queue(queue, paused=data.paused, max_running=data.max_running)

    @post(
        "/drain",
        operation_id="startDrain",
        summary="Give out nothing for a time",
        status_code=200,
        dto=StructDTO[StartDrain],
        return_dto=None,
        **operation_docs(
            {200: SuccessResponse("What is still at work.", examples={"draining": examples.DRAIN})},
            *DELETE_ERRORS,
            *BODY_ERRORS,
            requests=examples.START_DRAIN,
            body_required=False,
        ),
    )
    async def drain(
        self, queue_manager: NamedDependency[QueueManager], data: JSONBody[StartDrain] = DEFAULT_DRAIN
    ) -> DrainStatus:
        """Create and claim no jobs, in all replicas, for `{"seconds": …}` (an hour); running jobs go on."""
        constraints.DRAIN_SECONDS.validate("seconds", data.seconds)
        return await queue_manager.start_drain(data.seconds)

    @get(
        "/drain",
        operation_id="getDrain",
        summary="Say whether it is safe to stop",
        **operation_docs(
            {200: SuccessResponse("What is at work.", examples={"draining": examples.DRAIN})}, *READ_ERRORS
        ),
    )
    async def get_drain(self, queue_manager: NamedDependency[QueueManager]) -> DrainStatus:
        """Return whether a drain is on, and what is still at work."""
        return await queue_manager.get_drain()

    @delete(
        "/drain",
        operation_id="stopDrain",
        summary="Give out jobs again",
        status_code=200,
        **operation_docs(
            {200: SuccessResponse("What is at work.", examples={"over": examples.NO_DRAIN})}, *DELETE_ERRORS
        ),
    )
    async def end_drain(self, queue_manager: NamedDependency[QueueManager]) -> DrainStatus:
        """Create and claim jobs again."""
        return await queue_manager.end_drain()
