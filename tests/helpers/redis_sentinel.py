"""A master with replicas and three sentinels, as processes on loopback, which a test may kill."""

import contextlib
import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.helpers.clocks import FakeClock
from tests.helpers.network import address
from tests.helpers.polling import free_ports, wait_until
from tests.helpers.redis_servers import ProcessRedis, ServerProcess, server_program

#: What the sentinels call the master.
MASTER_NAME: Final = "main"
SENTINELS: Final = 3
#: Milliseconds after which a sentinel thinks that a server is down.
DOWN_AFTER_MS: Final = 1000


class SentinelSet:
    """A master with its replicas and sentinels. They find each other at once, as after a restart."""

    def __init__(self, folder: Path, replicas: int = 1, *options: str, has_clocks: bool = False) -> None:
        """Start the servers and the sentinels; `has_clocks` gives each server a clock that can be set."""
        hosts = [*(address(0, at) for at in range(1 + replicas)), *(address(1, at) for at in range(SENTINELS))]
        ports = free_ports(*hosts)
        server_ports, sentinel_ports = ports[: 1 + replicas], ports[1 + replicas :]
        self._replicas = replicas

        def start(number: int) -> ProcessRedis:
            own = folder / f"redis{number}"
            own.mkdir(parents=True)
            clock = FakeClock(own / "clock") if has_clocks else None
            return _start_server(own, server_ports, number, options, clock)

        with ThreadPoolExecutor(len(server_ports)) as threads:
            #: The master at the start, then the replicas.
            self.servers: Final = list(threads.map(start, range(len(server_ports))))
        wait_until(lambda: self._is_in_sync(self.servers[0]), "replicas in sync")
        run_ids = [secrets.token_hex(20) for _ in sentinel_ports]

        def watch(number: int) -> ServerProcess:
            return _start_sentinel(folder / f"sentinel{number}", server_ports, sentinel_ports, run_ids, number)

        with ThreadPoolExecutor(SENTINELS) as threads:
            self.sentinels: Final = list(threads.map(watch, range(SENTINELS)))
        self.wait_until_whole()

    @property
    def processes(self) -> list[ServerProcess]:
        """All servers and sentinels."""
        return [*self.servers, *self.sentinels]

    @property
    def url(self) -> str:
        """The URL of the master, which names the sentinels."""
        return f"redis+sentinel://{','.join(one.name for one in self.sentinels)}/{MASTER_NAME}"

    @property
    def master(self) -> ProcessRedis:
        """The master that most of the running sentinels name."""
        named = [self._named_by(one) for one in self.sentinels if not one.has_exited]
        return self._at(max(named, key=named.count))

    @property
    def replicas(self) -> list[ProcessRedis]:
        """All servers but the master."""
        master = self.master
        return [server for server in self.servers if server is not master]

    def failover(self) -> ProcessRedis:
        """Make a replica the master, as planned work does, and return it once it is."""
        before = self.master
        next(one for one in self.sentinels if not one.has_exited).call("SENTINEL", "FAILOVER", MASTER_NAME)
        return self.wait_for_failover(before)

    def wait_for_failover(self, failed: ProcessRedis, cut_off: Collection[ServerProcess] = ()) -> ProcessRedis:
        """Wait until every running sentinel names another master than `failed`, which is one. Return it.

        Sentinels that are `cut_off` are not asked.
        """
        running = [one for one in self.sentinels if not (one.has_exited or one in cut_off)]

        def promoted() -> ProcessRedis | None:
            named = {self._named_by(one) for one in running}
            if len(named) > 1 or failed.port in named:
                return None
            server = self._at(named.pop())
            return server if server.call("ROLE")[0] == "master" else None

        found: ProcessRedis = wait_until(promoted, f"a failover of {failed.name}")
        return found

    def wait_until_whole(self) -> None:
        """Wait until all sentinels know each other, see every server up, and all replicas are in sync."""
        wait_until(lambda: self._is_in_sync(self.master), "replicas in sync")
        for sentinel in self.sentinels:
            wait_until(lambda one=sentinel: self._sees_all(one), "a sentinel that sees all servers")

    def remove(self) -> None:
        """Kill all servers."""
        for one in (*self.sentinels, *self.servers):
            one.remove()

    def _at(self, port: int) -> ProcessRedis:
        return next(server for server in self.servers if server.port == port)

    def _named_by(self, sentinel: ServerProcess) -> int:
        return int(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[1])

    def _is_in_sync(self, master: ProcessRedis) -> bool:
        role, _, replicas = master.call("ROLE")
        others = [server for server in self.servers if server is not master]
        return (
            role == "master"
            and len(replicas) == self._replicas
            and all(server.call("ROLE")[3:4] == ["connected"] for server in others)
        )

    def _sees_all(self, sentinel: ServerProcess) -> bool:
        described = [_pairs(sentinel.call("SENTINEL", "MASTER", MASTER_NAME))]
        described += map(_pairs, sentinel.call("SENTINEL", "REPLICAS", MASTER_NAME))
        described += map(_pairs, sentinel.call("SENTINEL", "SENTINELS", MASTER_NAME))
        known = 1 + self._replicas + SENTINELS - 1
        flags = {flag for one in described for flag in one["flags"].split(",")}
        return len(described) == known and not flags & {"s_down", "o_down", "disconnected"}


def _start_server(
    folder: Path, ports: list[int], number: int, options: tuple[str, ...], clock: FakeClock | None
) -> ProcessRedis:
    """Start a server with a file, in which a sentinel notes whose replica it is."""
    file = folder / "redis.conf"
    lines = ["repl-diskless-sync-delay 0"]
    lines += [f"replicaof {address(0, 0)} {ports[0]}"] if number else []
    file.write_text("\n".join(lines) + "\n")
    program, port, host = server_program(), ports[number], address(0, number)
    return ProcessRedis(folder, *options, program=program, port=port, file=file, host=host, clock=clock)


def _start_sentinel(
    folder: Path, servers: list[int], sentinels: list[int], run_ids: list[str], number: int
) -> ServerProcess:
    """Start a sentinel with the file that it would have written when it had found the others."""
    folder.mkdir(parents=True)
    file, port, host = folder / "sentinel.conf", sentinels[number], address(1, number)
    others = [(at, other, run_ids[at]) for at, other in enumerate(sentinels) if other != port]
    lines = [
        *(f"port {port}", f"bind {host}", f"bind-source-addr {host}", f"dir {folder}", "loglevel warning"),
        f"sentinel myid {run_ids[number]}",
        f"sentinel monitor {MASTER_NAME} {address(0, 0)} {servers[0]} {SENTINELS // 2 + 1}",
        f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {MASTER_NAME} {5 * DOWN_AFTER_MS}",
        f"sentinel parallel-syncs {MASTER_NAME} {max(1, len(servers) - 1)}",
        *(f"sentinel known-replica {MASTER_NAME} {address(0, at)} {servers[at]}" for at in range(1, len(servers))),
        *(f"sentinel known-sentinel {MASTER_NAME} {address(1, at)} {other} {run_id}" for at, other, run_id in others),
    ]
    file.write_text("\n".join(lines) + "\n")
    return ServerProcess(port, str(server_program()), str(file), "--sentinel", host=host)


def _pairs(reply: Any) -> dict[str, str]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


@contextlib.contextmanager
def running_sentinel(folder: Path, replicas: int = 1, *options: str) -> Iterator[SentinelSet]:
    """Yield a master with replicas and sentinels, and kill them at the end."""
    servers = SentinelSet(folder, replicas, *options)
    try:
        yield servers
    finally:
        servers.remove()
