"""Redis away, in every way that it can be, from the start and later: the service says so, answers, and recovers."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.locks import TURNS
from tests.helpers.servers import Backend, Fault, FaultyLine, RedisServer, Service

#: Seconds within which every call is answered, `/ready` says that Redis does not answer, and `/health` answers.
LIMIT, READY_LIMIT, HEALTH_LIMIT = 3.5, 3.0, 1.0
#: Seconds within which the service has recovered, and within which it ends.
RECOVERY, SHUTDOWN = 5.0, 10.0
#: Connections that the service's pool has; jobs, and callers at once, of which there are more.
POOL, JOBS = 9, 80

AWAY, BACK = "redis unavailable", "Redis connected, JobStateManager initialized"
#: Not a fault of the line: the server's process is stopped, and its kernel goes on taking connections and bytes.
STOPPED = "stopped"
PROBLEMS = {
    Fault.REFUSED: "store-unreachable",
    Fault.RESET: "store-unreachable",
    Fault.CUT: "store-unreachable",
    Fault.UNANSWERED: "store-timeout",
    Fault.SILENT: "store-timeout",
    Fault.SLOW: "store-timeout",
    Fault.TRICKLING: "store-timeout",
    STOPPED: "store-timeout",
}
#: Every operation that needs Redis, one of them with more than the buffers on the way to Redis hold.
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/ready", None),
    ("POST", "/v1/jobs", {"input_params": 1}),
    ("POST", "/v1/jobs", {"input_params": "x" * 900_000}),
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/jobs/j", None),
    ("GET", "/v1/jobs/j/result", None),
    ("PATCH", "/v1/jobs/j", {"status": "running"}),
    ("POST", "/v1/jobs/j/cancel", None),
    ("DELETE", "/v1/jobs/j", None),
    ("POST", "/v1/batch-get", {"job_ids": ["j"]}),
    ("GET", "/v1/stats", None),
]


@dataclass
class Answer:
    """What a call was answered, and after how many seconds."""

    path: str
    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass
class Outage:
    """What was seen while Redis was away once."""

    answers: list[Answer]
    health: list[Answer]
    #: Seconds from the end of the outage until `/ready` answered 200, and until the log said so.
    ready_after: float
    said_after: float


@dataclass
class Life:
    """What was seen of one service whose Redis was away at its start, later, and at its end."""

    outages: dict[str, Outage] = field(default_factory=dict)
    #: Answers to the requests that were under way as Redis went, to those for every job after it came back, and to
    #: those after every idle connection was reset.
    in_flight: list[Answer] = field(default_factory=list)
    afterwards: list[Answer] = field(default_factory=list)
    after_a_blink: list[Answer] = field(default_factory=list)
    #: Requests that Redis had at once after all that, and connections that were open.
    connections: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    exit_after: float = 0.0


class Stage:
    """A service, the line over which it reaches Redis, and what can go wrong with them."""

    service: Service

    def __init__(self, trouble: str, redis: RedisServer, line: FaultyLine) -> None:
        self.trouble, self.redis, self.line = trouble, redis, line

    async def begin(self) -> None:
        """Let Redis go away."""
        if self.trouble == STOPPED:
            await self.line.mend()
            self.redis.send(signal.SIGSTOP)
        else:
            self.line.delay = 5.0
            self.line.breaks(Fault(self.trouble))

    async def end(self) -> None:
        """Let Redis come back."""
        await self.line.mend()
        if self.trouble == STOPPED:
            self.redis.send(signal.SIGCONT)

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Make a call by hand: with 200 calls at once an HTTP client takes seconds of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.service.url.rpartition(":")[2]))
        with closing(writer):
            content = b"" if body is None else json.dumps(body).encode()
            started = time.monotonic()
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}"
            writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content)
            head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
        status, *headers = head.split("\r\n")
        fields = dict(header.split(": ", 1) for header in headers)
        return Answer(path, int(status.split()[1]), fields, json.loads(answer), time.monotonic() - started)

    async def call_everything(self) -> list[Answer]:
        return await asyncio.gather(*(self.call(*one) for one in CALLS), *self.reads())

    def reads(self) -> list[asyncio.Task[Answer]]:
        return [asyncio.create_task(self.call("GET", f"/v1/jobs/{self.job_id(n)}")) for n in range(JOBS)]

    def job_id(self, number: int) -> str:
        return f"{self.trouble}-{number}"

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.service.log.splitlines()]

    def said(self, event: str) -> int:
        return self.service.log.count(event)

    async def go_through_an_outage(self) -> Outage:
        """Watch the outage that has begun, end it, and wait until all is well."""
        said_back = self.said(BACK)
        pulse = asyncio.create_task(self._watch_health())
        answers = await self.call_everything()
        await until(lambda: self.said(AWAY) > said_back)
        pulse.cancel()
        with suppress(asyncio.CancelledError):
            await pulse
        ended = time.monotonic()
        await self.end()
        while (await self.call("GET", "/ready")).status != 200:
            assert time.monotonic() - ended < 3 * RECOVERY, "the service did not recover"
        ready_after = time.monotonic() - ended
        await until(lambda: self.said(BACK) > said_back)
        return Outage(answers, self._health, ready_after, time.monotonic() - ended)

    async def _watch_health(self) -> None:
        self._health: list[Answer] = []
        while True:
            self._health.append(await self.call("GET", "/health"))
            await asyncio.sleep(0.2)

    async def crowd(self) -> None:
        """Ask for much while Redis is slow, so that as many connections are opened as may be."""
        self.slow_down(0.2)
        await asyncio.gather(*self.reads())
        await self.line.mend()

    def slow_down(self, delay: float) -> None:
        self.line.delay = delay
        self.line.breaks(Fault.SLOW)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 (a log file has no event)
            await asyncio.sleep(0.02)


async def live(trouble: str, redis: RedisServer, folder: Path, one_at_a_time: asyncio.Lock) -> Life:
    """Start a service whose Redis is away, let it come, go, come and go, and stop the service."""
    async with FaultyLine(redis.port).open() as line:
        stage = Stage(trouble, redis, line)
        await stage.begin()
        try:
            async with one_at_a_time:
                where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(line.port)}
                stage.service = await asyncio.to_thread(Service, folder, **where)
            with stage.service:
                return await play(stage)
        finally:
            await stage.end()


async def play(stage: Stage) -> Life:
    life = Life()
    life.outages["from the start"] = await stage.go_through_an_outage()

    for number in range(JOBS):
        created = await stage.call("POST", "/v1/jobs", {"job_id": stage.job_id(number), "input_params": number})
        assert created.status == 201, created
    await stage.crowd()
    stage.slow_down(1.0)
    reads = stage.reads()
    await until(lambda: stage.line.delayed > 0)
    await stage.begin()
    life.outages["later"] = await stage.go_through_an_outage()
    life.in_flight = await asyncio.gather(*reads)

    life.afterwards = await asyncio.gather(*stage.reads(), *stage.reads())
    await stage.crowd()
    life.connections = stage.line.connections
    life.log = stage.log()
    stage.line.breaks(Fault.RESET)
    await stage.line.mend()
    life.after_a_blink = await asyncio.gather(*stage.reads())

    await stage.begin()
    calls = asyncio.create_task(stage.call_everything())
    await stage.call("GET", "/health")  # accepted after the others
    started = time.monotonic()
    life.exit_code = await asyncio.to_thread(stage.service.stop)
    life.exit_after = time.monotonic() - started
    await asyncio.gather(calls, return_exceptions=True)
    return life


@pytest.fixture(scope="module")
def lives(
    backend: Backend, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Life | BaseException]]:
    """Every trouble lived through, all at once because they mostly wait."""
    folder = tmp_path_factory.mktemp("away")
    stoppable = backend.redis(folder)

    async def live_all() -> list[Life | BaseException]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(PROBLEMS)))
        lives, one_at_a_time = [], asyncio.Lock()
        for trouble in PROBLEMS:
            (folder / trouble).mkdir()
            redis = stoppable if trouble == STOPPED else shared_redis
            lives.append(live(trouble, redis, folder / trouble, one_at_a_time))
        return await asyncio.gather(*lives, return_exceptions=True)

    try:
        with TURNS.alone():
            lives = asyncio.run(live_all())
        yield dict(zip(PROBLEMS, lives, strict=True))
    finally:
        stoppable.remove()


@pytest.fixture(params=list(PROBLEMS))
def trouble(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def life(lives: dict[str, Life | BaseException], trouble: str) -> Life:
    life = lives[trouble]
    if isinstance(life, BaseException):
        raise life
    return life


@pytest.fixture(params=["from the start", "later"])
def outage(request: pytest.FixtureRequest, life: Life) -> Outage:
    return life.outages[request.param]


def test_every_call_is_answered_in_time_with_a_problem_that_says_what_is_wrong(outage: Outage, trouble: str) -> None:
    assert len(outage.answers) == len(CALLS) + JOBS
    # Before the line is cut within replies, some have come whole: how many depends on how many went at once.
    refused = [answer for answer in outage.answers if not (trouble == Fault.CUT and answer.status < 300)]
    assert len(refused) > JOBS / 8
    for answer in refused:
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.body["type"] == f"urn:jobstate:problem:{PROBLEMS[trouble]}", answer
        assert answer.seconds < (READY_LIMIT if answer.path == "/ready" else LIMIT)


def test_the_process_says_that_it_lives(outage: Outage) -> None:
    assert outage.health
    for answer in outage.health:
        assert answer.body == {"status": "ok", "version": "0.3.0"}
        assert answer.seconds < HEALTH_LIMIT


def test_the_service_recovers_by_itself(outage: Outage) -> None:
    assert outage.ready_after < RECOVERY
    assert outage.said_after < RECOVERY


def test_the_log_says_each_time_once_that_redis_is_away_and_that_it_is_back(life: Life) -> None:
    assert [line["event"] for line in life.log if line["event"] in (AWAY, BACK)] == [AWAY, BACK] * 2


def test_the_log_has_a_line_for_every_refusal_and_no_stack(life: Life) -> None:
    refused = [answer for outage in life.outages.values() for answer in outage.answers]
    refused += [answer for answer in life.in_flight if answer.status == 503]
    ids = {answer.headers["x-correlation-id"] for answer in refused}
    assert ids <= {line.get("correlation_id") for line in life.log}
    assert [line for line in life.log if "exception" in line or line["level"] in ("error", "critical")] == []


def test_requests_under_way_as_redis_goes_are_answered_too(life: Life) -> None:
    assert len(life.in_flight) == JOBS
    for answer in life.in_flight:
        assert answer.status in (200, 503), answer
        assert answer.seconds < LIMIT


def test_no_reply_goes_to_another_request(life: Life) -> None:
    answers = [answer for answer in life.in_flight if answer.status == 200] + life.afterwards
    assert len(answers) >= 2 * JOBS
    for answer in answers:
        number = int(answer.path.rpartition("-")[2])
        job = answer.body
        assert answer.path == f"/v1/jobs/{job['job_id']}"
        assert job["input_params"] == number


def test_afterwards_no_connection_is_left_over(life: Life) -> None:
    assert 1 < life.connections <= POOL


def test_connections_that_were_reset_while_idle_cost_no_request_anything(life: Life) -> None:
    assert [answer.status for answer in life.after_a_blink] == [200] * JOBS


def test_a_stop_while_redis_is_away_ends_soon_and_well(life: Life) -> None:
    assert life.exit_code == 0
    assert life.exit_after < SHUTDOWN


def test_a_name_that_does_not_resolve_is_an_outage_too(tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL="redis://redis.invalid:6379/0") as service:
        started = time.monotonic()
        ready = httpx.get(f"{service.url}/ready", timeout=10)

        assert time.monotonic() - started < READY_LIMIT
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert ready.status_code == 503
        kinds = ("store-unreachable", "store-timeout")  # as the name server says no, or nothing
        assert ready.json()["type"] in [f"urn:jobstate:problem:{kind}" for kind in kinds]
        assert service.stop() == 0
