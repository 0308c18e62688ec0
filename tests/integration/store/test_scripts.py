"""Lua and Python agree on key names, members of indexes, times and tags, and Redis loads every script."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.partition import PARTITION, Partition
from service.store.partitions import Partitions
from service.store.scripts import ALL, PROBE
from tests.unit.store.test_scripts import HEADER, LIBRARIES, scripts

#: What all scripts may be linked with.
SHARED = "\n\n".join((HEADER, *(LIBRARIES[name] for name in scripts._LIBRARIES)))
#: µs of the moments around which a calendar goes wrong: ends of months and years, leap days, centuries, and the epoch.
EDGES = [
    parse_timestamp(f"{day}T{time}Z")
    for day in (
        *(
            "1970-01-01",
            "1970-12-31",
            "1971-01-01",
            "1972-02-28",
            "1972-02-29",
            "1972-03-01",
            "1999-12-31",
            "2000-01-01",
        ),
        *(
            "2000-02-28",
            "2000-02-29",
            "2000-03-01",
            "2001-02-28",
            "2001-03-01",
            "2024-02-29",
            "2024-12-31",
            "2025-01-01",
        ),
        *(
            "2026-11-30",
            "2026-12-01",
            "2038-01-19",
            "2099-12-31",
            "2100-02-28",
            "2100-03-01",
            "2200-02-28",
            "2255-06-04",
        ),
    )
    for time in ("00:00:00.000000", "00:00:00.000001", "09:08:07.060504", "23:59:59.999999")
]


async def evaluate(redis: Redis, body: str, *args: str | int | bytes, root: str = PARTITION.root) -> list[bytes | None]:
    reply: list[bytes | None] = await redis.eval(f"{SHARED}\n{body}", 1, root, *args, 2**53)
    return reply


@pytest.mark.parametrize("partition", [PARTITION, *Partitions(2)], ids=lambda one: one.root)
async def test_lua_and_python_build_the_same_key_names(redis: Redis, partition: Partition) -> None:
    names = await evaluate(
        redis,
        """return { job_key('a.b~c'), key('by_created', 'q', 'pending'), key('by_expiry'), key('tags'), key('delays'),
                    key('leases'), key('queue_names'), key('queues'), key('meta'), key('version'), key('deletions'),
                    key('fsync'), key('events'), key('partitions'), key('claim', 'c'), key('aim', 'c'),
                    key('gate', 'q'), key('rate_limit', 'c') }""",
        root=partition.root,
    )

    assert names == [
        name.encode()
        for name in (
            *(partition.job("a.b~c"), partition.by_created("q", "pending"), partition.by_expiry, partition.tags),
            *(partition.delays, partition.leases, partition.queue_names, partition.queues, partition.meta),
            *(partition.version, partition.deletions, partition.fsync, partition.events, partition.partitions),
            *(partition.claim("c"), partition.aim("c"), partition.gate("q"), partition.rate_limit("c")),
        )
    ]


async def format_and_parse(redis: Redis, moments: Sequence[int]) -> None:
    body = """local out = {}
              for i, text in ipairs(ARGV) do
                local time = format_time(tonumber(text))
                out[i] = time .. ' ' .. format('%d', parse_time(time))
              end
              return out"""
    for start in range(0, len(moments), 500):
        some = moments[start : start + 500]
        assert await evaluate(redis, body, *some) == [f"{format_timestamp(one)} {one}".encode() for one in some]


async def test_lua_and_python_format_and_parse_timestamps_alike(redis: Redis) -> None:
    choose = random.Random(7)
    await format_and_parse(redis, EDGES)
    await format_and_parse(redis, [choose.randrange(EDGES[-1]) for _ in range(5000)])


async def test_lua_and_python_format_and_parse_every_day_of_two_centuries_alike(redis: Redis) -> None:
    first = datetime(1970, 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=number, microseconds=number) for number in range(2 * 36525)]
    await format_and_parse(redis, [parse_timestamp(day.isoformat(timespec="microseconds")) for day in days])


TIME = "2026-11-28T21:46:09.123456Z"


async def test_a_text_that_is_no_time_of_ours_is_no_time_in_lua(redis: Redis) -> None:
    separators = [place for place, character in enumerate(TIME) if not character.isdigit()]
    others = [TIME[:place] + other + TIME[place + 1 :] for place in separators for other in "x /,_t\n\0z0"]
    others += ["", "Z", TIME[:-1], f"{TIME}Z", f" {TIME}", TIME.replace(".123456", ""), TIME.replace("Z", "+00:00")]
    others += [TIME.lower(), TIME.replace("T", " "), "x" * 27, "0" * 27, "é" * 13 + "Z", "2026-11-28T21:46:09.12345éZ"]
    body = """local out = {}
              for i, text in ipairs(ARGV) do out[i] = parse_time(text) == nil and 'nil' or text end
              return { parse_time(false) == nil and parse_time(nil) == nil and 'nil' or 'false', unpack(out) }"""

    assert await evaluate(redis, body, TIME) == [b"nil", TIME.encode()]
    assert set(await evaluate(redis, body, *others)) == {b"nil"}


async def test_a_member_of_the_expiry_index_says_what_it_was_made_of(redis: Redis) -> None:
    body = """local member = expiry_member({ id = ARGV[1], created = ARGV[2], queue = ARGV[3], tags = ARGV[4] })
              local job = parse_expiry_member(member)
              return { member, job.id, job.created, job.queue, job.tags }"""
    for parts in (("a.b~c:d", "1764366369000000", "q-1_x.y", "s0123456789ab,c0123456789ab"), ("a", "1", "q", "")):
        assert await evaluate(redis, body, *parts) == [part.encode() for part in ("|".join(parts), *parts)]


@pytest.mark.parametrize("member", ["garbage", "", "a|1|q", "a|x|q|", "a|1||", "|1|q|", "a|1|q|t|u", "a|1|q|t|1|q|"])
async def test_a_member_of_another_form_is_no_member_of_the_expiry_index(redis: Redis, member: str) -> None:
    assert await evaluate(redis, "return { parse_expiry_member(ARGV[1]) == nil and 'nil' or 'job' }", member) == [
        b"nil"
    ]


async def test_redis_loads_every_script(redis: Redis) -> None:
    for source in (*ALL, PROBE):
        assert await redis.script_load(source.text) == source.sha
