import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobstate.cli import main
from service.cli import serve as command
from service.cli.options import merge_environment
from service.server.listener import bind
from service.settings import VARIABLES, Settings

NAMES = [variable.name for variable in VARIABLES]


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


Started = list[tuple[str, Settings, str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The fake servers that were started, each with its settings and its Redis URL."""
    servers: Started = []

    def fake(name: str) -> Callable[..., Any]:
        class Fake:
            def __init__(self, settings: Settings, redis_url: str, *, started: Callable[[], None]) -> None:
                servers.append((name, settings, redis_url))
                self.started = started

            def run(self, sockets: list[socket.socket]) -> None:
                self.started()

        return Fake

    monkeypatch.setattr("service.server.server.Server", fake("Server"))
    monkeypatch.setattr(command, "Supervisor", fake("Supervisor"))
    monkeypatch.setattr(command, "bind", lambda host, port: bind("127.0.0.1", 0))
    monkeypatch.setattr("service.observability.logs.configure", lambda level, form: None)
    return servers


def run(*args: str, environ: Mapping[str, str] | None = None) -> Result:
    unset: dict[str, str | None] = dict.fromkeys(NAMES)
    return CliRunner().invoke(main, args, env={**unset, **(environ or {})}, prog_name="jobstate")


@pytest.mark.parametrize("name", NAMES)
def test_the_help_names_every_variable_with_its_default(name: str) -> None:
    result = run("serve", "--help")
    shown = " ".join(result.output.split())
    default = next(variable.default for variable in VARIABLES if variable.name == name)
    assert result.exit_code == 0
    assert f"[{name}; default: {default or 'none'}]" in shown
    assert f"--{name.removeprefix('JOBSTATE_').lower().replace('_', '-')} VALUE" in shown


def test_the_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "serve" in result.output


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").output == "jobstate, version 0.3.0\n"


@pytest.mark.parametrize(
    ("name", "value"), [("JOB_TTL_DAYS", "0"), ("JOBSTATE_PORT", "http"), ("REDIS_PORT", "6379"), ("LOG_LEVEL", "loud")]
)
@pytest.mark.parametrize("args", [[], ["serve"]])
def test_an_invalid_variable_stops_the_start_with_a_message(args: list[str], name: str, value: str) -> None:
    result = run(*args, environ={name: value})
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {name}={value!r} is not allowed; allowed: ")
    assert "Traceback" not in result.output


def test_an_invalid_option_stops_the_start_and_is_named_with_its_variable() -> None:
    result = run("--job-ttl-days", "366", environ={"JOB_TTL_DAYS": "7"})
    shown = "Error: `--job-ttl-days` (`JOB_TTL_DAYS`): '366' is not allowed"
    assert (result.exit_code, result.output.split(";")[0]) == (1, shown)


def test_an_unknown_option_is_rejected() -> None:
    result = run("--no-such-option")
    assert (result.exit_code, "No such option" in result.output) == (2, True)


def test_a_data_directory_that_cannot_be_created_stops_the_start_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--data", str(tmp_path / "file" / "jobs"))
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert isinstance(result.exception, SystemExit)


def test_the_default_command_serves_on_the_configured_redis_and_prints_its_url(started: Started) -> None:
    result = run("--port", "9000", environ={"REDIS_HOST": "redis", "JOBSTATE_PORT": "8001"})
    assert result.exit_code == 0, result.output
    [(name, settings, url)] = started
    assert (name, settings.port, url) == ("Server", 9000, "redis://redis:6379/0")
    assert re.match(r"jobstate 0\.3\.0 listens on http://127\.0\.0\.1:\d+\n", result.output)
    assert "redis://redis:6379/0" in result.output


def test_the_password_of_a_redis_is_not_shown(started: Started) -> None:
    result = run(environ={"REDIS_URL": "rediss://user:p@ss@redis:6380/1"})
    assert result.exit_code == 0
    assert started[0][2] == "rediss://user:p@ss@redis:6380/1"
    assert "rediss://***@redis:6380/1" in result.output
    assert "p@ss" not in result.output


@pytest.mark.parametrize(("workers", "name"), [("1", "Server"), ("2", "Supervisor")])
def test_several_processes_run_under_a_supervisor(started: Started, workers: str, name: str) -> None:
    assert run("--workers", workers, environ={"REDIS_HOST": "redis"}).exit_code == 0
    assert [(one, settings.workers) for one, settings, _ in started] == [(name, int(workers))]


@pytest.mark.parametrize(
    ("environ", "given", "expected"),
    [
        ({}, {}, {}),
        ({"HOME": "/"}, {"LOG_LEVEL": None}, {"HOME": "/"}),
        ({"LOG_LEVEL": "info"}, {"LOG_LEVEL": None}, {"LOG_LEVEL": "info"}),
        ({"LOG_LEVEL": "info"}, {"LOG_LEVEL": "debug"}, {"LOG_LEVEL": "debug"}),
        ({"REDIS_URL": "redis://far"}, {"REDIS_HOST": "near"}, {"REDIS_HOST": "near"}),
        ({"REDIS_URL": "redis://far"}, {"REDIS_HOST": None}, {"REDIS_URL": "redis://far"}),
        ({"REDIS_HOST": "near"}, {"REDIS_URL": "redis://a"}, {"REDIS_HOST": "near", "REDIS_URL": "redis://a"}),
        ({}, {"REDIS_HOST": "near", "REDIS_URL": "redis://a"}, {"REDIS_HOST": "near", "REDIS_URL": "redis://a"}),
        ({"JOB_TTL_SECONDS": "60"}, {"JOB_TTL_DAYS": "3"}, {"JOB_TTL_DAYS": "3"}),
        ({"JOB_TTL_DAYS": "3"}, {"JOB_TTL_SECONDS": "60"}, {"JOB_TTL_DAYS": "3", "JOB_TTL_SECONDS": "60"}),
    ],
)
def test_an_option_overrides_its_variable_and_the_one_that_would_override_it(
    environ: dict[str, str], given: dict[str, str | None], expected: dict[str, str]
) -> None:
    assert merge_environment(environ, given) == expected
