"""The faults of Sentinel and Redis Cluster. Each is over when all servers are up and all replicas in sync."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tests.chaos.history import Outage, Window
from tests.chaos.nemesis import FAULTS, Fault, Injector, repair
from tests.chaos.replicated import MAX_SKEW, Reached, Replicated, WithCluster, WithSentinel
from tests.helpers import clocks, network
from tests.helpers.partitions import PARTITIONS
from tests.helpers.redis_servers import ProcessRedis, ServerProcess, why_no_atomic_migration

#: Seconds before a fault in which clients may have seen changes that no replica had yet.
REPLICATION_LAG: Final = 1.0


@contextlib.asynccontextmanager
async def _failover(environment: Replicated, needed_replicas: int = 1) -> AsyncIterator[None]:
    """Record what a failover within the block may lose: of acknowledged changes none that `needed_replicas` have."""
    since = time.time() - REPLICATION_LAG
    history = environment.history
    window = Window("failover", since, float("inf"))
    history.failovers.append(window)
    try:
        yield
        await environment.wait_until_whole()
    finally:
        ended = Window("failover", since, time.time())
        history.failovers[history.failovers.index(window)] = ended
        if environment.wait_replicas < needed_replicas:
            history.losses.append(ended)


async def kill_master(environment: Replicated) -> None:
    """Kill a master, and start it again after the failover. It has an older state then."""
    async with _failover(environment):
        master = await environment.choose_master()
        partitions, since = await environment.partitions_of(master), time.time()
        await asyncio.to_thread(master.kill)
        await environment.wait_for_failover(master)
        environment.history.outages.append(Outage(Window("outage", since, time.time()), partitions))
        await asyncio.sleep(environment.rng.uniform(0, environment.fault_seconds))
        await asyncio.to_thread(master.start)


async def stop_master(environment: Replicated) -> None:
    """Pause a master until a while after the failover. It then goes on as if it were the master."""
    async with _failover(environment):
        master = await environment.choose_master()
        master.send(signal.SIGSTOP)
        try:
            await environment.wait_for_failover(master)
            await asyncio.sleep(environment.rng.uniform(0, environment.fault_seconds))
        finally:
            master.send(signal.SIGCONT)


async def planned_failover(environment: Replicated) -> None:
    """Make a replica the master, as before work on the master."""
    async with _failover(environment):
        await environment.plan_failover(await environment.choose_master())


async def forced_failover(environment: Replicated) -> None:
    """Make a replica the master, as nobody should: without a pause of changes, or without asking the master."""
    async with _failover(environment, environment.replicas):
        await environment.force_failover(await environment.choose_master())


def network_cut(reached: Reached) -> Injector:
    """Return a fault that cuts a master off from all other servers, until a while after the failover.

    Meanwhile it goes on as the master, for those of the service's connections that reach it.
    """

    async def inject(environment: Replicated) -> None:
        async with _failover(environment):
            master = await environment.choose_master()
            await _cut_off(environment, master, [master], reached)

    return inject


async def cut_minority(environment: WithSentinel) -> None:
    """Cut a master off with a replica and a sentinel, which the service reaches."""
    async with _failover(environment, environment.replicas):
        master = await environment.choose_master()
        await _cut_off(environment, master, environment.minority_of(master), Reached.BY_ALL)


async def _cut_off(
    environment: Replicated, master: ProcessRedis, side: Sequence[ServerProcess], reached: Reached
) -> None:
    with environment.cut_off(side, reached):
        await environment.wait_for_failover(master, side)
        await asyncio.sleep(environment.fault_seconds * environment.rng.uniform(0.5, 3))


async def lagging_replica(environment: Replicated) -> None:
    """Pause a replica, with `REDIS_WAIT_REPLICAS` longer than a change waits for it."""
    replica = environment.rng.choice(await environment.replicas_of(await environment.choose_master()))
    replica.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(environment.fault_seconds * environment.rng.uniform(0.5, 4))
    finally:
        replica.send(signal.SIGCONT)
    await environment.wait_until_whole()


async def lagging_failover(environment: Replicated) -> None:
    """Cut a master off from some of its replicas, or all, and kill it while they lag behind."""
    async with _failover(environment):
        master = await environment.choose_master()
        replicas = await environment.replicas_of(master)
        lagging = environment.rng.sample(replicas, environment.rng.randint(1, len(replicas)))
        with network.cut([master.host], [one.host for one in lagging]):
            await asyncio.sleep(environment.fault_seconds * environment.rng.uniform(0.5, 4))
            await asyncio.to_thread(master.kill)
            await environment.wait_for_failover(master)  # until then the kernel would deliver what was on its way
        await asyncio.to_thread(master.start)


async def clock_skew(environment: Replicated) -> None:
    """Let the clocks of all servers differ, and make a replica with another clock the master."""
    async with _failover(environment), environment.clocks() as all_clocks:
        for clock in all_clocks:
            clock.set(environment.rng.uniform(-MAX_SKEW, MAX_SKEW))
        await asyncio.sleep(environment.fault_seconds)
        await environment.plan_failover(await environment.choose_master())
        await asyncio.sleep(environment.fault_seconds)


async def clock_jumps(environment: Replicated) -> None:
    """Set clocks ahead and back, again and again."""
    async with environment.clocks() as all_clocks:
        for _ in range(10):
            environment.rng.choice(all_clocks).set(environment.rng.choice([-MAX_SKEW, 0, MAX_SKEW]))
            await asyncio.sleep(environment.fault_seconds * environment.rng.uniform(0, 0.5))


async def slot_migration(environment: WithCluster) -> None:
    """Move a partition to another master, key by key. `MIGRATE` makes keys expire later by the time that it takes."""
    partition = environment.rng.choice(PARTITIONS)
    await environment.move(partition, environment.fault_seconds)
    environment.history.errors += [
        f"doctor: after a slot migration: {issue}"
        for issue in await repair(environment.url)
        if issue["type"] != "count" and (issue["type"] != "lifetime" or not issue["key"].startswith(partition.job("")))
    ]


async def atomic_slot_migration(environment: WithCluster) -> None:
    """Move a partition to another master as Valkey 9 does. Keys keep their lifetime."""
    partition = environment.rng.choice(PARTITIONS)
    await environment.move_at_once(partition)
    await asyncio.sleep(environment.fault_seconds)
    environment.history.errors += [
        f"doctor: after an atomic slot migration: {issue}"
        for issue in await repair(environment.url)
        if issue["type"] != "count"
    ]


_OF_SERVICE: Final = {"kill-service", "kill-worker", "stop-service", "stop-worker"}
_FAILOVERS: Final = (
    Fault("kill-master", kill_master),
    Fault("stop-master", stop_master),
    Fault("planned-failover", planned_failover),
    Fault("forced-failover", forced_failover),
    Fault("lagging-replica", lagging_replica),
    Fault("lagging-failover", lagging_failover, why_not=network.why_not),
    *(
        Fault(name, network_cut(reached), why_not=network.why_not)
        for name, reached in (
            ("cut-master", Reached.BY_ALL),
            ("half-cut-master", Reached.BY_HALF),
            ("unreachable-master", Reached.NOT),
        )
    ),
    Fault("clock-skew", clock_skew, sets_clocks=True, why_not=clocks.why_not),
    Fault("clock-jumps", clock_jumps, sets_clocks=True, why_not=clocks.why_not),
    *(fault for fault in FAULTS if fault.name in _OF_SERVICE),
)

#: The faults of each backend.
FAULTS_OF: Final = {
    "standalone": FAULTS,
    "sentinel": (*_FAILOVERS, Fault("cut-minority", cut_minority, why_not=network.why_not)),
    "cluster": (
        *_FAILOVERS,
        Fault("slot-migration", slot_migration),
        Fault("atomic-slot-migration", atomic_slot_migration, why_not=why_no_atomic_migration),
    ),
}
