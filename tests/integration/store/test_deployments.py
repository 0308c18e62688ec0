"""What a client sees when a master is killed, stops or is replaced, and when a partition moves to another node."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as redis_errors
from redis.crc import key_slot
from structlog.testing import capture_logs

from service.background.bulk_runner import BulkRunner
from service.domain.bulk import BulkKind, BulkState, NewBulkAction
from service.domain.constraints import job_id_for_key
from service.domain.errors import PartitionsMismatch, StoreMoving, StoreUnavailable
from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.auto_pipeline import AutoPipeline
from service.store.bulk_actions import BulkActions
from service.store.bulk_steps import BulkSteps
from service.store.client import StoreClient
from service.store.events.hub import EventHub
from service.store.events.job_watcher import JobWatcher
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.opening import open_store
from service.store.partitions import Partitions
from tests.helpers.redis_cluster import Cluster, running_cluster
from tests.helpers.redis_sentinel import running_sentinel
from tests.helpers.redis_servers import ProcessRedis
from tests.integration.store.test_bulk_actions import count as count_jobs_of

PARTITIONS = Partitions(16)
#: The id of a job in each partition.
IDS = [next(f"j{n}" for n in count() if PARTITIONS.of(f"j{n}") is partition) for partition in PARTITIONS]
FIRST = PARTITIONS[0]

faults = pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda one: one.name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "cluster", replicas=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without replicas."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "masters") as cluster:
        yield cluster


def jobs_of(client: StoreClient) -> JobStateManager:
    return JobStateManager(client, ttl=timedelta(days=1))


async def create_all(url: str, **options: Any) -> None:
    """Create a job in each partition, acknowledged by a replica."""
    async with open_store(url, wait_replicas=1, **options) as client:
        await asyncio.gather(*(jobs_of(client).create_job(job_id, 1) for job_id in IDS))


async def change_until(ended: asyncio.Event, change: Callable[[], Awaitable[Any]]) -> list[Exception]:
    """Repeat a change, at least once, and return its errors."""
    found: list[Exception] = []
    while True:
        is_last = ended.is_set()
        try:
            await change()
        except StoreUnavailable as error:
            found.append(error)
        if is_last:
            return found
        await asyncio.sleep(0.01)


async def during(act: Callable[[], Any], *changes: Callable[[], Awaitable[Any]]) -> list[list[Exception]]:
    """Repeat changes while `act` runs in a thread. Return the errors of each."""
    ended = asyncio.Event()
    results = [asyncio.create_task(change_until(ended, change)) for change in changes]
    try:
        await asyncio.to_thread(act)
    finally:
        ended.set()
    return await asyncio.gather(*results)


async def answer(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first answer to a call that Redis may refuse for some seconds."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


@faults
async def test_while_a_master_of_a_cluster_is_away_the_others_answer_and_its_jobs_come_back(
    cluster: Cluster, fault: signal.Signals
) -> None:
    await create_all(cluster.url)
    failed = cluster.master_of(FIRST)
    other = next(number for number, one in enumerate(PARTITIONS) if cluster.master_of(one) is not failed)

    def fail() -> None:
        failed.send(fault)
        if fault is signal.SIGKILL:
            failed.kill()
        cluster.wait_for_failover(failed)

    async with open_store(cluster.url) as client:
        jobs = jobs_of(client)
        await jobs.get_stats()
        watcher = JobWatcher(client, EventHub(client, (shutdown := Shutdown())), shutdown)
        _, _, *of_other = await during(
            fail,
            lambda: jobs.create_job(IDS[0], 1),
            lambda: watcher.get_job(IDS[0]),
            lambda: jobs.create_job(IDS[other], 1),
            lambda: jobs.get_job(IDS[other]),
            lambda: jobs.get_jobs([IDS[other]]),
            lambda: watcher.get_job(IDS[other]),
        )
        assert of_other == [[], [], [], []]
        for job_id in IDS:
            assert (await answer(lambda one=job_id: jobs.create_job(one, 1))).replayed, "it was acknowledged before"
    failed.send(signal.SIGCONT)


@faults
async def test_without_the_node_of_the_first_partition_the_jobs_of_the_others_are_read_and_watched(
    tmp_path: Path, fault: signal.Signals
) -> None:
    with running_cluster(tmp_path / "cluster") as cluster:
        async with open_store(cluster.url) as client:
            jobs, shutdown = jobs_of(client), Shutdown()
            watcher = JobWatcher(client, EventHub(client, shutdown), shutdown)
            await asyncio.gather(*(jobs.create_job(job_id, 1) for job_id in IDS))
            failed = cluster.master_of(FIRST)
            others = [job_id for job_id in IDS if cluster.master_of(PARTITIONS.of(job_id)) is not failed]
            failed.send(fault)

            lost = asyncio.create_task(watcher.get_job(IDS[0]))
            await asyncio.sleep(0)
            watched = await asyncio.gather(*map(watcher.get_job, others))
            assert [job.job_id for job in watched if job] == others
            assert fault is signal.SIGKILL or not lost.done(), "nobody has waited for the node that hangs"
            assert [job.job_id for job_id in others if (job := await jobs.get_job(job_id))] == others
            assert [job.job_id for job in (await jobs.get_jobs(others)).items] == others
            for call in (lost, jobs.get_job(IDS[0]), jobs.get_jobs(IDS)):
                with pytest.raises(StoreUnavailable):
                    await call


async def test_a_bulk_action_goes_on_without_a_node_and_ends_when_it_is_back(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster") as cluster:
        async with open_store(cluster.url, partitions=64) as client:
            jobs, actions, steps = jobs_of(client), BulkActions(client), BulkSteps(client, ttl=timedelta(days=1))
            await asyncio.gather(*(jobs.create_job(job_id, 1) for job_id in IDS))
            failed = cluster.master_of(client.partitions.first)
            key = next(
                f"k{n}"
                for n in count()
                if cluster.master_of(client.partitions.of(job_id_for_key(f"k{n}"))) is not failed
            )
            new = NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(status=Status.PENDING))
            action, _ = await actions.start_action(new, key)
            await count_jobs_of(steps, action.action_id)
            others = [job_id for job_id in IDS if cluster.master_of(client.partitions.of(job_id)) is not failed]
            failed.send(signal.SIGSTOP)

            runner = BulkRunner(steps)
            async with asyncio.timeout(60):
                while not all(job and job.is_final for job in [await jobs.get_job(job_id) for job_id in others]):
                    await runner.run_once()
                with pytest.raises(StoreUnavailable):  # not a part of its numbers
                    await actions.get_action(action.action_id)
                failed.send(signal.SIGCONT)
                while (ended := await answer(lambda: actions.get_action(action.action_id))).state is not BulkState.DONE:
                    await runner.run_once()
            assert (ended.matched, ended.done) == (len(IDS), len(IDS))


@faults
async def test_jobs_acknowledged_by_a_replica_are_there_when_sentinels_have_made_it_the_master(
    tmp_path: Path, fault: signal.Signals
) -> None:
    with running_sentinel(tmp_path) as servers:
        await create_all(servers.url)
        failed = servers.master

        def fail() -> None:
            failed.send(fault)
            if fault is signal.SIGKILL:
                failed.kill()
            servers.wait_for_failover(failed)

        async with open_store(servers.url) as client:
            jobs = jobs_of(client)
            await jobs.get_stats()
            [refused] = await during(fail, lambda: jobs.create_job(IDS[0], 1))
            assert refused
            for job_id in IDS:
                assert (await answer(lambda one=job_id: jobs.create_job(one, 1))).replayed
        failed.send(signal.SIGCONT)


async def test_a_planned_failover_of_a_cluster_gives_no_client_an_error(cluster: Cluster) -> None:
    await create_all(cluster.url)
    before = cluster.master_of(FIRST)
    [replica] = cluster.replicas_of(before)

    def fail_over() -> None:
        replica.call("CLUSTER", "FAILOVER")
        assert cluster.wait_for_failover(before) is replica

    async with open_store(cluster.url) as client:
        jobs = jobs_of(client)
        changes = [lambda one=job_id: jobs.create_job(one, 1) for job_id in IDS]
        assert await during(fail_over, *changes) == [[]] * len(IDS)
        assert client.deployment.node_of(FIRST).name == replica.name
        assert all([(await jobs.create_job(job_id, 1)).replayed for job_id in IDS])


async def test_a_planned_failover_of_sentinels_gives_no_client_an_error(tmp_path: Path) -> None:
    with running_sentinel(tmp_path) as servers:
        await create_all(servers.url)
        before = servers.master
        async with open_store(servers.url) as client:
            jobs = jobs_of(client)
            [refused] = await during(servers.failover, lambda: jobs.create_job(IDS[0], 1))
            assert refused == []
            assert servers.master is not before
            assert all([(await jobs.create_job(job_id, 1)).replayed for job_id in IDS])


def keys_in(node: ProcessRedis, slot: int) -> list[str]:
    keys: list[str] = node.call("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    return keys


async def test_a_partition_that_is_being_moved_refuses_changes_and_is_followed_once_it_has_moved(
    masters: Cluster,
) -> None:
    slot, source = key_slot(FIRST.root.encode()), masters.master_of(FIRST)
    target = next(node for node in masters.nodes if node is not source)
    ids = {node: node.call("CLUSTER", "MYID") for node in (source, target)}
    async with open_store(masters.url) as client:
        jobs = jobs_of(client)
        await jobs.create_job(IDS[0], 1)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = keys_in(source, slot)
        source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[: len(keys) // 2])

        moved = set(keys_in(target, slot))
        with pytest.raises(StoreMoving):
            await jobs.update_job_status(IDS[0], "running")
        assert set(keys_in(target, slot)) == moved, "no script ran there on half of the keys"
        await jobs.create_job(IDS[15], 1)  # the other partitions answer

        source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys_in(source, slot))
        for node in (target, source, *masters.nodes):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        assert (await jobs.update_job_status(IDS[0], "running")).status == "running"
        assert client.deployment.node_of(FIRST).name == target.name


@pytest.mark.parametrize("number", [8, 32])
async def test_a_start_with_another_number_of_partitions_is_refused(masters: Cluster, number: int) -> None:
    async with open_store(masters.url) as client:
        await jobs_of(client).write_version()
    async with open_store(masters.url, partitions=number) as client:
        for call in (jobs_of(client).write_version, jobs_of(client).get_stats):
            with pytest.raises(PartitionsMismatch, match="data of 16 partitions"):
                await call()


async def test_a_connection_that_breaks_does_not_make_its_node_away(
    masters: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, asked_again = asyncio.Event(), asyncio.Event()
    ask = AutoPipeline.ask

    async def ask_and_break(self: AutoPipeline, *commands: tuple[Any, ...], **options: Any) -> list[Any]:
        if commands == (("PING",),):
            if not broken.is_set():
                broken.set()
                raise redis_errors.ConnectionError("closed")
            asked_again.set()
        return await ask(self, *commands, **options)

    async with open_store(masters.url) as client:
        await jobs_of(client).get_stats()
        monkeypatch.setattr(AutoPipeline, "ask", ask_and_break)
        client.deployment.on_failure(client.deployment.node_of(FIRST), redis_errors.TimeoutError())
        with capture_logs() as logs:
            async with asyncio.timeout(20):
                await asked_again.wait()
            await asyncio.sleep(0.1)
    assert logs == []


async def test_a_look_for_due_jobs_does_not_take_other_data_for_a_node_that_is_away(masters: Cluster) -> None:
    """Otherwise its claims would get no job, instead of an error that says why."""
    async with open_store(masters.url) as client:
        await jobs_of(client).create_job(IDS[0], 1)
        masters.master_of(FIRST).call("SET", FIRST.partitions, 8)
    try:
        async with open_store(masters.url) as client:
            with pytest.raises(PartitionsMismatch):
                await LeaseManager(client, ttl=timedelta(days=1)).claim_job(["default"], "w")
    finally:
        masters.master_of(FIRST).call("SET", FIRST.partitions, 16)
