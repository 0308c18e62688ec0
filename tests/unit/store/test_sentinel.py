"""What a service does with what the sentinels and a former master reply."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import exceptions as redis_errors

from service.domain.errors import StoreReadOnly
from service.settings.redis_url import parse_redis_url
from service.store import scripts
from service.store.client import StoreClient
from service.store.deployments.node import Node
from service.store.deployments.sentinel import SentinelRedis
from service.store.observer import NullObserver

READ_ONLY = redis_errors.ReadOnlyError("You can't write against a read only replica.")
SWEPT = [b"SWEPT", 0, 0, []]


class FakePipeline:
    """A connection to a Redis that has these replies to scripts, one after another."""

    transport = object()

    def __init__(self, *replies: Any) -> None:
        self._replies = iter(replies)
        self.scripts = 0

    async def ask(self, *commands: tuple[Any, ...], until: float) -> list[Any]:
        return [self._reply(name) for name, *_ in commands]

    def _reply(self, name: str) -> Any:
        if name == "EVALSHA":
            self.scripts += 1
            return next(self._replies)
        return {"TIME": [b"1", b"0"], "EXISTS": 0}.get(name)

    async def aclose(self) -> None:
        return


class Outcomes(NullObserver):
    def __init__(self) -> None:
        self.found: list[str] = []

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        self.found.append(outcome)


@pytest.fixture
def deployment() -> SentinelRedis:
    return SentinelRedis(parse_redis_url("redis+sentinel://one:1,two:2,three:3/main"))


def use(deployment: SentinelRedis, pipeline: FakePipeline) -> None:
    """Let all calls go over a fake connection."""
    deployment._node = Node("", deployment.pool, pipeline, pipeline)  # type: ignore[arg-type]
    deployment._nodes = (deployment._node,)


async def test_a_script_that_a_former_master_refuses_is_sent_again_within_the_same_attempt(
    deployment: SentinelRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, outcomes, closed = FakePipeline(READ_ONLY, READ_ONLY, SWEPT), Outcomes(), list[bool]()
    use(deployment, pipeline)

    async def disconnect() -> None:
        closed.append(True)

    monkeypatch.setattr(deployment.pool, "disconnect", disconnect)
    client = StoreClient(deployment, outcomes)

    assert await client.run_script(scripts.SWEEP, client.partitions.first, [1]) == ["SWEPT", 0, 0, []]

    assert (pipeline.scripts, outcomes.found) == (3, ["SWEPT"])
    assert closed == [True, True], "the next connection asks the sentinels"


async def test_a_script_that_is_refused_until_its_deadline_is_read_only(
    deployment: SentinelRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusals() -> Iterator[Any]:
        while True:
            yield READ_ONLY

    pipeline = FakePipeline()
    pipeline._replies = refusals()
    use(deployment, pipeline)
    monkeypatch.setattr("service.store.calls.FIRST_ATTEMPT_TIMEOUT", 0.1)
    client = StoreClient(deployment)

    with pytest.raises(StoreReadOnly):
        await client.run_script(scripts.SWEEP, client.partitions.first, [1])

    assert pipeline.scripts > 1


class FakeSentinel:
    """A sentinel that names a master, or does not answer."""

    def __init__(self, name: str, epoch: int, is_down: bool = False) -> None:
        host, port = name.split(":")
        flags = {"is_master": True, "is_sdown": is_down, "is_odown": False}
        self._state = {"ip": host, "port": int(port), "config-epoch": epoch, **flags}

    async def sentinel_masters(self) -> dict[str, Any]:
        if not self._state["port"]:
            raise redis_errors.ConnectionError("refused")
        return {"main": self._state}

    async def aclose(self) -> None:
        return


async def test_the_master_of_the_newest_failover_is_used_whatever_the_first_sentinel_says(
    deployment: SentinelRedis,
) -> None:
    cut_off, silent, newest = FakeSentinel("a:1", 1), FakeSentinel("x:0", 0), FakeSentinel("b:2", 2)
    deployment._sentinels = [cut_off, silent, newest]  # type: ignore[list-item]

    await deployment._look()

    assert deployment.nodes[0].name == "b:2"
    assert await deployment.find_master() == ("b", 2)
    assert deployment._sentinels == [newest, cut_off, silent]  # type: ignore[comparison-overlap]
    await deployment.aclose()


async def test_a_sentinel_that_sees_its_master_down_is_passed_over(deployment: SentinelRedis) -> None:
    deployment._sentinels = [FakeSentinel("a:1", 2, is_down=True), FakeSentinel("b:2", 1)]  # type: ignore[list-item]

    await deployment._look()

    assert await deployment.find_master() == ("b", 2)
    await deployment.aclose()


async def test_without_a_master_that_is_up_the_error_names_it_and_why(deployment: SentinelRedis) -> None:
    deployment._sentinels = [FakeSentinel("x:0", 0), FakeSentinel("a:1", 1, is_down=True)]  # type: ignore[list-item]

    with pytest.raises(redis_errors.ConnectionError, match=r"No master found for 'main' .*refused"):
        await deployment.find_master()

    await deployment.aclose()
