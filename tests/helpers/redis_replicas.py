"""A Redis master with replicas, as processes on loopback, which a test may stop and kill."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import ProcessRedis


@dataclass(frozen=True)
class Replication:
    """A master and its replicas."""

    master: ProcessRedis
    replicas: list[ProcessRedis]

    @property
    def url(self) -> str:
        """The URL of the master."""
        return f"redis://127.0.0.1:{self.master.port}/0"

    def wait_until_in_sync(self) -> None:
        """Wait until all replicas have acknowledged a change. A new one is connected before it gets changes."""
        if self.replicas:
            wait_until(self._is_in_sync, "replicas in sync")

    def _is_in_sync(self) -> bool:
        with contextlib.closing(redis.Redis(port=self.master.port, socket_timeout=5, retry=None)) as client:
            pipeline = client.pipeline(transaction=False).set("in-sync", 1).delete("in-sync")
            return bool(pipeline.wait(len(self.replicas), 1000).execute()[-1] >= len(self.replicas))

    def remove(self) -> None:
        """Kill all servers, also those that were stopped."""
        for server in (*self.replicas, self.master):
            server.remove()


@contextlib.contextmanager
def master_with_replicas(folder: Path, replicas: int = 2, *options: str) -> Iterator[Replication]:
    """Yield a master with `replicas` that have its data, and kill them at the end."""
    with contextlib.ExitStack() as started:

        def start(name: str, *more: str) -> ProcessRedis:
            own = folder / name
            own.mkdir(parents=True)
            server = ProcessRedis(own, "--repl-diskless-sync-delay", "0", *options, *more)
            started.callback(server.remove)
            return server

        master = start("master")
        source = ("--replicaof", f"127.0.0.1 {master.port}")
        running = Replication(master, [start(f"replica{number}", *source) for number in range(replicas)])
        running.wait_until_in_sync()
        yield running


@contextlib.contextmanager
def stopped(*servers: ProcessRedis) -> Iterator[None]:
    """Stop processes (SIGSTOP) inside the `with` block: their connections stay open, and nothing answers."""
    for server in servers:
        server.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            server.send(signal.SIGCONT)
