"""What the measurements stand on: servers of their own, filled through the real scripts, many to a round trip."""

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

from redis.asyncio import ConnectionPool

from service.embedded.binary import find
from service.store.connection import Gateway, meaning
from service.store.manager import JobStateManager
from service.store.observer import NoObserver
from service.store.pool import connect
from service.store.scripts import Source

#: Changes to one round trip while filling.
BATCH: Final = 500
WEEK: Final = timedelta(days=7)
#: A moment (µs) after which a script must not run that is never reached.
NEVER: Final = 2**53
#: 100 bytes of JSON.
INPUT: Final = {"text": "x" * 89}
assert len(json.dumps(INPUT, separators=(",", ":"))) == 100


@contextlib.contextmanager
def server(*more: str) -> Iterator[str]:
    """Run an empty server, without persistence unless `more` options ask for it, and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        process = subprocess.Popen(
            [find().path, *options, "--hash-max-listpack-value", "4096", *more], stdout=subprocess.DEVNULL
        )
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()


class BatchingGateway(Gateway):
    """Sends the scripts of all callers that wait at one moment in one pipeline."""

    def __init__(self, pool: ConnectionPool) -> None:
        """Work through `pool`."""
        super().__init__(pool, NoObserver())
        self._waiting: list[tuple[Source, list[Any], asyncio.Future[Any]]] = []

    async def run(self, source: Source, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Queue a script and return its reply."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((source, [len(keys), *keys, NEVER, *args], reply))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._flush()))
        found = await reply
        return [found[0].decode(), *found[1:]]

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        async with self.redis.pipeline(transaction=False) as pipe:
            for source, args, _ in waiting:
                pipe.evalsha(self._scripts[source.name].sha, *args)
            try:
                replies = await pipe.execute(raise_on_error=False)
            except Exception as error:  # for everyone who waits, who would else wait for ever
                replies = [error] * len(waiting)
            for (_, _, reply), found in zip(waiting, replies, strict=True):
                if isinstance(found, Exception):
                    reply.set_exception(meaning(found)(str(found)))
                else:
                    reply.set_result(found)


@contextlib.asynccontextmanager
async def store(url: str, *, batching: bool = False) -> AsyncIterator[JobStateManager]:
    """Yield a repository on the server at `url`."""
    pool = connect(url)
    manager = JobStateManager(pool, ttl=WEEK)
    if batching:
        manager._gateway = BatchingGateway(pool)
        for script in manager._gateway._scripts.values():
            await manager._gateway.redis.script_load(script.script)
    yield manager
    await pool.disconnect()


async def in_batches(count: int, work: Callable[[int], Awaitable[Any]]) -> None:
    """Do `work` for 0 … count - 1, a batch at once."""
    for start in range(0, count, BATCH):
        await asyncio.gather(*(work(number) for number in range(start, min(start + BATCH, count))))


async def fill(url: str, count: int, **fields: Callable[[int], Any]) -> None:
    """Create pending jobs with 36-character ids and 100 bytes of input."""

    async def create(number: int) -> None:
        given = {name: value(number) for name, value in fields.items()}
        await manager.create_job(str(uuid.UUID(int=number)), INPUT, **given)

    async with store(url, batching=True) as manager:
        await in_batches(count, create)


async def move(url: str, numbers: Sequence[int], status: str, **content: Any) -> None:
    """Move jobs that `fill` made."""

    async def change(index: int) -> None:
        await manager.update_job_status(str(uuid.UUID(int=numbers[index])), status, **content)

    async with store(url, batching=True) as manager:
        await in_batches(len(numbers), change)


async def interleaved(calls: dict[str, Callable[[], Awaitable[Any]]], rounds: int) -> dict[str, float]:
    """Return the median of each call in microseconds, all measured in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            await call()
            times[name].append((time.perf_counter() - started) * 1e6)
    return {name: median(found) for name, found in times.items()}
