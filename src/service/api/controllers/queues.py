"""The queues and the drain over HTTP: what operators let workers have."""

from typing import Annotated, Final

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from service.api.openapi import examples as examples
from service.api.openapi.operations import DELETING, READING, SENDING, WRITING, Answer, answers
from service.api.request_bodies import Body
from service.api.schemas import ConfigureQueue, QueueList, StartDrain
from service.domain import constraints
from service.domain.jobs import Drain, Queue
from service.store.leases import LeaseManager

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


class Queues(Controller):
    """What is given out."""

    path = "/v1"
    tags = ("operation",)

    @get(
        "/queues",
        operation_id="listQueues",
        summary="List queues",
        **answers({200: Answer("The queues.", examples={"one": QueueList([examples.QUEUE])})}, *READING),
    )
    async def list_queues(self, lease_manager: NamedDependency[LeaseManager]) -> QueueList:
        """Return the queues that have jobs or settings of their own, by name."""
        return QueueList(await lease_manager.get_queues())

    @put(
        "/queues/{queue:str}",
        operation_id="configureQueue",
        summary="Pause a queue, or cap it",
        dto=Body[ConfigureQueue],
        return_dto=None,
        **answers(
            {200: Answer("The queue as it is now.", examples={"capped": examples.QUEUE})},
            *WRITING,
            *SENDING,
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

    @post(
        "/drain",
        operation_id="startDrain",
        summary="Give out nothing for a time",
        status_code=200,
        dto=Body[StartDrain],
        return_dto=None,
        **answers(
            {200: Answer("What is still at work.", examples={"draining": examples.DRAIN})},
            *DELETING,
            *SENDING,
            requests=examples.START_DRAIN,
            body_required=False,
        ),
    )
    async def drain(
        self, lease_manager: NamedDependency[LeaseManager], data: JSONBody[StartDrain] = DEFAULT_DRAIN
    ) -> Drain:
        """Create and claim no jobs, in all replicas, for `{"seconds": …}` (an hour); running jobs go on."""
        constraints.DRAIN_SECONDS.require("seconds", data.seconds)
        return await lease_manager.start_drain(data.seconds)

    @get(
        "/drain",
        operation_id="getDrain",
        summary="Say whether it is safe to stop",
        **answers({200: Answer("What is at work.", examples={"draining": examples.DRAIN})}, *READING),
    )
    async def get_drain(self, lease_manager: NamedDependency[LeaseManager]) -> Drain:
        """Return whether a drain is on, and what is still at work."""
        return await lease_manager.get_drain()

    @delete(
        "/drain",
        operation_id="endDrain",
        summary="Give out jobs again",
        status_code=200,
        **answers({200: Answer("What is at work.", examples={"over": examples.NO_DRAIN})}, *DELETING),
    )
    async def end_drain(self, lease_manager: NamedDependency[LeaseManager]) -> Drain:
        """Create and claim jobs again."""
        return await lease_manager.end_drain()
