"""`jobstate copy`: all jobs into an empty database, between any numbers of partitions, whole or refused."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.bulk import BulkKind, NewBulkAction
from service.domain.errors import StoreLoading
from service.domain.jobs import JobFilter, Progress
from service.domain.states import Status
from service.store.bulk_actions import BulkActions
from service.store.client import StoreClient
from service.store.copy import CopyRefused, copy_database, source
from service.store.deployments import Deployment, open_deployment
from service.store.doctor import check
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import PARTITION
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from tests.helpers.cli_process import environment, jobstate
from tests.helpers.consistency import inconsistencies
from tests.helpers.deployments import Databases, not_on_cluster, raw_client, sync_client
from tests.helpers.store_operations import dump
from tests.integration.store.test_partitioned_lists import matches, pages_of

pytestmark = [
    pytest.mark.corrupts_keys,
    pytest.mark.partitions(1),
    not_on_cluster("copies of one partition; `test_copy_cluster.py` has those from and to a cluster"),
]

WEEK = timedelta(days=7)
#: The queue and the names of each job.
ABOUT: Final[Any] = {"queue": "q", "slate_id": "s", "correlation_id": "c", "labels": {"a": "b", "team": "blue"}}
#: What a copy does not have, or has otherwise.
NOT_COPIED = ("jobs:events", "jobs:deletions", "jobs:claim:", "jobs:rate_limit:", "jobs:meta", "jobs:version")


@pytest.fixture
def client(pool: BlockingConnectionPool) -> StoreClient:
    return StoreClient(pool)


@pytest.fixture
async def store(redis: Redis, client: StoreClient) -> Redis:
    """Jobs of every kind in one partition, and a drain."""
    jobs, leases, queues = JobStateManager(client, ttl=WEEK), LeaseManager(client, ttl=WEEK), QueueManager(client)
    for name in ("leased", "pending", "running", "completed", "failed", "cancelled", "deleted"):
        await jobs.create_job(name, {"n": "é" * 300}, **ABOUT)
    await jobs.create_job("delayed", {"n": 1}, delay_seconds=3600, **ABOUT)
    claim = await leases.claim_job(["q"], "w", claim_key="k")
    assert claim
    assert claim.job.job_id == "leased"
    for name in ("running", "completed"):
        await jobs.update_job_status(name, "running", progress=Progress(1))
    await jobs.update_job_status("completed", "completed", {"r": "x" * 5000})
    await jobs.update_job_status("failed", "failed", error="why")
    await jobs.cancel_job("cancelled")
    await jobs.cancel_job("deleted")
    await jobs.delete_job("deleted")
    await redis.hset(PARTITION.job("failed"), b"foreign\xff", b"\xfe")
    for number in range(60):
        await jobs.create_job(f"j{number}", number, queue=f"q{number % 3}", correlation_id="c", priority=number % 2)
    await queues.configure_queue("q", max_running=5, retention_seconds={"failed": 600})
    await queues.configure_queue("paused", paused=True)
    await jobs.write_version()
    await queues.start_drain(600)
    return redis


class Database:
    """A database, used with any number of partitions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = raw_client(url)
        self._opened: list[Deployment] = []

    def deployment(self, partitions: int) -> Deployment:
        """Return what another process opens."""
        self._opened.append(open_deployment(self.url, partitions=partitions))
        return self._opened[-1]

    def client(self, partitions: int) -> StoreClient:
        return StoreClient(self.deployment(partitions))

    async def aclose(self) -> None:
        for one in self._opened:
            await one.aclose()
            await one.pool.disconnect()
        await self.redis.aclose()


@pytest.fixture
async def own(store_url: str) -> AsyncIterator[Database]:
    """The database of `store`."""
    database = Database(store_url)
    yield database
    await database.aclose()


@pytest.fixture
async def spare(databases: Databases) -> AsyncIterator[Callable[[int], Database]]:
    """Empty databases, by their numbers."""
    opened = {number: Database(databases.url(number)) for number in (8, 9)}
    for database in opened.values():
        await database.redis.flushdb()
    yield opened.__getitem__
    for database in opened.values():
        await database.redis.flushdb()
        await database.aclose()


@pytest.fixture
def target(spare: Callable[[int], Database]) -> Database:
    return spare(8)


def copied(held: dict[str, Any]) -> dict[str, Any]:
    """Return what a copy must have, too."""
    return {name: value for name, value in held.items() if not name.startswith(NOT_COPIED)}


