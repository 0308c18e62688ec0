import time
from typing import Any

import pytest
from structlog import get_logger
from structlog.testing import capture_logs

from service.api.middleware import telemetry
from service.api.middleware.telemetry import TelemetryMiddleware
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.store.deadlines import TimeBudget, budget
from tests.unit.api.middleware.asgi import App, http_scope, request


async def broken(*_: Any) -> None:
    raise RuntimeError("a bug")


async def disconnected(*_: Any) -> None:
    """Send nothing: the client has disconnected."""


async def run(app: Any, monkeypatch: pytest.MonkeyPatch, request: Any) -> list[Any]:
    monkeypatch.setattr(telemetry, "_log", get_logger())
    with capture_logs() as lines:
        await TelemetryMiddleware(app, Metrics(), Shutdown())(request, None, None)  # type: ignore[arg-type]
    return lines


def http(**context: Any) -> Any:
    return {**http_scope(**context), "raw_path": b"/v1/jobs", "method": "GET", "client": None}


async def test_a_request_that_fails_in_middleware_is_logged_as_500(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_log", get_logger())
    with capture_logs() as lines, pytest.raises(RuntimeError):
        await TelemetryMiddleware(broken, Metrics(), Shutdown())(http(), None, None)  # type: ignore[arg-type]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 500)]


async def test_a_disconnected_client_is_logged_as_499(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = await run(disconnected, monkeypatch, http())
    assert (line["status"], line["client"]) == (499, None)


async def test_the_logged_duration_includes_the_time_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = await run(disconnected, monkeypatch, http(received_at=time.perf_counter() - 5))
    assert line["duration_ms"] >= 5000


async def test_every_request_has_its_own_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[TimeBudget | None] = []

    async def app(*_: Any) -> None:
        budgets.append(budget.get())

    for _ in range(2):
        await run(app, monkeypatch, http())
    first, second = budgets
    assert first is not None
    assert second is not None
    assert first is not second


async def test_a_scope_that_is_not_http_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await run(disconnected, monkeypatch, {"type": "lifespan"}) == []


async def test_a_response_closes_its_connection_once_the_shutdown_has_begun() -> None:
    shutdown = Shutdown()
    app = TelemetryMiddleware(App(), Metrics(), shutdown)
    assert "connection" not in (await request(app, http()))[1]
    shutdown.begin("SIGTERM")
    assert (await request(app, http()))[1]["connection"] == "close"
