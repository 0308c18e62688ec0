"""A run: out of a seed, which faults come in which order; each round has one or several under load, then the check."""

import asyncio
import contextlib
import random
import re
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from redis.asyncio import Redis

from service.store import keys
from tests.chaos.checker import check
from tests.chaos.context import story
from tests.chaos.environment import NARROW, ONE, Setting, Stage, stage
from tests.chaos.final_state import take_stock
from tests.chaos.history import History, Kind, Outcome, Window
from tests.chaos.http import TLS, connected
from tests.chaos.listener import Listener
from tests.chaos.nemesis import FAULTS, Fault
from tests.chaos.workload import Client

#: What the clients of a round call their jobs.
JOB_ID: Final = re.compile(r"\br\d+c\d+-j\d+\b")
#: Descriptors beyond the pool, and bytes of memory, that a process may have when all is quiet.
SPARE_DESCRIPTORS: Final = 64
MOST_MEMORY: Final = 400 << 20


@dataclass
class Scale:
    """How much goes on in a round: clients, and for how many seconds before, in and after each fault."""

    clients: int = 64
    before: float = 0.5
    hold: float = 1.0
    after: float = 0.5


@dataclass
class Round:
    """What is known after a round."""

    number: int
    faults: tuple[str, ...]
    violations: list[str] = field(default_factory=list)
    #: All that is known of the jobs that the first of them are about.
    stories: list[str] = field(default_factory=list)
    requests: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    lost: int = 0
    #: Seconds until the service took changes again after each fault.
    recoveries: list[float] = field(default_factory=list)
    #: Seconds that refusals took while Redis was away, and `/health` while nothing hit the service itself.
    unavailable: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    memory: int = 0
    descriptors: int = 0
    took: float = 0.0


class Block(NamedTuple):
    """Rounds that are played on one stage, and the faults of each."""

    setting: Setting
    rounds: list[tuple[Fault, ...]]


def lap(choose: random.Random, kinds: Sequence[Fault], faults_a_round: int = 1) -> list[Block]:
    """Return rounds in which every fault comes once, in random order, a quarter of them on several processes."""
    faults = choose.sample(kinds, len(kinds))
    several = [fault for fault in faults if fault.workers or choose.random() < 0.25]
    single = [fault for fault in faults if fault not in several]
    return [
        Block(setting, [tuple(played[at : at + faults_a_round]) for at in range(0, len(played), faults_a_round)])
        for setting, played in ((ONE, single), (NARROW, several))
        if played
    ]


def schedule(seed: int, rounds: int, kinds: Sequence[Fault] = FAULTS) -> list[Block]:
    """Return what is played for a seed: lap after lap, until there are so many rounds."""
    choose, blocks = random.Random(seed), list[Block]()
    while (left := rounds - sum(len(block.rounds) for block in blocks)) > 0:
        for block in lap(choose, kinds):
            blocks.append(Block(block.setting, block.rounds[:left]))
            left -= len(blocks[-1].rounds)
    return [block for block in blocks if block.rounds]


async def play(
    seed: int,
    blocks: Sequence[Block],
    scale: Scale,
    folder: Path,
    source: Path | None = None,
    tell: Callable[[str], None] = print,
) -> AsyncGenerator[Round]:
    """Play all rounds, each with random choices that the seed and its number determine."""
    number = 0
    for at, block in enumerate(blocks):
        async with stage(folder / f"stage-{at}", block.setting, source) as where:
            if at == 0:
                tell(f"the disk of Redis: {where.disk}")
            for faults in block.rounds:
                number += 1
                yield await play_round(where, number, faults, random.Random(f"{seed}/{number}"), scale)


