import pytest
from litestar import Litestar
from litestar.datastructures import State
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.domain.shutdown import Shutdown
from service.lifespan import service_lifespan
from service.observability.metrics import Metrics
from service.server.server import Server
from service.settings import Settings
from service.store.pool import RedisPool


@pytest.mark.parametrize(
    "failure", [RedisTimeoutError("Timed out closing connection after 3.0"), RuntimeError("closed")]
)
async def test_a_connection_that_cannot_be_closed_does_not_fail_the_shutdown(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    disconnected = []

    async def disconnect(pool: RedisPool, inuse_connections: bool = True) -> None:
        disconnected.append(pool)
        raise failure

    monkeypatch.setattr(RedisPool, "disconnect", disconnect)
    app = Litestar(
        lifespan=[service_lifespan("redis://127.0.0.1:1/0", Settings.from_environment({}), Metrics())],
        state=State({"shutdown": Shutdown()}),
    )

    async with app.lifespan():
        pass

    assert disconnected == [app.state.redis_pool]


async def test_an_unexpected_failure_of_the_store_does_not_stop_the_shutdown() -> None:
    class Manager:
        async def get_running_job_count(self, *, leased: bool) -> int:
            raise ValueError("a bug")

    server = Server.__new__(Server)
    server._state = State({"job_manager": Manager()})

    assert await server._leases() is None
