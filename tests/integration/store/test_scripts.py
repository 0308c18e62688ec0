"""Lua and Python agree on key names, timestamps and tags."""

import random
from datetime import UTC, datetime

from redis.asyncio import Redis

from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.partition import PARTITION
from service.store.scripts import ALL, CREATE

PRELUDE = CREATE.text.split("-- Creates a job")[0]


async def evaluate(redis: Redis, body: str, *args: str | int) -> list[str]:
    reply = await redis.eval(f"{PRELUDE}\n{body}", 1, PARTITION.root, 2**53, *args)
    return [value.decode() for value in reply]


async def test_lua_and_python_build_the_same_key_names(redis: Redis) -> None:
    names = await evaluate(
        redis,
        """return { job_key('a.b~c'), key('list', 'q', 'pending'), key('exp', 'q', 'delayed'), key('shelves'),
                    key('tags'), key('due'), key('leases'), key('deletions'), key('clock'), key('events'),
                    key('limit', 'c') }""",
    )

    assert names == [
        PARTITION.job("a.b~c"),
        PARTITION.by_created("q", "pending"),
        keys.by_expiry("q", "delayed"),
        keys.INDEXES,
        PARTITION.tags,
        PARTITION.delays,
        PARTITION.leases,
        PARTITION.deletions,
        PARTITION.meta,
        PARTITION.events,
        PARTITION.rate_limit("c"),
    ]


async def test_lua_and_python_format_and_parse_timestamps_alike(redis: Redis) -> None:
    choose = random.Random(7)
    edges = ["1970-01-01T00:00:00", "2000-02-29T23:59:59.999999", "2024-12-31T23:59:59.000001", "2100-03-01T00:00:00"]
    moments = [parse_timestamp(datetime.fromisoformat(edge).replace(tzinfo=UTC).isoformat()) for edge in edges]
    moments += [choose.randrange(parse_timestamp("2200-01-01T00:00:00Z")) for _ in range(2000)]

    for start in range(0, len(moments), 500):
        some = moments[start : start + 500]
        body = """local out = {}
                  for i, text in ipairs(ARGV) do
                    local timestamp = tonumber(text)
                    out[i] = iso(timestamp) .. ' ' .. digits(micros(iso(timestamp)))
                  end
                  return out"""
        assert await evaluate(redis, body, *some) == [
            f"{format_timestamp(timestamp)} {timestamp}" for timestamp in some
        ]


async def test_redis_loads_every_script(redis: Redis) -> None:
    for source in ALL:
        assert await redis.script_load(source.text)