async def play_round(
    where: Stage, number: int, faults: tuple[Fault, ...], choose: random.Random, scale: Scale
) -> Round:
    """Let clients loose, let the faults come, let all come to rest, and check."""
    started = time.monotonic()
    history = where.history = History()
    where.choose = choose
    found = Round(number, tuple(fault.name for fault in faults))
    async with where.client() as redis:
        origin = await _clear(redis)
        listener = Listener(where.service.url, history.heard)
        listening = asyncio.create_task(listener.run())
        still = threading.Event()
        pulse = asyncio.create_task(asyncio.to_thread(_feel, where.service.url, found.health, history, still))
        try:
            await listener.until_live()
            async with _load(where, number, scale):
                await asyncio.sleep(choose.uniform(0.2, 1) * scale.before)
                for fault in faults:
                    await _suffer(where, fault, found, scale)
                    await asyncio.sleep(scale.after)
            await where.until_ready()
            async with connected(where.service.url, timeout=10) as http:
                await take_stock(history, redis, http, origin)
            if history.events and not await listener.until_at(history.events[-1].place):
                history.complaints.append("the stream does not get to the last event")
        finally:
            listening.cancel()
            still.set()
            await asyncio.gather(listening, pulse, return_exceptions=True)
    _measure(where, found)
    found.violations = check(history)
    for job_id in dict.fromkeys(JOB_ID.findall(" ".join(found.violations[:3]))):
        found.stories += story(history, job_id)
    _count(history, found)
    found.took = time.monotonic() - started
    return found


async def _clear(redis: Redis) -> str:
    """Delete all jobs; the events stay, as they do when jobs expire. Return the place after which the round begins."""
    if names := [name async for name in redis.scan_iter(count=1000) if name not in _KEPT]:
        await redis.unlink(*names)
    last = await redis.xrevrange(keys.EVENTS, count=1)
    return last[0][0].decode() if last else "0-0"


_KEPT: Final = {keys.EVENTS.encode(), keys.CLOCK.encode()}


@contextlib.asynccontextmanager
async def _load(where: Stage, number: int, scale: Scale) -> AsyncIterator[None]:
    """Have clients at work for the length of the block, and let each finish what it is about."""
    stop, board = asyncio.Event(), deque[str](maxlen=300)
    clients = [
        Client(f"r{number}c{at}", at, board, where.history.calls, random.Random(where.choose.random()))
        for at in range(scale.clients)
    ]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(where.service.url, stop))
        try:
            yield
        finally:
            stop.set()


async def _suffer(where: Stage, fault: Fault, found: Round, scale: Scale) -> None:
    """Let a fault come and go, and wait until the service has recovered."""
    await where.sync(fault.fsync or where.choose.choice(["always", "everysec"]))
    where.hold = scale.hold * where.choose.uniform(0.7, 1.3)
    since = time.time()
    window = Window(fault.name, since, float("inf"))
    where.history.faults.append(window)
    await fault.play(where)
    took = await where.until_ready()
    found.recoveries.append(took)
    where.history.faults[where.history.faults.index(window)] = Window(fault.name, since, time.time())


def _feel(url: str, took: list[float], history: History, stop: threading.Event) -> None:
    """Ask ten times a second whether the process lives: from a thread, whose answers do not wait for all the others."""
    hit = {fault.name for fault in FAULTS if fault.hits_service}
    with httpx.Client(base_url=url, timeout=5, verify=TLS) as http:
        while not stop.wait(0.1):
            started, wall = time.monotonic(), time.time()
            with contextlib.suppress(httpx.HTTPError):
                answer = http.get("/health")
                if not any(one.name in hit and one.touches(wall - 1, time.time()) for one in history.faults):
                    took.append(time.monotonic() - started)
                    if answer.status_code != 200:
                        history.complaints.append(f"/health answered {answer.status_code}")


def _measure(where: Stage, found: Round) -> None:
    """Note what the largest process holds when all is quiet."""
    for pid in where.pids:
        with contextlib.suppress(OSError):
            found.descriptors = max(found.descriptors, len(list(Path(f"/proc/{pid}/fd").iterdir())))
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found.memory = max(found.memory, pages * 4096)
    if found.descriptors > 64 + SPARE_DESCRIPTORS or found.memory > MOST_MEMORY:
        where.history.complaints.append(f"a process holds {found.descriptors} descriptors, {found.memory >> 20} MiB")


def _count(history: History, found: Round) -> None:
    found.requests = len(history.calls)
    changes = [call for call in history.calls if call.is_change]
    found.acknowledged = sum(call.outcome is Outcome.DONE for call in changes)
    found.refused = sum(call.outcome is Outcome.REFUSED for call in changes)
    found.unknown = sum(call.outcome is Outcome.UNKNOWN for call in changes)
    found.unavailable = [call.ended - call.started for call in history.calls if call.problem.startswith("store-")]
    there = {event.version for event in history.events}
    done = [call for call in changes if call.outcome is Outcome.DONE and call.seen and call.kind is Kind.CREATE]
    found.lost = sum(call.seen[0].version._replace(revision=1) not in there for call in done)