def nothing(_: str, __: int) -> None:
    pass


class At:
    """Progress that runs something once, when the first jobs are copied."""

    def __init__(self, step: str, act: Callable[[], Any]) -> None:
        self._step, self._act, self.done = step, act, False

    def __call__(self, step: str, jobs: int) -> None:
        if step == self._step and not self.done:
            self.done = True
            self._act()


def edit(database: Database, *command: Any) -> Callable[[], Any]:
    """Return a function that runs a command at once."""

    def act() -> None:
        with sync_client(database.url) as client:
            client.execute_command(*command)

    return act


async def sound(database: Database, partitions: int) -> bool:
    found = [issue async for issue in check(database.client(partitions), rate=None)]
    assert (found, await inconsistencies(database.redis, Partitions(partitions))) == ([], [])
    return True


@pytest.mark.parametrize("count", [1, 2, 16, 64])
async def test_a_copy_there_and_back_has_the_same_jobs_indexes_and_settings(
    client: StoreClient, store: Redis, spare: Callable[[int], Database], count: int
) -> None:
    before = await dump(store)

    there = await copy_database(client, spare(8).deployment(count), nothing)

    assert await dump(store) == before  # it is only read
    assert await sound(spare(8), count)
    many = spare(8).client(count)
    stats = await JobStateManager(many, ttl=WEEK).get_stats()
    assert sum(there.values()) == 67
    assert {(queue, str(status)): n for queue, by in stats.queues.items() for status, n in by.items() if n} == there
    await QueueManager(many).start_drain(60)
    assert await copy_database(many, spare(9).deployment(1), nothing) == there
    assert await sound(spare(9), 1)
    back = await dump(spare(9).redis)
    assert copied(back) == copied(before)
    assert await spare(9).redis.get("jobs:version") == b"2"


async def test_a_job_of_the_copy_goes_on(client: StoreClient, store: Redis, target: Database) -> None:
    token = (await store.hget(PARTITION.job("leased"), "_token") or b"").decode()
    await copy_database(client, target.deployment(16), nothing)
    many = target.client(16)
    jobs = JobStateManager(many, ttl=WEEK)
    await LeaseManager(many, ttl=WEEK).heartbeat("leased", token)
    assert (await jobs.update_job_status("leased", "completed", 1, lease_token=token)).status == "completed"
    assert (await jobs.create_job("pending", {"n": "é" * 300}, **ABOUT)).replayed
    [queue] = [one for one in await QueueManager(many).get_queues() if one.queue == "paused"]
    assert queue.paused
    assert await sound(target, 16)


async def test_creation_times_stay_unique_after_a_copy(client: StoreClient, store: Redis, target: Database) -> None:
    """Also where the clock of FROM was ahead: a copied time must not be given to a new job of another partition."""
    ahead = int((await store.time())[0]) * 10**6 + 3600 * 10**6
    await store.hset(PARTITION.meta, "clock", str(ahead))
    await QueueManager(client).end_drain()
    jobs = JobStateManager(client, ttl=WEEK)
    for number in range(40):
        await jobs.create_job(f"ahead{number}", 1)
    await QueueManager(client).start_drain(60)

    await copy_database(client, target.deployment(16), nothing)

    many = JobStateManager(target.client(16), ttl=WEEK)
    new = [(await many.create_job(f"new{number}", 1)).job.created_at for number in range(200)]
    old = [(job.created_at) for number in range(40) if (job := await many.get_job(f"ahead{number}"))]
    assert len(old) == 40
    assert len({*new, *old}) == 240
    assert min(new) > max(old)


async def create_jobs(jobs: JobStateManager, choose: random.Random, prefix: str) -> list[str]:
    """Create jobs of two queues, some with a slate and some running, and return their ids.

    The last third is in one partition, whatever their number: a page then has more of it than was asked for at first.
    """
    names, home = [f"{prefix}{number}" for number in range(1500)], Partitions(16)[3]
    job_ids = [*names[:100], *[name for name in names[100:] if Partitions(16).of(name) is home][:50]]
    for job_id in job_ids:
        await jobs.create_job(job_id, 1, queue=choose.choice("ab"), slate_id=choose.choice([None, "s"]))
        if choose.random() < 0.5:
            await jobs.update_job_status(job_id, "running")
    return job_ids


