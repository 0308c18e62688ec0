"""Queue settings and drains."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from service.domain import constraints
from service.domain.constraints import truncated_repr
from service.domain.errors import InvalidValue
from service.domain.jobs import DrainStatus, Queue, Retention
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.store import scripts
from service.store.client import StoreClient
from service.store.deadlines import gather
from service.store.partition import Partition
from service.store.queries import JobReader
from service.store.queue_figures import QueueFigures, read_figures
from service.store.queue_settings import DEFAULT_FIELD, QueueSettings, as_arguments, is_usable
from service.store.records import decode_hash
from service.store.scripts import Script


class Difference(NamedTuple):
    """A setting of a partition that is not that of the first one."""

    partition: Partition
    #: `None` for the drain.
    queue: bytes | None
    held: bytes | None
    wanted: bytes | None


class QueueManager:
    """Changes the settings of queues, and starts and ends drains.

    Each change is one atomic script in Redis and applies to all processes and replicas. With several partitions it is
    made in the first one, then in all others, and is in force in all when the method returns. After an error some may
    have it, until the next `copy_settings`. Methods raise the same
    errors as those of `JobReader`.
    """

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._jobs = JobReader(client)

    async def get_queues(self) -> list[Queue]:
        """Return the queues that have jobs or settings of their own, sorted by name."""
        figures = await read_figures(self._client)
        [reply] = await self._client.read(["HGETALL", self._client.partitions.first.queues])
        settings = decode_hash(reply)
        return [_queue(name, settings.get(name), figures.get(name)) for name in sorted({*figures, *settings})]

    async def get_queue(self, queue: str) -> Queue:
        """Return a queue, which may have neither jobs nor settings. Raises `InvalidValue`."""
        constraints.QUEUE.validate("queue", queue)
        [[settings]] = await self._client.read(["HMGET", self._client.partitions.first.queues, queue])
        return await self._with_figures(queue, settings)

    async def configure_queue(
        self,
        queue: str,
        *,
        paused: bool | UnsetType | None = UNSET,
        max_running: int | UnsetType | None = UNSET,
        retention_seconds: Mapping[str, int | None] | UnsetType | None = UNSET,
    ) -> Queue:
        """Change settings of a queue and return the queue.

        They are whether it is paused, how many of its jobs may run, and by final status for how many seconds a job is
        kept after its end. A setting that is left out keeps its value. `None` resets it: not paused, no limit, the
        retention of the service. Jobs that have ended keep the retention that they got then. Raises `InvalidValue`.
        """
        constraints.QUEUE.validate("queue", queue)
        if isinstance(max_running, int):
            constraints.MAX_RUNNING.validate("max_running", max_running)
        args = [queue, _argument(paused), _argument(max_running), *_retention_arguments(retention_seconds)]
        _, settings = await self._client.run_script(scripts.CONFIGURE_QUEUE, self._client.partitions.first, args)
        await self._in_others(scripts.CONFIGURE_QUEUE, [queue, *as_arguments(settings)])
        return await self._with_figures(queue, settings)

    async def start_drain(self, seconds: int) -> DrainStatus:
        """Stop creating and claiming jobs for `seconds`, and return the drain. Running jobs continue."""
        constraints.DRAIN_SECONDS.validate("seconds", seconds)
        return await self._drain("start", seconds * 1000)

    async def end_drain(self) -> DrainStatus:
        """End the drain, if there is one, and return the jobs that are running."""
        return await self._drain("end")

    async def get_drain(self) -> DrainStatus:
        """Return whether a drain is on, until when, and the jobs that are still running."""
        return await self._drain("look")

    async def _drain(self, *args: str | int) -> DrainStatus:
        _, time, remaining = await self._client.run_script(scripts.DRAIN, self._client.partitions.first, args)
        if args != ("look",):
            await self._in_others(scripts.DRAIN, ["until", int(time) // 1000 + remaining if remaining else 0])
        until = format_timestamp(int(time) + remaining * 1000) if remaining else None
        differences = await self.find_differences() if args == ("look",) else ()
        is_partial = any(difference.queue is None for difference in differences)
        return await self._jobs.get_drain_status(until, is_partial=is_partial)

    async def copy_settings(self) -> None:
        """Give all partitions the settings of queues and the drain of the first one.

        They differ if a change was interrupted, or if two were made at once. Partitions whose node is away are left
        out; a failure of one does not keep the others from theirs.
        """
        differences = await self.find_differences(is_partial=True)

        async def copy(partition: Partition) -> None:
            for difference in differences:
                if difference.partition is partition:
                    await self.copy_setting(difference)

        await self._client.in_all_partitions(copy)

    async def find_differences(self, *, is_partial: bool = False) -> list[Difference]:
        """Return the settings of queues and the drains that are not those of the first partition.

        With `is_partial`, there are none of nodes that are away.
        """
        first, *others = self._client.partitions
        if not others:
            return []
        commands = ((["HGETALL", one.queues], ["HMGET", one.meta, "drain"]) for one in (first, *others))
        replies = await self._client.read(*itertools.chain(*commands), isolate_errors=True, is_partial=is_partial)
        wanted, *held = zip(replies[::2], replies[1::2], strict=True)
        found: list[Difference] = []
        for partition, (settings, drain) in zip(others, held, strict=True):
            if isinstance(settings, dict) and isinstance(wanted[0], dict):
                found += _differences(partition, settings, wanted[0])
            if isinstance(drain, list) and isinstance(wanted[1], list):
                found += _drain_difference(partition, drain[0], wanted[1][0])
        return found

    async def copy_setting(self, difference: Difference) -> None:
        """Give a partition a setting of the first one."""
        partition, queue, _, wanted = difference
        if queue is None:
            await self._client.run_script(scripts.DRAIN, partition, ["until", wanted or 0])
        else:
            args = [queue, *as_arguments(wanted or DEFAULT_FIELD)]
            await self._client.run_script(scripts.CONFIGURE_QUEUE, partition, args)

    async def _with_figures(self, queue: str, settings: bytes | None) -> Queue:
        return _queue(queue, settings, (await read_figures(self._client, queue)).get(queue))

    async def _in_others(self, script: Script, args: Sequence[Any]) -> None:
        """Run a script in all partitions but the first."""
        if others := self._client.partitions[1:]:
            await gather(self._client.run_script(script, partition, args) for partition in others)


def _queue(name: str, field: bytes | None, figures: QueueFigures | None) -> Queue:
    """Return a queue from its field in `jobs:queues`, and its numbers of jobs."""
    settings, figures = QueueSettings.parse(field), figures or QueueFigures()
    return Queue(
        queue=name,
        paused=settings.paused,
        max_running=settings.max_running,
        retention_seconds=settings.retention,
        statuses=figures.statuses,
        delayed=figures.delayed,
        leased=figures.leased,
        demand=figures.statuses[Status.RUNNING] + (0 if settings.paused else figures.due),
        oldest_due_seconds=figures.oldest_due_seconds,
    )


def _differences(
    partition: Partition, settings: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]
) -> Iterator[Difference]:
    """Yield the settings of queues that are not the wanted ones, if these can be used."""
    for queue in sorted({*settings, *wanted}):
        field, held = wanted.get(queue, DEFAULT_FIELD), settings.get(queue, DEFAULT_FIELD)
        if held != field and is_usable(field):
            yield Difference(partition, queue, held, field)


def _drain_difference(partition: Partition, held: bytes | None, wanted: bytes | None) -> Iterator[Difference]:
    if held != wanted and (wanted is None or wanted.isdigit()):
        yield Difference(partition, None, held, wanted)


def _argument(setting: int | UnsetType | None) -> int | str:
    """Return a setting as an argument of the script: empty to keep it, 0 to reset it."""
    return "" if isinstance(setting, UnsetType) else int(setting or 0)


def _retention_arguments(retention: Mapping[str, int | None] | UnsetType | None) -> list[int | str]:
    """Return the arguments of the script for completed, failed and cancelled jobs. Raises `InvalidValue`."""
    if retention is None:
        return [0] * len(Retention.__struct_fields__)
    given = {} if isinstance(retention, UnsetType) else retention
    for name, seconds in given.items():
        if name not in Retention.__struct_fields__:
            allowed = ", ".join(Retention.__struct_fields__)
            raise InvalidValue("retention_seconds", f"{truncated_repr(name)} is no final status", allowed)
        if seconds is not None:
            constraints.RETENTION_SECONDS.validate(f"retention_seconds.{name}", seconds)
    return [_argument(given.get(name, UNSET)) for name in Retention.__struct_fields__]
