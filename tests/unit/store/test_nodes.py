"""Several nodes: their clocks differ, and one that is away hides nothing of the others."""

import time
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
import redis.exceptions

from service.domain.errors import StorePartitionUnavailable
from service.store.deployments.node import Node, create_node
from service.store.gates import COUNT_VALID_SECONDS, Counts
from service.store.look import Looker
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.pool import create_pool
from service.store.reads import NodeReads

PARTITIONS = Partitions(4)
#: The times of the nodes in seconds, by partition.
TIMES = [1000, 1005, 995, 1000]


class FourNodes:
    """A client of a cluster whose nodes have a partition each, and clocks that differ. Some may be away."""

    partitions = PARTITIONS

    def __init__(self, delays: dict[int, float], away: Collection[int] = ()) -> None:
        #: When the next delay of a partition is over, in seconds on the clock of its node.
        self._delays = delays
        self._away = away
        #: The end of a drain in the copy of each node, in ms.
        self.meta: dict[int, list[bytes | None]] = {}
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
        partition = next(clocks) if command == ["TIME"] else PARTITIONS.holding(command[1])
        if partition.number in self._away:
            return StorePartitionUnavailable(f"node {partition.number}")
        if command == ["TIME"]:
            return (TIMES[partition.number], 0)
        if command[1] == partition.meta:
            return self.meta.get(partition.number, [None])
        name = command[0]
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


@pytest.mark.parametrize("away", [{0}, {0, 1}])
async def test_a_look_takes_drain_and_settings_from_the_first_node_that_answers(away: set[int]) -> None:
    client = FourNodes({}, away=away)
    client.meta = {0: [b"1"], 1: [b"1"], 2: [b"996000"], 3: [b"1"]}

    look = await Looker(client).read(["q"], 1)  # type: ignore[arg-type]

    assert look.drain == (1000 if away == {0, 1} else 0)


async def test_a_look_that_no_node_answers_says_why() -> None:
    with pytest.raises(StorePartitionUnavailable, match="node 3"):
        await Looker(FourNodes({}, away={0, 1, 2, 3})).read(["q"], 1)  # type: ignore[arg-type]


async def test_a_count_of_running_jobs_holds_until_a_time_of_the_node_that_gets_it() -> None:
    counts = Counts(FourNodes({}))  # type: ignore[arg-type]
    counts.queues, counts.until = ["q"], time.monotonic() + COUNT_VALID_SECONDS

    untils = [(await counts.facts(one))[":until"] / 1e6 for one in PARTITIONS]

    assert [round(until - COUNT_VALID_SECONDS) for until in untils] == TIMES


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (redis.exceptions.ConnectionError("reset by peer"), "node-1: reset by peer"),
        (TimeoutError(), "node-1: no answer"),
    ],
)
async def test_a_part_of_an_answer_that_is_missing_names_its_node_and_why(failure: Exception, reason: str) -> None:
    nodes = [create_node(f"node-{number}", create_pool("redis://127.0.0.1:1")) for number in range(4)]
    deployment: Any = SimpleNamespace(
        is_cluster=True, is_located=True, partitions=PARTITIONS, node_of=lambda partition: nodes[partition.number]
    )

    async def ask(node: Node, commands: Any, deadline: float) -> list[Any]:
        if node is nodes[1]:
            raise failure
        return [node.name] * len(commands)

    commands = [["GET", partition.meta] for partition in PARTITIONS]
    first, missing, *others = await NodeReads(deployment).read(
        ask, commands, [*PARTITIONS], time.monotonic() + 1, is_partial=True
    )

    assert [first, *others] == ["node-0", "node-2", "node-3"]
    assert isinstance(missing, StorePartitionUnavailable)
    assert reason in str(missing)
