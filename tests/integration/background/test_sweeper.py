"""Readiness waits for the first sweep after the start of a service."""

from datetime import timedelta

import httpx
import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.background import sweeper
from service.settings import Settings
from tests.helpers.deployments import sync_client
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import free_port, wait_until

BY_EXPIRY = PARTITIONS.first.by_expiry
SETTINGS = Settings.from_environment({"REDIS_PARTITIONS": str(len(PARTITIONS))})


def problem_type(response: httpx.Response) -> str:
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    return str(response.json()["type"]).removeprefix("urn:jobstate:problem:")


@pytest.fixture
def unswept_url(store_url: str) -> str:
    """A database in which no sweep succeeds."""
    with sync_client(store_url) as redis:
        redis.flushdb()
        redis.set(BY_EXPIRY, "foreign")
    return store_url


def test_a_service_is_ready_once_its_first_sweep_has_ended(unswept_url: str) -> None:
    with TestClient(create_app(SETTINGS, unswept_url)) as client:
        not_ready = client.get("/ready")
        assert problem_type(not_ready) == "store-loading"
        assert "removes jobs that expired before its start" in not_ready.json()["detail"]
        assert client.get("/health").status_code == 200

        with sync_client(unswept_url) as redis:
            redis.flushdb()
        wait_until(lambda: client.get("/ready").status_code == 200, "the first sweep")

        with sync_client(unswept_url) as redis:
            redis.flushdb()
            redis.set(BY_EXPIRY, "foreign")
        assert client.get("/ready").status_code == 200, "only the first sweep counts"


def test_a_service_whose_sweeps_fail_is_ready_all_the_same_in_the_end(
    unswept_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "MAX_FIRST_SWEEP", timedelta(seconds=2))
    with TestClient(create_app(SETTINGS, unswept_url)) as client:
        assert problem_type(client.get("/ready")) == "store-loading"
        wait_until(lambda: client.get("/ready").status_code == 200, "the end of the wait")


def test_a_service_starts_and_answers_while_redis_is_away() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with TestClient(create_app(Settings.from_environment({}), url)) as client:
        assert client.get("/health").status_code == 200
        for response in (client.get("/ready"), client.get("/v1/stats"), client.get("/v1/jobs/j")):
            assert problem_type(response) == "store-unreachable"
