"""Several processes behind one address: `jobstate serve --workers N`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.deployments import sync_client
from tests.helpers.polling import TIMEOUT, wait_until
from tests.helpers.service_process import Service
from tests.integration.observability.test_observability import samples
from tests.integration.server.test_limits import HALF, connect, received


@pytest.fixture
def service(redis_url: str, tmp_path: Path) -> Iterator[Service]:
    with sync_client(redis_url) as client:
        client.flushall()
    with Service(tmp_path, REDIS_URL=redis_url, JOBSTATE_WORKERS="3") as service:
        yield service


def children(pid: int) -> dict[int, bytes]:
    """Return the child processes of a process with their commands, without Python's resource tracker."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
            if parent == pid and b"resource_tracker" not in command:
                found[int(stat.parent.name)] = command
    return found


def workers_of(service: Service) -> list[int]:
    return [pid for pid, command in children(service.process.pid).items() if b"spawn_main" in command]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send_requests(service: Service, times: int) -> None:
    """Send requests over separate connections, so that every process gets some."""

    def one(_: int) -> int:
        return httpx.get(f"{service.url}/v1/jobs").status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(times))) == {200}


def in_progress(service: Service) -> float:
    try:
        with httpx.Client(base_url=service.url) as api:
            return samples(api)["jobstate_http_requests_in_progress", ()]
    except httpx.HTTPError:  # accepted by a process that was just killed
        return -1


def request_count(service: Service) -> float:
    with httpx.Client(base_url=service.url) as api:
        return samples(api)["jobstate_http_request_duration_seconds_count", ("GET", "/v1/jobs", "200")]


def test_every_process_reports_the_metrics_of_all(service: Service) -> None:
    assert len(workers_of(service)) == 3
    send_requests(service, 60)
    assert [request_count(service) for _ in range(12)] == [60] * 12
    served = {line["worker"] for line in map(json.loads, service.log.splitlines()) if line["event"] == "request"}
    assert len(served) > 1, "more than one process has responded"


def test_a_killed_process_is_restarted_and_loses_no_count(service: Service) -> None:
    send_requests(service, 30)
    victim, *others = workers_of(service)

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: len(set(workers_of(service)) - {victim}) == 3, "a new process")
    assert set(others) < set(workers_of(service))
    wait_until(lambda: "worker exited, restarting" in service.log, "the log line")
    send_requests(service, 30)
    assert request_count(service) == 60
    with httpx.Client(base_url=service.url) as api:
        assert wait_until(lambda: samples(api)["jobstate_redis_pool_max_connections", ()] == 3 * 9, "all three")


def test_requests_of_a_killed_process_no_longer_count_as_in_progress(service: Service) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(12):
            connection = opened.enter_context(connect(service))
            connection.sendall(HALF)
        wait_until(lambda: in_progress(service) == 12 + 1, "the start of the requests")
        victims = workers_of(service)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(service)) - set(victims)) == 3, "new processes")
        wait_until(lambda: in_progress(service) == 1, "the scrape alone")


def test_a_rate_limit_applies_across_all_processes(redis_url: str, tmp_path: Path) -> None:
    with sync_client(redis_url) as client:
        client.flushall()
    with (
        Service(tmp_path, REDIS_URL=redis_url, JOBSTATE_WORKERS="3", RATE_LIMIT="20/day") as service,
        ThreadPoolExecutor(8) as pool,
    ):
        codes = list(pool.map(lambda _: httpx.get(f"{service.url}/v1/jobs").status_code, range(60)))
    assert (codes.count(200), codes.count(429)) == (20, 40)


def test_a_stop_shuts_down_every_process(service: Service) -> None:
    pids = workers_of(service)
    assert service.stop() == 0
    assert not [pid for pid in pids if is_alive(pid)]
    events = [json.loads(line)["event"] for line in service.log.splitlines()]
    assert events.count("Shutting down Redis connection") == 3
    assert not [line for line in service.log.splitlines() if json.loads(line)["level"] == "error"]


def test_a_stop_waits_for_the_requests_in_flight(service: Service) -> None:
    body = b'{"job_id": "late", "input_params": 1}'
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with connect(service) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + body[:5])
        wait_until(lambda: in_progress(service) == 2, "the start of the request")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Waiting for connections to close" in service.log, "the shutdown")
        wait_until(lambda: not is_listening(service), "the refusal of new connections")
        connection.sendall(body[5:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")
    assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_skips_the_wait(redis_url: str, tmp_path: Path, workers: str) -> None:
    with Service(tmp_path, REDIS_URL=redis_url, JOBSTATE_WORKERS=workers) as service, connect(service) as connection:
        connection.sendall(HALF)
        wait_until(lambda: in_progress(service) == 2, "the start of the request")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Waiting for connections to close" in service.log, "the shutdown")
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(TIMEOUT / 2)  # else it would wait as long for the rest of the request
        assert received(connection) == b""


def is_listening(service: Service) -> bool:
    try:
        connect(service).close()
    except ConnectionRefusedError:
        return False
    return True


def test_child_processes_exit_when_their_parent_is_killed(service: Service) -> None:
    pids = workers_of(service)
    service.kill()
    wait_until(lambda: not [pid for pid in pids if is_alive(pid)], "the exit of the processes")
    service.start()
    assert httpx.get(f"{service.url}/ready").status_code == 200


def test_the_embedded_server_runs_once_and_jobs_survive_a_kill_of_everything(tmp_path: Path) -> None:
    with Service(tmp_path, JOBSTATE_WORKERS="2") as service:
        httpx.post(f"{service.url}/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status()
        record = httpx.get(f"{service.url}/v1/jobs/j").content
        servers = [pid for pid in children(service.process.pid) if pid not in workers_of(service)]
        assert len(servers) == 1

        for pid in (*servers, *workers_of(service)):
            os.kill(pid, signal.SIGKILL)
        service.kill()
        service.start()

        assert httpx.get(f"{service.url}/v1/jobs/j").content == record
    assert not [pid for pid in servers if is_alive(pid)]


def test_a_process_that_cannot_start_ends_the_startup_with_a_message(redis_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys, os\nif any('spawn_main' in word for word in sys.orig_argv): os._exit(7)\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "JOB"))}
    environment = {"PYTHONPATH": str(broken), "JOBSTATE_PORT": "0", "JOBSTATE_WORKERS": "2", "REDIS_URL": redis_url}
    done: Any = subprocess.run(
        [sys.executable, "-m", "service"], env=inherited | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "exited during startup" in done.stderr
