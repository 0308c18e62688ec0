"""A URL without a usable Redis behind it: typed problems, metrics, no tracebacks, and a clean shutdown."""

import re
import signal
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as sync_redis

from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import free_port, wait_until
from tests.helpers.redis_servers import Backend, RedisServer
from tests.helpers.service_process import Service
from tests.integration.store.test_redis_errors import is_problem

pytestmark = pytest.mark.standalone_only("makes one Redis unusable")

PASSWORD = "s3cret"
Call = tuple[str, str, Any]
#: One request for each way of using Redis.
CALLS: list[Call] = [
    ("POST", "/v1/jobs", {"input_params": 1}),
    ("GET", "/v1/jobs/j", None),
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/jobs/j?wait=1", None),
    ("GET", "/v1/jobs/j/events", None),
    ("GET", "/v1/events", None),
    ("GET", "/v1/stats", None),
    ("POST", "/v1/claims", {"queues": ["default"], "worker": "ann"}),
    ("GET", "/ready", None),
]
#: The requests that need the commands for scripts.
SCRIPTED = [CALLS[0], ("GET", "/v1/stats", None), ("POST", "/v1/claims", CALLS[7][2]), CALLS[-1]]
#: Servers that are not Redis: what they reply to everything; `None` for no reply.
FOREIGN: dict[str, tuple[bytes | None, str]] = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "store-unreachable"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "store-unreachable"),
    "TLS": (b"\x15\x03\x03\x00\x02\x02\x46", "store-unreachable"),
    "POP3": (b"+OK ready\r\n-ERR unknown\r\n-ERR unknown\r\n-ERR unknown\r\n", "store-unreachable"),
    "closing": (b"", "store-unreachable"),
    "silent": (None, "store-timeout"),
}
#: Those of them that are also sent a password.
WITH_PASSWORD = ("HTTP", "POP3")
#: Commands that are renamed, and whether each one is optional.
RENAMED = {"EVALSHA": False, "SCRIPT": False, "TIME": False, "HSET": False, "EVAL": True, "INFO": True}


@contextmanager
def port(answer: bytes | None) -> Iterator[int]:
    """Run a server that replies with these bytes and closes; with `None` it never replies."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65536):
                if answer is not None:
                    self.request.sendall(answer)
                    return

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore a client that has disconnected."""

    with Listener(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def assert_unavailable(folder: Path, url: str, *problems: str, calls: Sequence[Call] = CALLS) -> str:
    """Assert that every request gets one of the problems, and return the detail of `/ready`, the last one."""
    # Else the shutdown would wait for leases, which it cannot read: `test_redis_outages.py` tests that.
    settings = {"REDIS_URL": url, "SHUTDOWN_DRAIN_SECONDS": "0"}
    with Service(folder, **settings) as service, httpx.Client(base_url=service.url, timeout=20) as api:
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda call: api.request(call[0], call[1], json=call[2]), calls))
        for answer in answers:
            assert any(is_problem(answer, problem) for problem in problems), (answer.url, answer.text)
        detail = str(answers[-1].json()["detail"])
        metrics = api.get("/metrics")
        assert (metrics.status_code, "jobstate_redis_up 0.0" in metrics.text) == (200, True)
        assert api.get("/health").status_code == 200
        wait_until(lambda: "redis unavailable" in service.log, "the log line")
        assert service.stop(signal.SIGTERM) == 0
    assert service.log.count("redis unavailable") == 1
    assert "Traceback" not in service.log
    assert PASSWORD not in service.log + service.banner + detail
    return detail


@pytest.fixture(scope="module")
def not_redis(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """The checks of services whose server is not Redis. They run concurrently, because they mostly wait."""
    folder = tmp_path_factory.mktemp("not-redis")
    with ExitStack() as stack:
        ports = {kind: stack.enter_context(port(answer)) for kind, (answer, _) in FOREIGN.items()}
        redis = backend.redis(folder)
        stack.callback(redis.remove)
        checks: dict[str, tuple[str, ...]] = {
            kind: (f"redis://127.0.0.1:{ports[kind]}/0", problem) for kind, (_, problem) in FOREIGN.items()
        }
        for kind in WITH_PASSWORD:
            url = f"redis://:{PASSWORD}@127.0.0.1:{ports[kind]}/0"
            checks[f"{kind} with a password"] = (url, "store-unreachable")
        checks["Redis without TLS"] = (f"rediss://127.0.0.1:{redis.port}/0", "store-timeout", "store-unreachable")
        with ThreadPoolExecutor(len(checks)) as threads:
            running = {}
            for name, arguments in checks.items():
                (folder / name).mkdir()
                running[name] = threads.submit(assert_unavailable, folder / name, *arguments)
            yield running


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_server_that_is_not_redis_is_an_unavailable_store(kind: str, not_redis: dict[str, Future[str]]) -> None:
    not_redis[kind].result()


@pytest.mark.parametrize("kind", WITH_PASSWORD)
def test_a_password_sent_to_a_server_that_is_not_redis_is_not_shown(
    kind: str, not_redis: dict[str, Future[str]]
) -> None:
    not_redis[f"{kind} with a password"].result()


def test_tls_to_a_redis_without_it_is_an_unavailable_store(not_redis: dict[str, Future[str]]) -> None:
    not_redis["Redis without TLS"].result()


@pytest.mark.parametrize("command", [name for name, dispensable in RENAMED.items() if not dispensable])
def test_a_renamed_required_command_is_named(
    command: str, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis("--rename-command", command, "")
    calls = [CALLS[0], CALLS[-1]] if command == "HSET" else SCRIPTED
    with sync_redis.Redis(port=redis.port) as admin:  # with several partitions a claim runs a script where jobs are
        admin.zadd(PARTITIONS.first.by_created("default", "pending"), {"j": 1})
    url = f"redis://127.0.0.1:{redis.port}/0"
    if command == "HSET":  # Redis runs scripts that only read or find nothing to write
        with Service(tmp_path, REDIS_URL=url) as service:
            answers = [httpx.request(method, service.url + path, json=body) for method, path, body in calls]
            assert [is_problem(answer, "store-access-denied") for answer in answers] == [True, True]
            detail = answers[-1].json()["detail"]
    else:
        detail = assert_unavailable(tmp_path, url, "store-access-denied", calls=calls)
    assert command.lower() in detail.lower()


@pytest.mark.parametrize("command", [name for name, dispensable in RENAMED.items() if dispensable])
def test_a_renamed_optional_command_is_harmless(
    command: str, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = new_redis("--rename-command", command, "")
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        wait_until(lambda: httpx.get(f"{service.url}/ready").status_code == 200, "a service that is ready")
        assert httpx.post(f"{service.url}/v1/jobs", json={"input_params": 1}).status_code == 201
        metrics = httpx.get(f"{service.url}/metrics").raise_for_status().text
        assert "jobstate_redis_up 1.0" in metrics
        assert f"jobstate_redis_durability_known {0.0 if command == 'INFO' else 1.0}" in metrics


@pytest.mark.parametrize(
    ("options", "database", "words"),
    [((), 99, "out of range"), (("--cluster-enabled", "yes"), 1, "SELECT is not allowed in cluster mode|out of range")],
)
def test_an_unknown_database_is_reported_with_the_error_of_redis(
    options: tuple[str, ...], database: int, words: str, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    bus = ("--cluster-port", str(free_port())) if options else ()  # else 10000 above the port, which may be too high
    url = f"redis://127.0.0.1:{new_redis(*options, *bus).port}/{database}"
    assert re.search(words, assert_unavailable(tmp_path, url, "store-access-denied"))
