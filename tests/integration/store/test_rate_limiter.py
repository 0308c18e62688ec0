"""Rate limits: every reply of `limit.lua`."""

import asyncio

import pytest
from redis.asyncio import Redis

from service.domain.errors import RateLimited
from service.domain.rate_limits import Quota, RateLimit
from service.store.client import StoreClient
from service.store.rate_limiter import RateLimiter
from tests.helpers.partitions import PARTITIONS, key_names


async def acquire(limiter: RateLimiter, client: str, times: int) -> list[Quota]:
    return [await limiter.acquire(client) for _ in range(times)]


async def test_requests_beyond_the_limit_are_rejected(store_client: StoreClient, redis: Redis) -> None:
    limit = RateLimit(3, 3600)
    limiter = RateLimiter(store_client, limit)

    quotas = await acquire(limiter, "a", 3)
    with pytest.raises(RateLimited) as rejected:
        await limiter.acquire("a")

    assert [quota.remaining for quota in quotas] == [2, 1, 0]
    assert [quota.reset_seconds for quota in quotas] == [1200, 2400, 3600]
    assert rejected.value.quota == Quota(limit, 0, 3600)
    assert 1190 <= rejected.value.retry_after <= 1200


async def test_a_rejected_request_is_not_counted_and_each_client_has_its_own_limit(
    store_client: StoreClient, redis: Redis
) -> None:
    limiter = RateLimiter(store_client, RateLimit(1, 3600))
    await limiter.acquire("a")
    times = []
    for _ in range(3):
        with pytest.raises(RateLimited) as rejected:
            await limiter.acquire("a")
        times.append(rejected.value.retry_after)
    assert max(times) <= 3600
    assert (await limiter.acquire("b")).remaining == 0


async def test_requests_become_available_again_evenly(store_client: StoreClient, redis: Redis) -> None:
    limiter = RateLimiter(store_client, RateLimit(10, 1))
    await acquire(limiter, "a", 10)

    async def one_more() -> Quota:
        async with asyncio.timeout(10):
            while True:
                try:
                    return await limiter.acquire("a")
                except RateLimited:
                    await asyncio.sleep(0.01)

    assert (await one_more()).remaining in range(10)


async def test_rate_limit_keys_expire_and_contain_no_client_text(store_client: StoreClient, redis: Redis) -> None:
    await RateLimiter(store_client, RateLimit(100, 86_400)).acquire("x:y z\n")

    [name] = await key_names(redis)
    assert any(name.startswith(partition.rate_limit("")) for partition in PARTITIONS)
    assert "x:y" not in name
    assert 0 < await redis.pttl(name) <= 864_000


async def test_concurrent_requests_get_exactly_the_limit(store_client: StoreClient, redis: Redis) -> None:
    limiter = RateLimiter(store_client, RateLimit(50, 86400))
    await asyncio.gather(*(redis.ping() for _ in range(20)))

    answers = await asyncio.gather(*(limiter.acquire("a") for _ in range(200)), return_exceptions=True)

    admitted = [answer.remaining for answer in answers if isinstance(answer, Quota)]
    assert sorted(admitted) == list(range(50))
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 150


async def test_a_changed_limit_starts_a_new_count(store_client: StoreClient, redis: Redis) -> None:
    await RateLimiter(store_client, RateLimit(1, 86400)).acquire("a")
    assert (await RateLimiter(store_client, RateLimit(5, 60)).acquire("a")).remaining == 4


async def test_requests_are_counted_when_redis_is_out_of_memory(store_client: StoreClient, redis: Redis) -> None:
    await redis.config_set("maxmemory", "1")
    try:
        assert (await RateLimiter(store_client, RateLimit(5, 60)).acquire("a")).remaining == 4
    finally:
        await redis.config_set("maxmemory", "0")