@pytest.mark.parametrize("is_ahead", [True, False], ids=["every microsecond", "as they come"])
@pytest.mark.parametrize(("count", "copied_to"), [(1, 16), (16, 1), (16, 4)])
async def test_pages_after_a_copy_have_every_job_exactly_once_and_in_order(
    spare: Callable[[int], Database], count: int, copied_to: int, is_ahead: bool
) -> None:
    """Copied jobs keep their creation times, also those that their new partition gives to no job.

    Where the clock is ahead, it gives one time after the other, without gaps.
    """
    choose, source_client = random.Random(count), spare(8).client(count)
    target_client = spare(9).client(copied_to)
    if is_ahead:
        await source_client.write_version()
        ahead = (int(time.time()) + 3600) * 10**6
        for partition in source_client.partitions:
            await spare(8).redis.hset(partition.meta, "clock", str(ahead))
    job_ids = await create_jobs(JobStateManager(source_client, ttl=WEEK), choose, "old")
    await QueueManager(source_client).start_drain(60)

    await copy_database(source_client, spare(9).deployment(copied_to), nothing)

    jobs = JobStateManager(target_client, ttl=WEEK)
    job_ids += await create_jobs(jobs, choose, "new")
    expected = [job for job_id in job_ids if (job := await jobs.get_job(job_id))]
    assert len(expected) == 300
    expected.sort(key=lambda job: job.created_at, reverse=True)
    assert {job.job_id[:3] for job in expected[:150]} == {"new"}
    for filters in (JobFilter(), JobFilter(queue="a"), JobFilter(status=Status.RUNNING), JobFilter(slate_id="s")):
        wanted = [job.job_id for job in expected if matches(job, filters)]
        for limit in (7, 50) if filters != JobFilter() else (1, 7, 50):
            found = [job.job_id async for page in pages_of(jobs, filters, limit) for job in page]
            assert found == wanted
    assert await sound(spare(9), copied_to)


async def test_a_database_without_jobs_can_be_copied(client: StoreClient, redis: Redis, target: Database) -> None:
    await QueueManager(client).start_drain(60)
    assert await copy_database(client, target.deployment(16), nothing) == {}
    assert await target.redis.get("{p0}:partitions") == b"16"


async def test_jobs_that_expire_meanwhile_are_no_fault(client: StoreClient, store: Redis, target: Database) -> None:
    queues = QueueManager(client)
    await queues.end_drain()
    for number in range(30):
        await JobStateManager(client, ttl=timedelta(milliseconds=10 * number + 1)).create_job(f"short{number}", 1)
    await queues.start_drain(60)
    await copy_database(client, target.deployment(4), nothing)
    left = JobStateManager(target.client(4), ttl=WEEK)
    while await left.get_job("short29"):
        await left.sweep()
    await left.sweep()
    assert await sound(target, 4)


async def test_a_job_that_has_expired_by_one_clock_only_is_no_fault(
    client: StoreClient, store: Redis, own: Database, target: Database
) -> None:
    def expire() -> None:
        edit(own, "PEXPIRE", "job:j1", 30_000)()
        edit(target, "DEL", Partitions(16).of("j1").job("j1"))()

    assert sum((await copy_database(client, target.deployment(16), At("checked, comparing", expire))).values()) == 66


async def refuse(words: str, *args: Any) -> None:
    with pytest.raises(CopyRefused, match=words):
        await copy_database(*args)


async def test_without_a_drain_nothing_is_copied(client: StoreClient, store: Redis, target: Database) -> None:
    for drain in (None, "1", "odd"):
        await (store.hdel(PARTITION.meta, "drain") if drain is None else store.hset(PARTITION.meta, "drain", drain))
        await refuse(r"FROM is not drained.*POST /v1/drain", client, target.deployment(16), nothing)
    assert await dump(target.redis) == {}


async def test_while_a_bulk_action_has_not_ended_nothing_is_copied(
    client: StoreClient, store: Redis, target: Database
) -> None:
    actions = BulkActions(client)
    action, _ = await actions.start_action(NewBulkAction(kind=BulkKind.CANCEL, filters=JobFilter(queue="q")))
    await refuse(f"bulk action {action.action_id} of FROM has not ended", client, target.deployment(16), nothing)
    assert await dump(target.redis) == {}
    await actions.abort_action(action.action_id)
    await copy_database(client, target.deployment(16), nothing)


