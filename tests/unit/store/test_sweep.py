from types import SimpleNamespace
from typing import Any

import pytest

from service.domain.errors import DataVersionUnsupported, PartitionsMismatch, StorePartitionUnavailable, StoreReadOnly
from service.store.client import StoreClient
from service.store.observer import NullObserver
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.sweep import sweep_reachable


class Client(StoreClient):
    """A client of four partitions, of which some have expired jobs, and others fail."""

    def __init__(self, *outcomes: int | Exception, is_cluster: bool = True, away: int = -1) -> None:
        self.partitions = Partitions(4)  # type: ignore[misc]
        self.deployment: Any = SimpleNamespace(is_cluster=is_cluster)  # type: ignore[misc]
        self.observer = NullObserver()
        self._outcomes, self._away = outcomes, away

    async def run_script(self, script: Any, partition: Partition, *_: Any) -> list[Any]:
        outcome = self._outcomes[partition.number]
        if isinstance(outcome, Exception):
            raise outcome
        return ["SWEPT", outcome, 0, b""]

    def is_away(self, partition: Partition) -> bool:
        return partition.number == self._away


async def test_partitions_of_a_cluster_that_fail_are_left_out() -> None:
    first, second = StoreReadOnly("first"), StoreReadOnly("second")

    assert await sweep_reachable(Client(1, first, second, 4)) == (5, first)


async def test_that_a_node_is_away_is_no_failure_because_it_is_logged_already() -> None:
    client = Client(1, 2, 3, StorePartitionUnavailable(), away=3)

    assert await sweep_reachable(client) == (6, None)


async def test_a_sweep_fails_if_all_partitions_do() -> None:
    first, *others = (StorePartitionUnavailable(str(number)) for number in range(4))

    with pytest.raises(StorePartitionUnavailable, match="0"):
        await sweep_reachable(Client(first, *others, away=0))


@pytest.mark.parametrize("error", [DataVersionUnsupported(3, 2), PartitionsMismatch(8, 16)])
async def test_a_sweep_fails_if_one_partition_has_other_data(error: Exception) -> None:
    with pytest.raises(type(error)):
        await sweep_reachable(Client(1, 2, error, 4))


async def test_a_sweep_of_one_redis_fails_with_its_first_failure() -> None:
    with pytest.raises(StoreReadOnly):
        await sweep_reachable(Client(1, 2, StoreReadOnly(), 4, is_cluster=False))
