"""Calls to Redis with a timeout, one retry and typed errors."""

import itertools
import operator
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis

from service.domain import constraints, errors
from service.domain.actor import actor
from service.domain.store_health import StoreAvailability
from service.store import probe
from service.store.calls import FIRST_ATTEMPT_TIMEOUT, Calls, with_timeout
from service.store.data_check import DataCheck
from service.store.deadlines import REQUEST_TIMEOUT, gather
from service.store.deployments import Deployment
from service.store.deployments.node import Node
from service.store.deployments.standalone import StandaloneRedis
from service.store.fsync import FsyncWaiter
from service.store.observer import NullObserver, Observer
from service.store.partition import Partition
from service.store.pool import shared
from service.store.reads import NodeReads
from service.store.redis_errors import NODE_ERRORS, map_error, parse_reply, raise_errors, to_domain_error
from service.store.scripts import Script

T = TypeVar("T")

#: Seconds that a readiness check may take.
PING_TIMEOUT: Final = 2.5
_FIRST_ATTEMPT_MICROS: Final = int(FIRST_ATTEMPT_TIMEOUT * 1_000_000)


class UnexpectedReplyError(Exception):
    """A script replied with a word that it does not declare: a bug."""

    def __init__(self, script: Script, word: str) -> None:
        super().__init__(f"{script.name}.lua replied {word!r}")


