"""Queues over HTTP: list them, pause one, limit how many of its jobs run."""

from typing import Annotated

from litestar import Controller, get, put
from litestar.params import JSONBody
from msgspec import UNSET

from service.api.auth import requires
from service.api.openapi import examples
from service.api.openapi.operations import BODY_ERRORS, READ_ERRORS, WRITE_ERRORS, Success, operation_docs
from service.api.params import in_path
from service.api.schemas import ConfigureQueue, QueueList, RetentionSettings
from service.domain import constraints
from service.domain.api_keys import Scope
from service.domain.jobs import Queue
from service.services import HttpRequest, services_of

QueueInPath = Annotated[str, in_path("The queue's name", constraints.QUEUE, "lineups")]


class QueueController(Controller):
    """Queues and their settings."""

    path = "/v1"
    tags = ("operations",)

    @get(
        "/queues",
        operation_id="listQueues",
        summary="List queues",
        **requires(Scope.READ),
        **operation_docs({200: Success("The queues.", {"one": QueueList([examples.QUEUE])})}, READ_ERRORS),
    )
    async def list_queues(self, request: HttpRequest) -> QueueList:
        """Return the queues that have jobs or settings, sorted by name."""
        return QueueList(await services_of(request).queues.get_queues())

    @get(
        "/queues/{queue:str}",
        operation_id="getQueue",
        summary="Get a queue",
        **requires(Scope.READ),
        **operation_docs({200: Success("The queue.", {"limited": examples.QUEUE})}, READ_ERRORS),
    )
    async def get_queue(self, request: HttpRequest, queue: QueueInPath) -> Queue:
        """Return a queue. One without jobs and settings has no jobs.

        `demand` is the number by which workers can be scaled: jobs that run, and jobs that are due unless the queue is
        paused. A delay that is over shows in it within two seconds.
        """
        return await services_of(request).queues.get_queue(queue)

    @put(
        "/queues/{queue:str}",
        operation_id="configureQueue",
        summary="Configure a queue",
        **requires(Scope.ADMIN),
        **operation_docs(
            {200: Success("The queue.", {"limited": examples.QUEUE})},
            (*WRITE_ERRORS, *BODY_ERRORS),
            requests=examples.CONFIGURE_QUEUE,
            body_required=False,
        ),
    )
    async def configure_queue(
        self, request: HttpRequest, queue: QueueInPath, data: JSONBody[ConfigureQueue] = ConfigureQueue()
    ) -> Queue:
        """Pause or resume a queue, limit how many of its jobs run, or say how long they are kept after their end.

        A field that is left out does not change. `null` clears a field. A request without fields, or without a body,
        changes nothing.

        The change is in force when the response comes. With `REDIS_PARTITIONS` above 1 and a response of 503, it may be
        in force for some jobs of the queue only. Within five seconds after Redis answers again it then holds for all or
        none of them.

        `retention_seconds` applies to jobs that end from now on and have no `retention_seconds` of their own.
        """
        retention = data.retention_seconds
        return await services_of(request).queues.configure_queue(
            queue,
            paused=data.paused,
            max_running=data.max_running,
            retention_seconds=_given(retention) if isinstance(retention, RetentionSettings) else retention,
        )


def _given(retention: RetentionSettings) -> dict[str, int | None]:
    values = {name: getattr(retention, name) for name in retention.__struct_fields__}
    return {name: seconds for name, seconds in values.items() if seconds is not UNSET}
