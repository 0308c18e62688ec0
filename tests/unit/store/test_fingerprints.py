import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw
from redis.asyncio import ConnectionPool

from service.domain.errors import InvalidValue
from service.domain.jobs import Progress
from service.domain.rate_limits import RateLimit
from service.store.client import StoreClient
from service.store.fingerprints import change_id_for, digest, new_change_id, new_request_id
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.rate_limiter import RateLimiter

#: A request, sent to managers that are not connected.
Request = Callable[[JobStateManager, LeaseManager], Awaitable[Any]]

DAY = timedelta(days=1)
EVERY_FIELD: dict[str, Any] = {
    "queue": "lineups",
    "slate_id": "pinewood é",
    "scenario_count": 0,
    "correlation_id": "c1",
    "max_attempts": 3,
    "retry_delay_seconds": 60,
    "delay_seconds": 9,
}
#: These digests are data: records in Redis have them. A request may be repeated after an upgrade, or during one on
#: another replica, so they must not change. Add cases, but change one only together with the version of digests.
GOLDEN: dict[str, tuple[str, Request]] = {
    "a minimal creation": ("1OG2JDxD2tevDrrdnMC7lB", lambda jobs, _: jobs.create_job("j", {})),
    "a full creation": (
        "1G2XP1xqk0VnsyxjClqy6V",
        lambda jobs, _: jobs.create_job("j", Raw(b'{"b": 1e999}'), **EVERY_FIELD),
    ),
    "a start": ("1Blw3WYSW6jVJwOACx0yMx", lambda jobs, _: jobs.update_job_status("j", "running")),
    "progress": (
        "1uObxqRg9KS7LgBYOjL9Jx",
        lambda jobs, _: jobs.update_job_status("j", "running", progress=Progress(3, 7, "lap")),
    ),
    "a result": (
        "1OyaipxOrAtwJ_40Lf5Ovi",
        lambda jobs, _: jobs.update_job_status("j", "completed", Raw(b"null"), scenario_count=4),
    ),
    "an error": ("1XM25y_ejXe5FRiS9O_JDp", lambda jobs, _: jobs.update_job_status("j", "failed", error={"code": 7})),
    "a cancellation": ("1BIoFG_awD83xAhL5WXXVe", lambda jobs, _: jobs.cancel_job("j")),
    "an update to cancelled": ("1hpoqblKmXLzgmg82-hBJt", lambda jobs, _: jobs.update_job_status("j", "cancelled")),
    "a claim": ("1eMMQ2tPxUWxqHpVLB8kIC", lambda _, leases: leases.claim_job(["b", "a"], "w")),
    "a long claim": ("1BrhJCaRLOxirEQqOWOvbS", lambda _, leases: leases.claim_job(["a"], "w", lease_seconds=60)),
    "a claim of several jobs": (
        "1iXX8HzQuPXCkBOIlvfCt0",
        lambda _, leases: leases.claim_jobs(["b", "a"], "w", max_jobs=8),
    ),
    "a release": ("12rfVTnRNWlbk1c2EphG1u", lambda _, leases: leases.release_job("j", "1-s")),
    "a failed attempt": (
        "18KnGs1LU46k8XxOEyOqot",
        lambda _, leases: leases.release_job("j", "1-s", error="no fuel", delay_seconds=0),
    ),
}
FIELDS: list[dict[str, Any]] = [
    {},
    {"a": ""},
    {"a": "null"},
    {"a": 0},
    {"a": False},
    {"a": "0"},
    {"a": "a", "b": "b"},
    {"a": "b", "b": "a"},
    {"a": "ab"},
    {"ab": "a"},
    {"b": "ab"},
    {"a": "ab", "b": ""},
    {"a": "", "b": "ab"},
    {"a": b"{}"},
    {"a": b"{ }"},
    {"a": b"1.0"},
    {"a": b"1"},
    {"a": {}},
    {"a": {"b": 1}},
    {"a": {"b": 1, "c": 2}},
    {"a": {"b": 2, "c": 1}},
]


class Sent(Exception):
    """Raised in place of sending a script; has its arguments."""


@pytest.fixture
def digest_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Request], Awaitable[str]]:
    """Returns the digest that a request sends to Redis."""

    async def run_script(self: StoreClient, script: Any, partition: Any, args: list[Any], keys: Any = ()) -> None:
        raise Sent(args)

    monkeypatch.setattr(StoreClient, "run_script", run_script)
    client = StoreClient(ConnectionPool())
    managers = JobStateManager(client, ttl=DAY), LeaseManager(client, ttl=DAY)

    async def digest_of(request: Request) -> str:
        with pytest.raises(Sent) as sent:
            await request(*managers)
        [found] = [arg for arg in sent.value.args[0] if isinstance(arg, str) and re.fullmatch(r"1[\w-]{21}", arg)]
        return str(found)

    return digest_of


@pytest.mark.parametrize(("expected", "request_"), GOLDEN.values(), ids=GOLDEN)
async def test_a_digest_does_not_change_from_release_to_release(
    expected: str, request_: Request, digest_of: Callable[[Request], Awaitable[str]]
) -> None:
    assert await digest_of(request_) == expected


