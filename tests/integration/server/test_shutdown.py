"""Shutdown of several processes while a worker holds a lease: which signals wait for it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.deployments import sync_client
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.server.test_supervisor import children
from tests.integration.store.events.test_claim_waiter import lease


@pytest.fixture
def service(spare_url: str, tmp_path: Path) -> Iterator[Service]:
    """Two processes on a separate database."""
    with Service(tmp_path, REDIS_URL=spare_url, SHUTDOWN_DRAIN_SECONDS="30", JOBSTATE_WORKERS="2") as service:
        yield service


def all_processes(service: Service) -> list[int]:
    """The supervisor and its processes."""
    serving = [pid for pid, command in children(service.process.pid).items() if b"spawn_main" in command]
    assert len(serving) == 2
    return [service.process.pid, *serving]


def wait_for_shutdown(service: Service) -> None:
    wait_until(lambda: service.log.count("shutdown waiting for leases") == 2, "the wait of both processes")


def complete(service: Service, token: dict[str, str]) -> int:
    return httpx.patch(f"{service.url}/v1/jobs/j", json={"status": "completed"}, headers=token).status_code


@pytest.mark.parametrize("to_all", [False, True], ids=["to the supervisor", "to all"])
def test_sigterm_waits_for_leases(service: Service, to_all: bool) -> None:
    token = lease(service)
    for pid in all_processes(service) if to_all else [service.process.pid]:
        os.kill(pid, signal.SIGTERM)
    wait_for_shutdown(service)
    for _ in range(4):
        assert httpx.get(f"{service.url}/ready").status_code == 503
        assert httpx.post(f"{service.url}/v1/jobs/j/heartbeat", json={}, headers=token).status_code == 200
        time.sleep(0.2)
    assert complete(service, token) == 200
    assert service.process.wait(15) == 0
    assert service.log.count("shutdown leases released") == 2
    assert service.log.count('"reason":"SIGTERM"') == 2


@pytest.mark.parametrize("to_group", [False, True], ids=["to the supervisor", "to the group"])
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["Ctrl-C", "twice"])
def test_ctrl_c_and_a_second_signal_do_not_wait_for_leases(
    service: Service, numbers: list[signal.Signals], to_group: bool
) -> None:
    token = lease(service)
    for number in numbers:
        if to_group:  # as a terminal does
            os.killpg(service.process.pid, number)
        else:
            service.process.send_signal(number)
        if len(numbers) > 1 and number is numbers[0]:
            wait_for_shutdown(service)
    started = time.monotonic()
    service.process.wait(20)
    assert time.monotonic() - started < 5
    service.kill()
    service.start()
    assert complete(service, token) == 200


def test_a_short_redis_outage_does_not_end_the_wait(service: Service, redis_url: str) -> None:
    token = lease(service)
    service.process.send_signal(signal.SIGTERM)
    wait_for_shutdown(service)
    with sync_client(redis_url) as redis:
        redis.client_pause(4000)
    time.sleep(4.5)
    assert complete(service, token) == 200
    assert service.process.wait(15) == 0
    assert "shutdown cannot read leases" not in service.log
