import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from service.observability import tracing

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


async def app(*_: object) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "is_enabled"),
    [
        ({}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_variables_of_opentelemetry_enable_traces(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_enabled: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_enabled() is is_enabled


def test_without_a_collector_the_app_is_unchanged_and_nothing_is_imported() -> None:
    script = (
        "import sys, service.app, service.observability.tracing as t; t.instrument_app(print) is print or exit(3); "
    )
    script += "exit([name for name in sys.modules if name.startswith('opentelemetry.instrumentation')] or 0)"
    subprocess.run([sys.executable, "-c", script], env={}, check=True)


def test_a_missing_extra_is_logged_and_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://collector:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    monkeypatch.setattr(tracing, "_log", __import__("structlog").get_logger())
    with capture_logs() as lines:
        assert tracing.instrument_app(app) is app
    assert "install jobstate-server[otel]" in lines[0]["hint"]
