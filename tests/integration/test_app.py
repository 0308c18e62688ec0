"""The composition of the application: its state, its dependencies and its connection pool."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.di import NamedDependency
from litestar.testing import TestClient
from redis.asyncio import ConnectionPool, Redis

from service import job_manager
from service.app import create_app
from service.settings import Settings, SettingsError
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.observer import NullObserver
from tests.helpers.partitions import PARTITIONS


def settings(**environment: str) -> Settings:
    return Settings.from_environment({"REDIS_PARTITIONS": str(len(PARTITIONS)), **environment})


@pytest.fixture
def app(redis_url: str) -> Iterator[Litestar]:
    with TestClient(create_app(settings(), redis_url)) as client:
        yield client.app


def test_pool_client_and_manager_are_on_the_state(app: Litestar) -> None:
    assert isinstance(app.state.redis_pool, ConnectionPool)
    assert app.state.redis_client.connection_pool is app.state.redis_pool
    assert isinstance(app.state.job_manager, JobStateManager)
    assert job_manager.JobStateManager is JobStateManager


def test_the_pool_has_timeouts_health_checks_and_no_retries(app: Litestar) -> None:
    connection = app.state.redis_pool.make_connection()

    assert (connection.db, connection.health_check_interval) == (0, 30)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (3, 3)
    assert connection.retry.get_retries() == 0


def test_handlers_get_dependencies_from_the_state(redis_url: str) -> None:
    seen: list[Any] = []

    @get("/seen")
    async def handler(
        redis_pool: NamedDependency[ConnectionPool],
        redis_client: NamedDependency[Redis],
        job_manager: NamedDependency[JobStateManager],
    ) -> None:
        seen.extend([redis_pool, redis_client, job_manager])

    app = create_app(settings(), redis_url)
    app.register(handler)
    with TestClient(app) as client:
        assert (client.get("/seen")).status_code == 200

    assert seen == [app.state.redis_pool, app.state.redis_client, app.state.job_manager]


def test_an_unexpected_error_is_a_problem_without_internals(redis_url: str) -> None:
    @get("/bug")
    async def handler() -> None:
        raise RuntimeError("secret")

    app = create_app(settings(), redis_url)
    app.register(handler)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/bug", headers={"X-Correlation-ID": "c-1"})

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:jobstate:problem:internal-error"
    assert response.json()["correlation_id"] == "c-1"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        ("", "https://a.example", None),
        ("https://a.example", "https://a.example", "https://a.example"),
        ("https://A.example:443", "https://a.example", "https://a.example"),
        ("https://a.example", "https://A.example:443", "https://A.example:443"),
        ("https://a.example", "https://b.example", None),
        ("*", "https://b.example", "*"),
    ],
)
def test_only_allowed_origins_may_read(redis_url: str, allowed: str, origin: str, answer: str | None) -> None:
    with TestClient(create_app(settings(CORS_ORIGINS=allowed), redis_url)) as client:
        response = client.get("/health", headers={"Origin": origin})

    assert response.headers.get("access-control-allow-origin") == answer


def test_a_preflight_allows_what_the_api_needs(redis_url: str) -> None:
    headers = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "content-type, if-match, idempotency-key",
    }
    app = create_app(settings(CORS_ORIGINS="https://a.example"), redis_url)
    with TestClient(app) as client:
        preflight = client.options("/v1/jobs/j", headers=headers)
        response = client.get("/health", headers={"Origin": "https://a.example"})

    assert preflight.status_code in {200, 204}
    assert preflight.headers["access-control-allow-origin"] == "https://a.example"
    assert {"etag", "location", "retry-after"} <= set(
        response.headers["access-control-expose-headers"].lower().replace(" ", "").split(",")
    )


def test_the_retention_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ConnectionPool.from_url("redis://127.0.0.1:1/0")
    monkeypatch.setenv("JOB_TTL_DAYS", "366")
    with pytest.raises(SettingsError, match="JOB_TTL_DAYS='366' is not allowed; allowed: an integer from 1 to 365"):
        JobStateManager(pool)
    JobStateManager(pool, ttl=timedelta(days=1))
    for ttl in (timedelta(0), timedelta(days=365, seconds=1)):
        with pytest.raises(ValueError, match="ttl="):
            JobStateManager(pool, ttl=ttl)


def test_a_pool_that_decodes_responses_is_rejected() -> None:
    with pytest.raises(ValueError, match="decode_responses=False"):
        JobStateManager(ConnectionPool.from_url("redis://127.0.0.1:1/0", decode_responses=True))


def test_a_manager_with_a_client_takes_no_observer_and_no_waitaof_of_its_own() -> None:
    client = StoreClient(ConnectionPool.from_url("redis://127.0.0.1:1/0"))
    for own in ({"observer": NullObserver()}, {"waitaof": True}):
        with pytest.raises(ValueError, match="pass them to it"):
            JobStateManager(client, ttl=timedelta(days=1), **own)
