import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from redis.asyncio import Redis

from service.domain.errors import InvalidValue, JobExists, StoreCorrupt
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store.jobs import JobStateManager
from tests.helpers.partitions import PARTITIONS, job_key, key_names

#: That of the job of these tests.
PARTITION = PARTITIONS.of("j")

VALUES = [
    b"{}",
    b"0",
    b"[]",
    b"false",
    b'""',
    b"null",
    b'{"b": 1, "a": 1.0, "b":2}',
    b"12345678901234567890.10",
    b"1e999",
    b'"\xc3\xa9\\u00e9"',
]


async def test_a_new_job_is_a_readable_hash_that_expires(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j1", {"drivers": 36}, "corr-1", slate_id="daytona", scenario_count=0)

    fields = await redis.hgetall(job_key("j1"))
    public = {name.decode(): value.decode() for name, value in fields.items() if not name.startswith(b"_")}
    created = public.pop("created_at")
    assert parse_timestamp(created) > 0
    assert created.endswith("Z")
    assert public == {
        "status": "pending",
        "queue": "default",
        "input_params": '{"drivers":36}',
        "correlation_id": "corr-1",
        "slate_id": "daytona",
        "scenario_count": "0",
        "revision": "1",
        "updated_at": created,
        "expires_at": public["expires_at"],
    }
    assert await redis.pexpiretime(job_key("j1")) == parse_timestamp(public["expires_at"]) // 1000
    assert (await redis.ttl(job_key("j1"))) in range(7 * 86400 - 5, 7 * 86400 + 1)


@pytest.mark.parametrize("value", VALUES)
async def test_json_passes_through_unchanged(jobs: JobStateManager, value: bytes) -> None:
    await jobs.create_job("j", Raw(value))

    job = await jobs.get_job("j")

    assert job
    assert job.input_params is not None
    assert bytes(job.input_params) == value


async def test_create_returns_the_job_as_get_does(jobs: JobStateManager) -> None:
    created = await jobs.create_job("j", [1], "c", slate_id="s", max_attempts=3, retry_delay_seconds=5, delay_seconds=9)

    assert not created.replayed
    assert _shown(created.job) == _shown(await jobs.get_job("j"))


async def test_getting_an_unknown_job_returns_none(jobs: JobStateManager) -> None:
    assert await jobs.get_job("nobody") is None


async def test_a_replay_returns_the_current_record(jobs: JobStateManager) -> None:
    await jobs.create_job("j", {"a": 1}, request_correlation_id="first", scenario_count=3)
    await jobs.update_job_status("j", "running", scenario_count=4)

    again = await jobs.create_job("j", {"a": 1}, request_correlation_id="second", scenario_count=3)

    assert again.replayed
    assert (again.job.status, again.job.revision, again.job.scenario_count) == (Status.RUNNING, 2, 4)
    assert again.job.correlation_id == "first"


async def test_a_replay_shows_nothing_of_the_second_request(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    again = await jobs.create_job("j", 1, request_correlation_id="second", traceparent=trace)

    assert again.replayed
    assert (again.job.correlation_id, again.job.traceparent) == (None, None)


@pytest.mark.parametrize(
    "other",
    [
        {"input_params": {"a": 1.0}},
        {"queue": "other"},
        {"slate_id": "s"},
        {"scenario_count": 1},
        {"correlation_id": "given"},
        {"max_attempts": 2},
        {"retry_delay_seconds": 1},
        {"delay_seconds": 1},
    ],
)
async def test_different_content_for_the_same_id_is_rejected(jobs: JobStateManager, other: dict[str, Any]) -> None:
    await jobs.create_job("j", {"a": 1})

    with pytest.raises(JobExists) as error:
        await jobs.create_job("j", **{"input_params": {"a": 1}, **other})

    assert (error.value.current_status, error.value.revision) == (Status.PENDING, 1)


async def test_explicit_defaults_make_an_equal_request(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)

    assert (await jobs.create_job("j", 1, queue="default", max_attempts=1, delay_seconds=0)).replayed


async def test_deleting_frees_the_id(jobs: JobStateManager) -> None:
    first = await jobs.create_job("j", 1)
    await jobs.cancel_job("j")
    await jobs.delete_job("j")

    second = await jobs.create_job("j", 2)

    assert not second.replayed
    assert second.job.created_at > first.job.created_at


async def test_creation_times_are_unique_and_ordered(jobs: JobStateManager) -> None:
    await asyncio.gather(*(jobs.create_job(f"j{n}", n) for n in range(200)))

    page = await jobs.list_jobs(JobFilter(), limit=200)

    moments = [job.created_at for job in page.items]
    assert len(set(moments)) == 200
    assert moments == sorted(moments, reverse=True)


async def test_a_delayed_job_is_pending_and_available_later(jobs: JobStateManager, redis: Redis) -> None:
    job = (await jobs.create_job("j", 1, delay_seconds=60)).job

    assert job.status is Status.PENDING
    assert job.available_at
    # The delay runs from now, and the creation time may be some µs later: it is that of this partition.
    delay = parse_timestamp(job.available_at) - parse_timestamp(job.created_at)
    assert 60_000_000 - len(PARTITIONS) < delay <= 60_000_000
    assert await redis.zscore(PARTITION.delays, "default:j") == parse_timestamp(job.available_at)
    assert (await jobs.get_stats()).delayed == 1
    assert [one.job_id for one in (await jobs.list_jobs(JobFilter(status=Status.PENDING))).items] == ["j"]


async def test_a_creation_appends_one_event(jobs: JobStateManager, redis: Redis) -> None:
    job = (await jobs.create_job("j", 1, slate_id="s")).job

    [(_, event)] = await redis.xrange(PARTITION.events)
    assert event == {
        b"event": b"changed",
        b"job_id": b"j",
        b"status": b"pending",
        b"revision": b"1",
        b"queue": b"default",
        b"created": str(parse_timestamp(job.created_at)).encode(),
        b"slate_id": b"s",
    }


@pytest.mark.corrupts_keys
@pytest.mark.parametrize(
    "name",
    [
        job_key("j"),
        PARTITION.by_created("default", "pending"),
        PARTITION.by_expiry,
        PARTITION.queue_names,
        PARTITION.tags,
        PARTITION.delays,
        PARTITION.meta,
        PARTITION.events,
    ],
)
async def test_a_key_of_unexpected_type_is_named_and_nothing_is_written(
    jobs: JobStateManager, redis: Redis, name: str
) -> None:
    await redis.set(name, "foreign")

    with pytest.raises(StoreCorrupt) as error:
        await jobs.create_job("j", 1, slate_id="s", delay_seconds=60 if name == PARTITION.delays else 0)

    assert "WRONGTYPE" in str(error.value)
    assert name == job_key("j") or name in str(error.value)
    assert await key_names(redis) == {name}


async def test_a_foreign_hash_at_the_key_of_a_job_is_not_changed(jobs: JobStateManager, redis: Redis) -> None:
    await redis.hset(job_key("j"), "result", '"foreign"')

    with pytest.raises(StoreCorrupt, match="job:j"):
        await jobs.create_job("j", 1)

    assert await redis.hgetall(job_key("j")) == {b"result": b'"foreign"'}
    await redis.delete(job_key("j"))


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("job_id", {"job_id": "a/b"}),
        ("job_id", {"job_id": "a\n"}),
        ("queue", {"queue": "a:b"}),
        ("slate_id", {"slate_id": "a\x00"}),
        ("correlation_id", {"correlation_id": "é" * 65}),
        ("scenario_count", {"scenario_count": -1}),
        ("max_attempts", {"max_attempts": 0}),
        ("retry_delay_seconds", {"retry_delay_seconds": 3601}),
        ("delay_seconds", {"delay_seconds": -1}),
        ("input_params", {"input_params": float("nan")}),
        ("input_params", {"input_params": None}),
    ],
)
async def test_an_invalid_value_is_named_and_nothing_is_written(
    jobs: JobStateManager, redis: Redis, field: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValue) as error:
        await jobs.create_job(**{"job_id": "j", "input_params": 1, **arguments})

    assert error.value.field == field
    assert await key_names(redis) == set()


def _shown(job: Any) -> bytes:
    return msgspec.json.encode(job)
