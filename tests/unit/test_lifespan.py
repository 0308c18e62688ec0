import asyncio
from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.datastructures import State
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from service import lifespan
from service.domain.errors import StoreAccessDenied, StoreCorrupt
from service.lifespan import service_lifespan
from service.observability.metrics import Metrics
from service.server.server import Server
from service.settings import Settings
from service.store.pool import RedisPool


@pytest.mark.parametrize(
    "failure", [RedisTimeoutError("Timed out closing connection after 3.0"), RuntimeError("closed")]
)
async def test_a_stop_over_a_line_that_takes_no_leave_is_no_failure(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def disconnect(pool: RedisPool, inuse_connections: bool = True) -> None:
        asked.append(pool)
        raise failure

    monkeypatch.setattr(RedisPool, "disconnect", disconnect)
    app = Litestar(lifespan=[service_lifespan("redis://127.0.0.1:1/0", Settings.from_environment({}), Metrics())])

    async with app.lifespan():
        pass

    assert asked == [app.state.redis_pool]


class Manager:
    """A store whose sweep fails in one way after another."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = list(failures)
        self.stopping = asyncio.Event()

    async def sweep(self) -> int:
        failure = self._failures.pop(0)
        if not self._failures:
            self.stopping.set()
        if failure is not None:
            raise failure
        return 0

    async def write_version(self) -> None:
        """Do nothing."""

    async def get_store_health(self) -> None:
        raise StoreAccessDenied("no INFO")


async def test_a_failure_that_lasts_is_logged_once_and_again_after_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "RECONNECT_INTERVAL", timedelta(0))
    monkeypatch.setattr(lifespan, "SWEEP_INTERVAL", timedelta(0))
    bug, away = ValueError("a bug"), StoreAccessDenied("refused")
    manager: Any = Manager(bug, bug, away, away, None, None, bug, bug)

    with capture_logs() as logs:
        await lifespan._sweep_loop(manager, manager.stopping)

    told = [one["event"] for one in logs]
    assert told == [
        *(
            lifespan.SWEEP_FAILED,
            lifespan.REDIS_UNAVAILABLE,
            lifespan.CONNECTED,
            lifespan.UNCHECKED,
            lifespan.SWEEP_FAILED,
        )
    ]


async def test_a_reaper_that_goes_on_failing_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, calls = asyncio.Event(), []

    class Leases:
        async def get_time(self) -> float:
            calls.append(1)
            if len(calls) == 3:
                stopping.set()
            raise StoreCorrupt("not ours")

    async def pause(_: float, __: asyncio.Event) -> None:
        """Do not wait."""

    monkeypatch.setattr(lifespan, "_sleep_or_stop", pause)
    leases: Any = Leases()
    with capture_logs() as logs:
        await lifespan._reap_loop(leases, stopping)

    assert [one["event"] for one in logs] == [lifespan.REAPER_FAILED]


async def test_a_shutdown_goes_on_when_the_store_fails_in_an_unforeseen_way() -> None:
    class Manager:
        async def get_running_job_count(self, *, leased: bool) -> int:
            raise ValueError("a bug")

    server = Server.__new__(Server)
    server._state = State({"job_manager": Manager()})

    assert await server._leases() is None
