"""Where the reader of events gets entries: from one Redis, which it waits for, or by polls from a cluster."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Redis

from service.domain.errors import StoreUnavailable
from service.store.client import StoreClient
from service.store.partition import Partition

#: The most events of one read.
READ_COUNT: Final = 500
#: Seconds between two polls of a cluster. Each costs Redis a microsecond per partition that is read.
POLL_INTERVAL: Final = 0.02
#: The position before the first event of a stream, as Redis writes it.
START: Final = "0-0"

#: The fields of an entry.
Fields = Mapping[bytes, bytes]


class Found(NamedTuple):
    """What was found after positions."""

    #: The entries of each partition that has new ones, oldest first: id and fields.
    entries: Mapping[Partition, Sequence[tuple[bytes, Fields]]]
    #: Partitions whose position is not in the stream any more.
    gone: Sequence[Partition] = ()
    #: Why some partitions could not be read.
    failure: Exception | None = None


class EventSource(Protocol):
    """Reads the streams of partitions."""

    async def read(self, positions: Mapping[Partition, str], block: int | None) -> Found:
        """Return the entries after positions. If there are none, wait for up to `block` milliseconds."""

    async def read_ends(self, partitions: Iterable[Partition]) -> tuple[dict[Partition, str], Exception | None]:
        """Return the last position of each partition, and why some could not be read."""


class BlockingSource:
    """One Redis. A read holds a connection, on which Redis sends new entries at once."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._redis: Redis = client.redis

    async def read(self, positions: Mapping[Partition, str], block: int | None) -> Found:
        """Return the entries after positions. If there are none, wait for up to `block` milliseconds."""
        count = READ_COUNT // len(positions) or 1
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xread({partition.events: position for partition, position in positions.items()}, count, block)
            for partition, position in positions.items():
                pipe.xrange(partition.events, position, position, count=1)
            streams, *last_reads = await pipe.execute()
        gone = [
            one
            for (one, position), last_read in zip(positions.items(), last_reads, strict=True)
            if not last_read and position != START
        ]
        if not streams:
            return Found({}, gone)
        by_key = {one.events.encode(): one for one in positions}
        return Found({by_key[key]: entries for key, entries in streams}, gone)

    async def read_ends(self, partitions: Iterable[Partition]) -> tuple[dict[Partition, str], Exception | None]:
        """Return the last position of each partition."""
        return await _read_ends(self._client, [*partitions], is_partial=False)


class PollingSource:
    """A cluster, where one command cannot read two partitions. Nodes that are away are left out."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def read(self, positions: Mapping[Partition, str], block: int | None) -> Found:
        """Return the entries after positions. If there are none, wait for up to `block` milliseconds."""
        until = time.monotonic() + (block or 0) / 1000
        while True:
            found = await self._poll(positions)
            if found.entries or found.gone or found.failure or time.monotonic() >= until:
                return found
            await asyncio.sleep(POLL_INTERVAL)

    async def _poll(self, positions: Mapping[Partition, str]) -> Found:
        if not positions:
            return Found({})
        count = str(READ_COUNT // len(positions) + 2)
        commands = [["XRANGE", one.events, position, "+", "COUNT", count] for one, position in positions.items()]
        replies = await self._client.read(*commands, is_partial=True, name="events")
        found, gone, failure = dict[Partition, Sequence[tuple[bytes, Fields]]](), [], None
        for (one, position), reply in zip(positions.items(), replies, strict=True):
            if isinstance(reply, StoreUnavailable):
                failure = reply
                continue
            is_there = bool(reply) and reply[0][0] == position.encode()
            if not is_there and position != START:
                gone.append(one)
            elif entries := reply[is_there:]:
                found[one] = entries
        return Found(found, gone, failure)

    async def read_ends(self, partitions: Iterable[Partition]) -> tuple[dict[Partition, str], Exception | None]:
        """Return the last position of each partition, and why some could not be read."""
        return await _read_ends(self._client, [*partitions], is_partial=True)


async def _read_ends(
    client: StoreClient, partitions: Sequence[Partition], *, is_partial: bool
) -> tuple[dict[Partition, str], Exception | None]:
    commands = [["XREVRANGE", partition.events, "+", "-", "COUNT", "1"] for partition in partitions]
    replies: list[Any] = await client.read(*commands, is_partial=is_partial)
    failures = [reply for reply in replies if isinstance(reply, StoreUnavailable)]
    ends = {
        one: reply[0][0].decode() if reply else START
        for one, reply in zip(partitions, replies, strict=True)
        if not isinstance(reply, StoreUnavailable)
    }
    return ends, next(iter(failures), None)