async def test_the_digest_of_a_rate_limited_client_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    async def run_script(self: StoreClient, script: Any, partition: Any, args: list[Any], keys: Any = ()) -> list[Any]:
        sent.extend(args)
        return ["ALLOWED", b"9", b"1"]

    monkeypatch.setattr(StoreClient, "run_script", run_script)
    await RateLimiter(StoreClient(ConnectionPool()), RateLimit(10, 60)).acquire("127.0.0.1")

    assert sent[0] == "1JOxoDYcfzyT9wNuwU8Our"


def test_different_requests_have_different_digests() -> None:
    assert len({expected for expected, _ in GOLDEN.values()}) == len(GOLDEN)


EQUAL: dict[str, tuple[Request, Request]] = {
    "explicit defaults": (
        lambda jobs, _: jobs.create_job("j", {}),
        lambda jobs, _: jobs.create_job(
            "j", {}, None, queue="default", slate_id=None, max_attempts=1, retry_delay_seconds=0, delay_seconds=0
        ),
    ),
    "another trace": (
        lambda jobs, _: jobs.create_job("j", {}),
        lambda jobs, _: jobs.create_job("j", {}, request_correlation_id="c", traceparent=f"00-{1:032x}-{1:016x}-00"),
    ),
    "the queues in another order": (
        lambda _, leases: leases.claim_job(["a", "b"], "w"),
        lambda _, leases: leases.claim_job(["b", "a", "b"], "w", lease_seconds=30),
    ),
    "another lease token": (
        lambda _, leases: leases.release_job("j", "1-a"),
        lambda _, leases: leases.release_job("j", "2-b"),
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
async def test_equal_requests_have_equal_digests(
    one: Request, other: Request, digest_of: Callable[[Request], Awaitable[str]]
) -> None:
    assert await digest_of(one) == await digest_of(other)


def create_with(options: dict[str, Any]) -> Request:
    return lambda jobs, _: jobs.create_job("j", {}, **options)


UNEQUAL: dict[str, tuple[Request, Request]] = {
    **{name: (create_with({}), create_with({name: value})) for name, value in EVERY_FIELD.items()},
    "input with other bytes": (
        lambda jobs, _: jobs.create_job("j", Raw(b"1")),
        lambda jobs, _: jobs.create_job("j", Raw(b"1.0")),
    ),
    "a release with a delay of 0": (
        lambda _, leases: leases.release_job("j", "1-s"),
        lambda _, leases: leases.release_job("j", "1-s", delay_seconds=0),
    ),
    "a batch of one": (
        lambda _, leases: leases.claim_job(["a"], "w"),
        lambda _, leases: leases.claim_jobs(["a"], "w", max_jobs=1),
    ),
    "another worker": (
        lambda _, leases: leases.claim_job(["a"], "w"),
        lambda _, leases: leases.claim_job(["a"], "v"),
    ),
}


@pytest.mark.parametrize(("one", "other"), UNEQUAL.values(), ids=UNEQUAL)
async def test_a_request_that_differs_in_one_field_has_another_digest(
    one: Request, other: Request, digest_of: Callable[[Request], Awaitable[str]]
) -> None:
    assert await digest_of(one) != await digest_of(other)


@pytest.mark.parametrize("fields", FIELDS)
def test_an_absent_or_default_field_does_not_change_a_digest(fields: dict[str, Any]) -> None:
    today = digest("create", fields)
    assert digest("create", {**fields, "added": None}) == today
    assert digest("create", {"added": 7, **fields}, {"added": 7}) == today
    assert digest("create", {**fields, "added": 8}, {"added": 7}) != today


def test_the_order_of_fields_does_not_change_a_digest() -> None:
    one = {"a": 1, "b": {"c": 2, "d": {"e": 3, "f": 4}}}
    other = {"b": {"d": {"f": 4, "e": 3}, "c": 2}, "a": 1}
    assert digest("create", one) == digest("create", other)


def test_a_digest_differs_where_the_content_differs() -> None:
    digests = {digest(operation, fields) for operation in ("create", "change") for fields in FIELDS}
    assert len(digests) == 2 * len(FIELDS)


@pytest.mark.parametrize("fields", [{}, {"a": "a" * 100_000}])
def test_a_digest_has_22_characters_and_begins_with_its_version(fields: dict[str, str]) -> None:
    assert re.fullmatch(r"1[A-Za-z0-9_-]{21}", digest("create", fields))


def test_a_change_id_is_fresh_where_no_key_is_given() -> None:
    ids = {new_change_id() for _ in range(500)} | {change_id_for(None) for _ in range(500)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", change_id) for change_id in ids)


def test_the_id_of_a_creation_is_fresh_and_half_as_long_as_a_change_id() -> None:
    ids = {new_request_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{8}", request_id) for request_id in ids)


def test_a_key_stands_for_one_change_id() -> None:
    ids = {key: change_id_for(key) for key in ("k", "K", "!", "~", "k" * 255)}
    assert len(set(ids.values())) == len(ids)
    assert all(change_id_for(key) == change_id for key, change_id in ids.items())
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", change_id) for change_id in ids.values())


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "ä", "k" * 256])
def test_a_key_that_is_not_allowed_is_refused(key: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`Idempotency-Key`: "):
        change_id_for(key)
