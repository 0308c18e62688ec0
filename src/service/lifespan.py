"""What lives as long as the process serves: the connection to Redis and the sweep of expired jobs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

import structlog
from litestar import Litestar
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.domain.errors import JobStateError
from service.store.connection import connect
from service.store.manager import JobStateManager

#: How often expired jobs are taken out of the indexes, and how soon a store that was away is tried again.
SWEEP_EVERY: Final = timedelta(seconds=5)
RECONNECT_EVERY: Final = timedelta(seconds=1)

_log = structlog.stdlib.get_logger(__name__)


def store(redis_url: str, ttl: timedelta) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """Return a lifespan that puts `redis_pool`, `redis_client` and `job_manager` on the app's state.

    The service starts and serves also while Redis is away; requests that need it are answered 503 until it is back.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.redis_pool = connect(redis_url)
        app.state.redis_client = Redis(connection_pool=app.state.redis_pool)
        app.state.job_manager = JobStateManager(app.state.redis_pool, ttl=ttl)
        stopping = asyncio.Event()
        upkeep = asyncio.create_task(_upkeep(app.state.job_manager, stopping), name="upkeep")
        try:
            yield
        finally:
            stopping.set()  # for a cancellation that redis-py loses (see SECOND_BELL)
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            _log.info("Shutting down Redis connection")
            with contextlib.suppress(RedisError):  # over a dead line nobody answers a TLS goodbye
                await app.state.redis_client.aclose()
                await app.state.redis_pool.disconnect()

    return lifespan


async def _upkeep(manager: JobStateManager, stopping: asyncio.Event) -> None:
    """Say when Redis comes and goes, and sweep while it is there."""
    connected: bool | None = None
    while not stopping.is_set():
        try:
            swept = await manager.sweep()
        except JobStateError as error:
            if connected is not False:
                _log.warning("Redis is away; answering 503 until it is back", detail=str(error))
            connected = False
        except Exception:
            _log.exception("the sweep failed; it will be tried again")
        else:
            if not connected:
                _log.info("Redis connected, JobStateManager initialized")
            connected = True
            if swept:
                _log.debug("expired jobs swept", jobs=swept)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((SWEEP_EVERY if connected else RECONNECT_EVERY).total_seconds()):
                await stopping.wait()
