"""Every kind of Redis outage, at the start and later: the service reports it, keeps responding, and recovers."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from tests.helpers.locks import TEST_LOCK
from tests.helpers.redis_servers import Backend, RedisServer
from tests.helpers.service_process import Service
from tests.helpers.tcp_proxy import Fault, FaultProxy

pytestmark = pytest.mark.standalone_only("the outages of one Redis")

#: The most seconds that a request, `/ready` and `/health` may take.
LIMIT, READY_LIMIT, HEALTH_LIMIT = 3.5, 3.0, 1.0
#: The most seconds for a recovery and for a shutdown.
RECOVERY, SHUTDOWN = 5.0, 10.0
#: The most connections that the service uses at a time (one for calls, one for events, one for rare commands), and the
#: jobs that are read concurrently.
CONNECTIONS, JOBS = 3, 40

UNAVAILABLE, RECOVERED = "redis unavailable", "Redis connected, JobStateManager initialized"
#: The process of Redis is stopped, while its kernel still accepts connections and bytes.
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
#: Every operation that needs Redis; one of them sends more than the network buffers hold.
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
    """The response to a request, and the seconds until it arrived."""

    path: str
    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass
class Outage:
    """Observations during one outage."""

    answers: list[Answer]
    health: list[Answer]
    #: The most seconds by which this machine delayed the tests' event loop, with its clients and proxies.
    lateness: float
    #: Seconds from the end of the outage until `/ready` returned 200, and until the recovery was logged.
    ready_after: float
    logged_after: float

    @property
    def delay(self) -> float:
        """The most seconds that a request took that needs no Redis: other programs may use the machine, too."""
        return max(self.lateness, *(answer.seconds for answer in self.health))


@dataclass
class Observations:
    """Observations of one service with an outage at its start, later, and at its shutdown."""

    outages: dict[str, Outage] = field(default_factory=dict)
    #: Responses to requests in progress when the outage started, to reads of every job after the recovery, and to
    #: reads after every idle connection was reset.
    in_flight: list[Answer] = field(default_factory=list)
    afterwards: list[Answer] = field(default_factory=list)
    after_reset: list[Answer] = field(default_factory=list)
    #: Connections to Redis after all that.
    connections: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    exit_after: float = 0.0


class Environment:
    """A service, the proxy between it and Redis, and the kind of outage."""

    service: Service

    def __init__(self, kind: str, redis: RedisServer, line: FaultProxy) -> None:
        self.kind, self.redis, self.line = kind, redis, line

    async def start_outage(self) -> None:
        """Start the outage."""
        if self.kind == STOPPED:
            await self.line.heal()
            self.redis.send(signal.SIGSTOP)
        else:
            self.line.delay = 5.0
            self.line.inject(Fault(self.kind))

    async def end_outage(self) -> None:
        """End the outage."""
        await self.line.heal()
        if self.kind == STOPPED:
            self.redis.send(signal.SIGCONT)

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request over a plain socket: an HTTP client needs seconds for 200 concurrent requests."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.service.url.rpartition(":")[2]))
        with closing(writer):
            content = b"" if body is None else json.dumps(body).encode()
            started = time.monotonic()
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}"
            writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content)
            head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
        status, *headers = head.split("\r\n")
        fields = dict(header.split(": ", 1) for header in headers)
        return Answer(path, int(status.split()[1]), fields, json.loads(text), time.monotonic() - started)

    async def send_all_requests(self) -> list[Answer]:
        return await asyncio.gather(*(self.call(*request) for request in CALLS), *self.reads())

    def reads(self) -> list[asyncio.Task[Answer]]:
        return [asyncio.create_task(self.call("GET", f"/v1/jobs/{self.job_id(n)}")) for n in range(JOBS)]

    def job_id(self, number: int) -> str:
        return f"{self.kind}-{number}"

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.service.log.splitlines()]

    def count_logged(self, event: str) -> int:
        return self.service.log.count(event)

    async def observe_outage(self) -> Outage:
        """Observe the outage that has started, end it, and wait for the recovery."""
        recoveries = self.count_logged(RECOVERED)
        health_polling = asyncio.create_task(self._poll_health())
        answers = await self.send_all_requests()
        await until(lambda: self.count_logged(UNAVAILABLE) > recoveries)
        health_polling.cancel()
        with suppress(asyncio.CancelledError):
            await health_polling
        ended = time.monotonic()
        await self.end_outage()
        while (await self.call("GET", "/ready")).status != 200:
            assert time.monotonic() - ended < 3 * RECOVERY, "the service did not recover"
        ready_after = time.monotonic() - ended
        await until(lambda: self.count_logged(RECOVERED) > recoveries)
        return Outage(answers, self._health, self._lateness, ready_after, time.monotonic() - ended)

    async def _poll_health(self) -> None:
        self._health: list[Answer] = []
        self._lateness = 0.0
        while True:
            self._health.append(await self.call("GET", "/health"))
            slept = time.monotonic()
            await asyncio.sleep(0.2)
            self._lateness = max(self._lateness, time.monotonic() - slept - 0.2)

    async def open_connections(self) -> None:
        """Send many reads while Redis is slow, so that the service opens all connections that it needs."""
        self.slow_down(0.2)
        await asyncio.gather(*self.reads())
        await self.line.heal()

    def slow_down(self, delay: float) -> None:
        self.line.delay = delay
        self.line.inject(Fault.SLOW)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 (a log file has no event)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def start(kind: str, redis: RedisServer, folder: Path) -> AsyncIterator[Environment]:
    """Start a service during an outage, which has not ended when the block begins."""
    async with FaultProxy(redis.port).open() as line:
        environment = Environment(kind, redis, line)
        await environment.start_outage()
        try:
            where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(line.port)}
            environment.service = await asyncio.to_thread(Service, folder, **where)
            with environment.service:
                yield environment
        finally:
            await environment.end_outage()


async def observe(environment: Environment) -> Observations:
    """Recover from the first outage, have a second one, and recover."""
    observed = Observations()
    observed.outages["from the start"] = await environment.observe_outage()

    for number in range(JOBS):
        job = {"job_id": environment.job_id(number), "input_params": number}
        async with asyncio.timeout(15):  # on a starved machine, Redis may answer too late behind the proxy
            while (created := await environment.call("POST", "/v1/jobs", job)).status == 503:
                pass
        assert created.status == 201, created
    await environment.open_connections()
    environment.slow_down(1.0)
    reads = environment.reads()
    await until(lambda: environment.line.delayed > 0)
    await environment.start_outage()
    observed.outages["later"] = await environment.observe_outage()
    observed.in_flight = await asyncio.gather(*reads)

    observed.afterwards = [answer for _ in range(2) for answer in await asyncio.gather(*environment.reads())]
    await environment.open_connections()
    observed.connections = environment.line.connections
    observed.log = environment.log()
    environment.line.inject(Fault.RESET)
    await environment.line.heal()
    observed.after_reset = await asyncio.gather(*environment.reads())
    return observed


async def shut_down(environment: Environment, observed: Observations | BaseException) -> Observations:
    """Stop the service during a third outage. It waits 5 s for Redis; `SHUTDOWN` allows for other tests."""
    if isinstance(observed, BaseException):
        raise observed
    await environment.start_outage()
    calls = asyncio.create_task(environment.send_all_requests())
    await environment.call("GET", "/health")  # accepted after the other requests
    started = time.monotonic()
    observed.exit_code = await asyncio.to_thread(environment.service.stop)
    observed.exit_after = time.monotonic() - started
    await asyncio.gather(calls, return_exceptions=True)
    return observed


@asynccontextmanager
async def exclusive_use() -> AsyncIterator[None]:
    """Wait for exclusive use in a thread, because the proxies run in the event loop."""
    lock = TEST_LOCK.exclusive()
    await asyncio.to_thread(lock.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(lock.__exit__, None, None, None)


@pytest.fixture(scope="module")
def observations(
    backend: Backend, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Observations | BaseException]]:
    """The observations of every kind of outage. They run concurrently, because they mostly wait."""
    folder = tmp_path_factory.mktemp("outages")
    stoppable = backend.redis(folder)
    for kind in PROBLEMS:
        (folder / kind).mkdir()

    async def run_all() -> list[Observations | BaseException]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(PROBLEMS)))
        async with AsyncExitStack() as started:
            servers = {kind: stoppable if kind == STOPPED else shared_redis for kind in PROBLEMS}
            services = (start(kind, redis, folder / kind) for kind, redis in servers.items())
            environments = await asyncio.gather(*map(started.enter_async_context, services))
            async with exclusive_use():
                observations = await asyncio.gather(*map(observe, environments), return_exceptions=True)
            return await asyncio.gather(*map(shut_down, environments, observations), return_exceptions=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            observations = runner.run(run_all())
        yield dict(zip(PROBLEMS, observations, strict=True))
    finally:
        stoppable.remove()


@pytest.fixture(params=list(PROBLEMS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def observed(observations: dict[str, Observations | BaseException], kind: str) -> Observations:
    observed = observations[kind]
    if isinstance(observed, BaseException):
        raise observed
    return observed


@pytest.fixture(params=["from the start", "later"])
def outage(request: pytest.FixtureRequest, observed: Observations) -> Outage:
    return observed.outages[request.param]


def test_every_request_gets_the_right_problem_in_time(outage: Outage, kind: str) -> None:
    assert len(outage.answers) == len(CALLS) + JOBS
    # A connection that is cut within a reply has delivered complete replies before: how many depends on the batches.
    rejected = [answer for answer in outage.answers if not (kind == Fault.CUT and answer.status < 300)]
    assert len(rejected) > JOBS / 8
    for answer in rejected:
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.body["type"] == f"urn:jobstate:problem:{PROBLEMS[kind]}", answer
        assert answer.seconds - outage.delay < (READY_LIMIT if answer.path == "/ready" else LIMIT)


def test_health_stays_ok_during_an_outage(outage: Outage) -> None:
    assert outage.health
    for answer in outage.health:
        assert answer.body == {"status": "ok", "version": "0.3.0"}
        assert answer.seconds - outage.lateness < HEALTH_LIMIT


def test_the_service_recovers_after_an_outage(outage: Outage) -> None:
    assert outage.ready_after - outage.delay < RECOVERY
    assert outage.logged_after - outage.delay < RECOVERY


def test_each_outage_and_each_recovery_is_logged_once(observed: Observations) -> None:
    assert [line["event"] for line in observed.log if line["event"] in (UNAVAILABLE, RECOVERED)] == [
        UNAVAILABLE,
        RECOVERED,
    ] * 2


def test_every_error_response_is_logged_without_a_traceback(observed: Observations) -> None:
    rejected = [answer for outage in observed.outages.values() for answer in outage.answers]
    rejected += [answer for answer in observed.in_flight if answer.status == 503]
    ids = {answer.headers["x-correlation-id"] for answer in rejected}
    assert ids <= {line.get("correlation_id") for line in observed.log}
    assert [line for line in observed.log if "exception" in line or line["level"] in ("error", "critical")] == []


def test_requests_in_progress_when_an_outage_starts_get_a_response(observed: Observations) -> None:
    assert len(observed.in_flight) == JOBS
    for answer in observed.in_flight:
        assert answer.status in (200, 503), answer
        assert answer.seconds - observed.outages["later"].delay < LIMIT


def test_no_reply_is_delivered_to_another_request(observed: Observations) -> None:
    answers = [answer for answer in observed.in_flight if answer.status == 200] + observed.afterwards
    assert len(answers) >= 2 * JOBS
    for answer in answers:
        number = int(answer.path.rpartition("-")[2])
        job = answer.body
        assert answer.path == f"/v1/jobs/{job['job_id']}"
        assert job["input_params"] == number


def test_no_connection_leaks(observed: Observations) -> None:
    assert 1 <= observed.connections <= CONNECTIONS  # the event reader may be about to connect again


def test_connections_reset_while_idle_fail_no_request(observed: Observations) -> None:
    assert [answer.status for answer in observed.after_reset] == [200] * JOBS


def test_a_shutdown_during_an_outage_is_quick_and_clean(observed: Observations) -> None:
    assert observed.exit_code == 0
    assert observed.exit_after < SHUTDOWN


def test_an_unresolvable_host_name_is_an_outage(tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL="redis://redis.invalid:6379/0") as service:
        started = time.monotonic()
        ready = httpx.get(f"{service.url}/ready", timeout=10)

        assert time.monotonic() - started < READY_LIMIT
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert ready.status_code == 503
        kinds = ("store-unreachable", "store-timeout")  # depending on whether the name server replies
        assert ready.json()["type"] in [f"urn:jobstate:problem:{kind}" for kind in kinds]
        assert service.stop() == 0