class StoreClient:
    """Runs scripts and read commands over a pipeline, each with a timeout and one retry.

    A process creates one and gives it to everything that uses Redis.
    """

    def __init__(
        self,
        redis: ConnectionPool | Deployment,
        observer: Observer | None = None,
        *,
        waitaof: bool = False,
        partitions: int | None = None,
        copy: bytes | None = None,
    ) -> None:
        """Use a deployment, or one Redis through its pool, by default with one partition. Report calls to `observer`.

        With `waitaof`, for one Redis, a change returns once it is on its disk. `copy` is the mark of the copy that
        fills the database. Raises `ValueError` for a number of partitions that is no power of two from 1 to 1,024 or
        not that of the deployment, and if a pool decodes replies, because JSON must stay bytes.
        """
        if not isinstance(redis, Deployment):
            redis = StandaloneRedis(redis, 1 if partitions is None else partitions)
        elif partitions not in (None, len(redis.partitions)):
            raise ValueError(f"`partitions` is {partitions}, but the deployment has {len(redis.partitions)}")
        self.deployment: Final = redis
        pool = self.deployment.pool
        if pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the pool decodes replies; create it with decode_responses=False")
        #: Also receives the changes of jobs, from those who make them.
        self.observer: Observer = observer or NullObserver()
        #: Where the jobs are.
        self.partitions: Final = self.deployment.partitions
        #: For rare commands of one Redis, and for its conversions of replies.
        self.redis: Final[Redis] = Redis(connection_pool=pool)
        self._data = DataCheck(self.deployment, copy)
        self._reads = NodeReads(self.deployment)
        self._fsync = shared(FsyncWaiter, pool) if waitaof else None
        #: Makes a call within its time limit, with one retry: `Calls.call`.
        self.call: Final = Calls(self.observer, pool).call

    async def aclose(self) -> None:
        """End the calls that are under way. The pool stays open; other clients of it send theirs again."""
        await self.deployment.aclose()
        if self._fsync is not None:
            await self._fsync.aclose()

    async def run_script(
        self, script: Script, partition: Partition, args: Sequence[Any], keys: Sequence[str] = ()
    ) -> list[Any]:
        """Run a script in one round trip and return its reply: a word of `script.replies`, then the values.

        It gets `keys`, then the root of the partition, which is the only one that it may use.

        A call whose outcome is unknown is retried once, so `args` must let the script recognise that it ran before. A
        script that reaches Redis after its deadline, or finds data of a newer version, does nothing. Raises
        `StoreUnavailable` or `StoreCorrupt`.
        """
        command = ("EVALSHA", script.sha, len(keys) + 1, *keys, partition.root, *args)
        send = partial(self._run_before_deadline, script, partition, command)
        reply = await self.call(script.name, send, outcome=operator.itemgetter(0))
        if self._fsync is not None and script.writes:
            await self.call("sync", with_timeout(self._fsync.wait), first_time_limit=REQUEST_TIMEOUT)
        return reply

    def run_job_script(self, script: Script, job_id: str, args: Sequence[Any]) -> Awaitable[list[Any]]:
        """Run a script on one job, in its partition, like `run_script`. Raises `InvalidValue` for a wrong id."""
        partition = self.partition_of(job_id)
        return self.run_script(script, partition, [job_id, *args], [partition.job(job_id)])

    def partition_of(self, job_id: str) -> Partition:
        """Return the partition of a job. Raises `InvalidValue` for a wrong id."""
        constraints.JOB_ID.validate("job_id", job_id)
        return self.partitions.of(job_id)

    def is_away(self, partition: Partition) -> bool:
        """Return whether the node of a partition is known to be away."""
        if not (self.deployment.is_cluster and self.deployment.is_located):
            return False
        try:
            self.deployment.node_of(partition)
        except errors.StorePartitionUnavailable:
            return True
        return False

    def clock_of(self, partition: Partition) -> Partition:
        """Return the first partition on the node of `partition`, whose `TIME` is that of `partition`, too."""
        return self.deployment.clock_of(partition)

    def time_of(self, partition: Partition) -> int:
        """Return the time (µs since 1970) of the node that has a partition, as of its last check.

        Raises `StorePartitionUnavailable`.
        """
        return self.deployment.node_of(partition).clock.now

    async def in_all_partitions(self, call: Callable[[Partition], Coroutine[Any, Any, T]]) -> list[T]:
        """Return the results of `call` for every partition, in their order. The calls run at the same time."""
        if self.partitions.size == 1:
            return [await call(self.partitions.first)]
        return await gather(map(call, self.partitions))

    async def run_in_all_partitions(self, script: Script, args: Sequence[Any] = ()) -> list[list[Any]]:
        """Run a script like `run_script` in every partition, and return the replies in the order of the partitions."""
        return await self.in_all_partitions(lambda partition: self.run_script(script, partition, args))

    async def write_version(self) -> None:
        """Write the data version of this service to Redis, and the number of partitions, if there is no other data.

        Raises `DataVersionUnsupported` or `PartitionsMismatch` if there is.
        """
        await self.call("write_version", self._register)

    async def _register(self, deadline: float) -> None:
        if not self.deployment.is_located:
            await self.deployment.locate(deadline)
        for partition in self.partitions if self.deployment.is_cluster else (self.partitions.first,):
            if not self.deployment.is_cluster or partition not in self._data.registered:
                await self._data.register(self._run_before_deadline, partition, deadline)

    async def _run_before_deadline(
        self, script: Script, partition: Partition, command: tuple[Any, ...], deadline: float
    ) -> list[Any]:
        """Send a script to the node that has the partition, and return its reply."""
        deployment = self.deployment
        for attempt in itertools.count():
            if not deployment.is_located:
                await deployment.locate(deadline)
            node = deployment.node_of(partition)
            try:
                return await self._run_on(node, script, partition, command, deadline)
            except NODE_ERRORS as error:
                await self._recover(error, node, attempt, deadline)
        raise AssertionError

    async def _run_on(
        self, node: Node, script: Script, partition: Partition, command: tuple[Any, ...], deadline: float
    ) -> list[Any]:
        """Send a script with its deadline as a time of Redis. If Redis is past it, read the clock and send again.

        Before a change, the version and the number of partitions are written where they are missing.
        """
        pipeline, data = node.changes if script.writes else node.pipeline, self._data
        while True:
            if not node.is_checked(pipeline):
                await data.check(node, pipeline, deadline)
            if script.writes and partition not in data.registered:
                await data.register(self._run_before_deadline, partition, deadline)
            last = _last_argument(script, node.clock.now + _FIRST_ATTEMPT_MICROS)
            [reply] = await pipeline.ask((*command, last), until=deadline)
            if isinstance(reply, redis_errors.NoScriptError):  # not loaded yet, or flushed since
                raise_errors(await pipeline.ask(("SCRIPT", "LOAD", script.text), until=deadline))
            elif isinstance(reply, Exception):
                raise reply
            elif (word := parse_reply("EVALSHA", _decode_word, reply)) == "DEADLINE_EXCEEDED":
                await data.check(node, pipeline, deadline)
            elif word not in script.replies:
                raise UnexpectedReplyError(script, word)
            else:
                return [word, *reply[1:]]

    async def _recover(self, error: Exception, node: Node, attempt: int, deadline: float) -> None:
        """Return if a call should be sent again, because Redis has not run it. Otherwise raise why it failed."""
        if isinstance(error, redis_errors.ResponseError):
            await self.deployment.handle(error, attempt, deadline)
        else:
            self.deployment.on_failure(node, error)
            raise error

    async def read(
        self,
        *commands: Sequence[str],
        isolate_errors: bool = False,
        name: str = "read",
        at: Sequence[Partition] = (),
        is_partial: bool = False,
    ) -> list[Any]:
        """Run read commands in one round trip to each node, and return the replies as redis-py converts them.

        The first command without a key goes to the node of the first partition in `at`, the second to that of the
        second, and so on; without `at`, to the node of the first partition of all. The observer receives `name`.

        Raises like `run_script`. With `isolate_errors` a key of an unexpected type raises nothing: its reply is a
        `StoreCorrupt`. With `is_partial` the replies of nodes that are away are of the class `StoreUnavailable`.
        """
        places = at or (self.partitions.first,)

        async def send(deadline: float) -> list[Any]:
            replies = await self._reads.read(self._ask, commands, places, deadline, is_partial=is_partial)
            for number, reply in enumerate(replies):
                if isolate_errors and isinstance(reply, Exception) and map_error(reply) is errors.StoreCorrupt:
                    replies[number] = to_domain_error(reply, self.deployment.pool)
            raise_errors(replies)
            return self._convert(commands, replies)

        return await self.call(name, send)

    async def read_from(self, node: Node, *commands: Sequence[Any], any_data: bool = False) -> list[Any]:
        """Run read commands on one node, like `read`. With `any_data` its data need not be that of this service."""

        async def send(deadline: float) -> list[Any]:
            replies = await self._ask(node, commands, deadline, any_data=any_data)
            return self._convert(commands, raise_errors(replies))

        return await self.call("read", send)

    async def _ask(
        self, node: Node, commands: Sequence[Sequence[Any]], deadline: float, *, any_data: bool = False
    ) -> list[Any]:
        """Return the replies of a node to read commands."""
        pipeline = node.pipeline
        try:
            if not any_data and not node.is_checked(pipeline):
                await self._data.check(node, pipeline, deadline)
            return await pipeline.ask(*(tuple(command) for command in commands), until=deadline)
        except NODE_ERRORS as error:
            self.deployment.on_failure(node, error)
            raise

    def _convert(self, commands: Sequence[Sequence[str]], replies: Sequence[Any]) -> list[Any]:
        """Return replies as redis-py converts them."""
        converted = []
        for [name, *_], reply in zip(commands, replies, strict=True):
            convert = None if isinstance(reply, Exception) else self.redis.response_callbacks.get(name)
            converted.append(reply if convert is None else parse_reply(name, convert, reply))
        return converted

    async def find_nodes(self) -> Sequence[Node]:
        """Return the nodes that have partitions, once they are known. Raises like `run_script`."""
        if not self.deployment.is_located:
            await self.call("read", self.deployment.locate)
        return self.deployment.nodes

    async def probe(self) -> StoreAvailability:
        """Return if a node accepts writes and this service may make them: how many do.

        Raises like `run_script`, within 3 s, if none does, or if the data of one is not that of this service.
        """
        return await self.call("probe", partial(probe.probe, self.deployment, self._data), PING_TIMEOUT)


def _decode_word(reply: Any) -> str:
    word: str = reply[0].decode()
    return word


def _last_argument(script: Script, deadline: int) -> int | str:
    """Return the deadline (µs since 1970) of a script; for a change with the name of the API key, if there is one."""
    name = actor.get() if script.writes else ""
    return f"{deadline}:{name}" if name else deadline
