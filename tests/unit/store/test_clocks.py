"""Clocks of nodes that differ: each time is compared with that of the node which it is from."""

import time
from typing import Any

import pytest

from service.store.gates import COUNT_VALID_SECONDS, Counts
from service.store.look import Looker
from service.store.partition import Partition
from service.store.partitions import Partitions

PARTITIONS = Partitions(4)
#: The times of the nodes in seconds, by partition.
TIMES = [1000, 1005, 995, 1000]


class FourNodes:
    """A client of a cluster whose nodes have a partition each, and clocks that differ."""

    partitions = PARTITIONS

    def __init__(self, delays: dict[int, float]) -> None:
        #: When the next delay of a partition is over, in seconds on the clock of its node.
        self._delays = delays
        self.ended: list[Partition] = []

    def clock_of(self, partition: Partition) -> Partition:
        return partition

    def time_of(self, partition: Partition) -> int:
        return TIMES[partition.number] * 1_000_000

    def is_away(self, partition: Partition) -> bool:
        return False

    async def read(self, *commands: list[str], at: Any = (), **options: Any) -> list[Any]:
        clocks = iter(at)
        return [self._reply(command, clocks) for command in commands]

    def _reply(self, command: list[str], clocks: Any) -> Any:
        if command == ["TIME"]:
            return (TIMES[next(clocks).number], 0)
        name, partition = command[0], PARTITIONS.holding(command[1])
        if name == "ZRANGE" and command[1] == partition.delays:
            at = self._delays.get(partition.number)
            return [] if at is None else [(b"m", at * 1e6)]
        return {"HMGET": [None], "ZCARD": 2}.get(name, [])

    async def run_script(self, script: Any, partition: Partition, args: Any) -> list[Any]:
        self.ended.append(partition)
        del self._delays[partition.number]
        return [b"ENDED", 0, b"", b"", []]


@pytest.mark.parametrize(("number", "ends"), [(1, 1006), (2, 996)])
async def test_a_delay_is_over_by_the_clock_of_its_own_node(number: int, ends: int) -> None:
    client = FourNodes({number: ends})

    look = await Looker(client).read(["q"], 1)  # type: ignore[arg-type]

    assert (look.next_due, client.ended) == (1, [])


@pytest.mark.parametrize(("number", "ended"), [(1, 1004), (2, 994)])
async def test_a_delay_that_is_over_by_the_clock_of_its_own_node_is_ended(number: int, ended: int) -> None:
    client = FourNodes({number: ended})

    await Looker(client).read(["q"], 1)  # type: ignore[arg-type]

    assert client.ended == [PARTITIONS[number]]


async def test_a_count_of_running_jobs_holds_until_a_time_of_the_node_that_gets_it() -> None:
    counts = Counts(FourNodes({}))  # type: ignore[arg-type]
    counts.queues, counts.until = ["q"], time.monotonic() + COUNT_VALID_SECONDS

    untils = [(await counts.facts(one))[":until"] / 1e6 for one in PARTITIONS]

    assert [round(until - COUNT_VALID_SECONDS) for until in untils] == TIMES