async def test_a_drain_of_some_partitions_is_none(
    client: StoreClient, store: Redis, spare: Callable[[int], Database]
) -> None:
    await copy_database(client, spare(8).deployment(16), nothing)
    many = spare(8).client(16)
    await QueueManager(many).start_drain(60)
    await spare(8).redis.hdel(Partitions(16)[3].meta, "drain")
    await refuse("FROM is not drained", many, spare(9).deployment(1), nothing)


@pytest.mark.parametrize("name", ["job:a", "jobs:version", "jobs:odd", "{p4}:leases"])
async def test_a_database_with_data_is_refused_and_not_changed(
    client: StoreClient, store: Redis, target: Database, name: str
) -> None:
    redis = target.redis
    await redis.mset({name: 2, "other-key": 1})
    before = await dump(redis)
    await refuse(f"TO has data, such as.*{name}", client, target.deployment(16), nothing)
    assert await dump(redis) == before


async def test_it_does_not_copy_into_itself(client: StoreClient, store: Redis, own: Database) -> None:
    before = await dump(store)
    await refuse("TO has data", client, own.deployment(16), nothing)
    assert await dump(store) == before


async def is_refused(database: Database, partitions: int) -> None:
    jobs = JobStateManager(database.client(partitions), ttl=WEEK)
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        *(lambda: jobs.create_job("new", 1), lambda: jobs.get_job("pending"), jobs.get_stats, jobs.sweep),
        *(jobs.ping, jobs.write_version, lambda: QueueManager(jobs._client).start_drain(9)),
    )
    for call in calls:
        with pytest.raises(StoreLoading, match=r"`jobstate copy` fills this database, or was interrupted"):
            await call()


@pytest.mark.parametrize(
    "step", ["copied", "copied, building the indexes of", "indexed, checking", "checked, comparing"]
)
async def test_an_interrupted_copy_is_refused_by_services_and_starts_anew(
    client: StoreClient, store: Redis, target: Database, step: str
) -> None:
    def interrupt() -> None:
        raise KeyError("interrupted")

    with pytest.raises(KeyError):
        await copy_database(client, target.deployment(16), At(step, interrupt))
    redis = target.redis
    left = await dump(redis)
    for count in (1, 4, 16):
        await is_refused(target, count)
    assert await dump(redis) == left
    await redis.set("other-key", 1)

    steps: list[str] = []
    assert sum((await copy_database(client, target.deployment(4), lambda step, _: steps.append(step))).values()) == 67

    assert steps[0] == "interrupted copy deleted, starting anew"
    roots = ("jobs:version", "other-key", *(one.root for one in Partitions(4)))
    assert [name for name in await dump(redis) if not name.startswith(roots)] == []
    assert await sound(target, 4)


async def test_a_change_of_from_during_the_copy_is_found(
    client: StoreClient, store: Redis, own: Database, target: Database
) -> None:
    """Whether it has an event, as most have, or none, as a heartbeat has."""
    changes = {
        "Jobs of FROM have changed": edit(own, "XADD", PARTITION.events, "*", "event", "changed"),
        "Job 'leased' differs": edit(own, "HSET", "job:leased", "lease_expires_at", "2030-01-01T00:00:00.000000Z"),
        "Job 'j1' differs": edit(own, "HINCRBY", "job:j1", "revision", 1),
        "FROM is not drained": edit(own, "HDEL", PARTITION.meta, "drain"),
    }
    for words, change in changes.items():
        await refuse(words, client, target.deployment(16), At("checked, comparing", change))
        await is_refused(target, 16)


async def test_a_change_of_to_during_the_copy_is_found(client: StoreClient, store: Redis, target: Database) -> None:
    home = Partitions(16).of("j1")
    changes = {
        "Job 'j1' differs": edit(target, "HINCRBY", home.job("j1"), "revision", 1),
        "Job 'j2' differs": edit(target, "DEL", Partitions(16).of("j2").job("j2")),
        "Job 'stray' differs": edit(target, "HSET", Partitions(16).of("stray").job("stray"), "status", "pending"),
    }
    for words, change in changes.items():
        await refuse(words, client, target.deployment(16), At("checked, comparing", change))
        await is_refused(target, 16)
    lost = At("indexed, checking", edit(target, "DEL", home.by_expiry))
    await refuse("is not consistent.*by_expiry", client, target.deployment(16), lost)


