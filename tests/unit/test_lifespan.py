import pytest
from litestar import Litestar
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.lifespan import store
from service.metrics import Metrics
from service.settings import Settings
from service.store.pool import Pool


async def test_a_stop_over_a_line_that_takes_no_leave_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def disconnect(pool: Pool, inuse_connections: bool = True) -> None:
        asked.append(pool)
        raise RedisTimeoutError("Timed out closing connection after 3.0")

    monkeypatch.setattr(Pool, "disconnect", disconnect)
    app = Litestar(lifespan=[store("redis://127.0.0.1:1/0", Settings.from_environment({}), Metrics())])

    async with app.lifespan():
        pass

    assert asked == [app.state.redis_pool]