async def test_of_two_copies_into_one_database_the_later_one_wins(
    client: StoreClient, store: Redis, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier one writes no further records, and does not end the mark of the other."""
    monkeypatch.setattr(source, "STEP", 10)
    take = edit(target, "SET", PARTITION.version, "copy another")
    for step, jobs in (("copied", range(1, 60)), ("checked, comparing", [67])):
        await refuse("Another copy has taken TO", client, target.deployment(16), At(step, take))
        redis = target.redis
        assert await redis.get(PARTITION.version) == b"copy another"
        assert len([name async for name in redis.scan_iter("{p*}:job:*")]) in jobs


async def test_a_record_that_is_none_is_refused_and_an_odd_one_is_copied(
    client: StoreClient, store: Redis, target: Database
) -> None:
    await store.hset("job:half", "result", "1")
    await store.pexpireat("job:half", 2_000_000_000_000)
    await store.set("job:odd", "1")
    await refuse("`job:odd` is not a job", client, target.deployment(16), nothing)
    await store.delete("job:odd")
    await copy_database(client, target.deployment(16), nothing)
    half = Partitions(16).of("half").job("half")
    assert await target.redis.hgetall(half) == {b"result": b"1"}
    assert await target.redis.pexpiretime(half) == 2_000_000_000_000


async def test_a_job_in_another_partition_is_refused(
    client: StoreClient, store: Redis, spare: Callable[[int], Database]
) -> None:
    await copy_database(client, spare(8).deployment(16), nothing)
    many = spare(8).client(16)
    await QueueManager(many).start_drain(60)
    home = Partitions(16).of("j1")
    other = Partitions(16)[(home.number + 1) % 16]
    await spare(8).redis.rename(home.job("j1"), other.job("j1"))
    await refuse("is in another partition than its id. Run `jobstate doctor`", many, spare(9).deployment(1), nothing)


async def test_batches_end_at_a_size(
    client: StoreClient, store: Redis, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 700)
    sizes = [
        [len(one.fields.get(b"input_params", b"")) for one in batch] async for batch in source.read_records(client)
    ]
    assert max(len(batch) for batch in sizes) < 60
    assert all(sum(batch) <= 700 or len(batch) == 1 for batch in sizes)
    assert sum(map(len, sizes)) == 67


async def test_the_command_copies_and_says_what(store: Redis, own: Database, target: Database) -> None:
    done = jobstate("", "copy", own.url, target.url, "--redis-partitions", "16")
    assert done.code == 0, done.err
    lines = done.out.decode().splitlines()
    assert lines[-1] == f"67 jobs copied from {own.url} to {target.url}"
    assert "q\tdelayed\t1" not in lines
    assert "q\tcompleted\t1" in lines
    assert done.err.splitlines()[0] == "from 1 to 16 partitions"
    assert "copied 67 jobs" in done.err
    again = jobstate("", "copy", own.url, target.url, REDIS_PARTITIONS="16")
    assert (again.code, again.out) == (1, b"")
    assert "Error: TO has data" in again.err
    for args, name in (
        (["http://x", target.url], "FROM"),
        ([own.url, target.url, "--redis-partitions", "3"], "--redis-partitions"),
    ):
        wrong = jobstate("", "copy", *args)
        assert (wrong.code, name in wrong.err) == (2, True), wrong.err


def interrupt(args: list[str], end: signal.Signals) -> int:
    """Start a copy, end it when it has copied the first jobs, and return its exit code."""
    with subprocess.Popen(args, env=environment(""), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr
        assert any(line.startswith("copied") for line in iter(running.stderr.readline, ""))
        running.send_signal(end)
        return running.wait(30)


async def test_a_copy_that_was_killed_is_refused_and_copied_again(
    client: StoreClient, store: Redis, own: Database, target: Database
) -> None:
    await QueueManager(client).end_drain()
    for number in range(400):
        await JobStateManager(client, ttl=WEEK).create_job(f"more{number}", "x" * 30_000)
    await QueueManager(client).start_drain(600)
    args = [sys.executable, "-m", "service", "copy", own.url, target.url, "--redis-partitions", "16"]
    redis = target.redis
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        before = await redis.get("jobs:version")
        assert interrupt(args, end) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[end]
        assert (await redis.get("jobs:version")) not in {before, b"2"}
        await is_refused(target, 16)
    done = jobstate("", "copy", own.url, target.url, "--redis-partitions", "16")
    assert done.code == 0, done.err
    assert "467 jobs copied" in done.out.decode()
    assert await sound(target, 16)
