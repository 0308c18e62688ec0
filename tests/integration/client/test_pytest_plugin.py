"""The pytest plugin runs the tests of applications: those of docs/clients.md, and some of every fixture."""

import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_jobstate import JobstateServer
from tests.helpers.paths import ROOT
from tests.helpers.polling import wait_until

pytest_plugins = ("pytester",)

OPTIONS = ("-p", "no:valkey", "-p", "no:cacheprovider", "-W", "error")
#: The environment of the tests must not reach the service.
HOSTILE_ENVIRONMENT = {
    "REDIS_URL": "redis://127.0.0.1:1",
    "API_KEYS": "wrong",
    "RATE_LIMIT": "1/day",
    "JOBSTATE_DATA": "/nowhere",
    "JOBSTATE_URL": "http://127.0.0.1:1",
    "JOBSTATE_API_KEY": "a" * 43,
}

APPLICATION_TESTS = """
import os

import httpx
import pytest

from jobstate import Jobs, JobFailed


def double(context):
    return context.input_params * 2


@pytest.fixture(scope="session")
def app(jobstate_url):
    return {"url": jobstate_url}


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_starts_empty(jobs, jobstate_server, number):
    with httpx.Client(base_url=jobstate_server.url) as http:
        assert jobs.stats().queues == {}
        assert http.get("/v1/queues").json()["items"] == []
        assert http.get("/v1/drain").json()["draining"] is False
        assert http.post("/v1/claims", json={"queues": ["default"], "worker": "ann"}).status_code == 204
        jobs.submit(number, id="same")
        jobs.submit(number, idempotency_key="same")
        claim = http.post("/v1/claims", json={"queues": ["default"], "worker": str(number)},
                          headers={"Idempotency-Key": "same"})
        assert claim.json()["job"]["input_params"] == number
        http.put("/v1/queues/default", json={"paused": True, "max_running": 1}).raise_for_status()
        http.post("/v1/drain", json={}).raise_for_status()


def test_the_job_and_its_queue_survive_a_restart(jobs, jobstate_server, jobstate_worker):
    job = jobs.submit(21, queue="numbers")
    url = jobstate_server.url
    jobstate_server.restart()
    assert jobstate_server.url == url
    assert job.refresh().status == "pending"
    assert jobstate_worker(double, ["numbers"]).run_one().id == job.id
    assert job.wait(10) == 42


def test_an_event_stream_goes_on_after_the_jobs_were_deleted(jobs, jobstate_server):
    jobs.submit(1, id="first")
    with httpx.stream("GET", jobstate_server.url + "/v1/events", timeout=10) as response:
        lines = (line for line in response.iter_lines() if line.startswith("event:"))
        assert next(lines) == "event: hello"
        jobs.submit(2, id="second")
        assert next(lines) == "event: changed"
        jobstate_server.empty()
        jobs.submit(3, id="third")
        assert next(lines) == "event: changed"


def test_a_stopped_service_does_not_respond(jobstate_server):
    jobstate_server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(jobstate_server.url + "/health")


def test_it_was_started_again(jobs, app, jobstate_server):
    assert app["url"] == jobstate_server.url
    assert jobs.stats().queues == {}


def test_the_application_finds_the_service_by_the_environment():
    with pytest.raises(Exception, match="127.0.0.1:1 cannot be reached"), Jobs(timeout=0.1) as jobs:
        jobs.stats()


def test_the_application_finds_the_service_by_the_environment_of_the_fixture(jobstate_server):
    assert "JOBSTATE_API_KEY" not in os.environ
    with Jobs() as jobs:
        assert jobs.stats().queues == {}


def test_a_worker_runs_one_job_or_all(jobs, jobstate_worker):
    first, *others = [jobs.submit(number) for number in range(3)]
    worker = jobstate_worker(double)
    assert worker.run_one().id == first.id
    assert [job.status for job in jobs.list()] == ["pending", "pending", "completed"]
    assert [job.id for job in worker.run_all()] == [job.id for job in others]
    assert worker.run_one() is None
    assert worker.run_all() == []
    assert jobs.wait_all([first, *others], timeout=10) == [0, 2, 4]


def test_an_exception_ends_the_attempt(jobs, jobstate_worker):
    job = jobs.submit(None, max_attempts=3, retry_delay_seconds=0)
    worker = jobstate_worker(double)
    assert worker.run_one().status == "pending"
    assert [(each.id, each.status) for each in worker.run_all()] == [(job.id, "failed")]
    with pytest.raises(JobFailed, match="TypeError"):
        job.wait(10)


@pytest.mark.anyio
async def test_a_worker_runs_in_the_event_loop_of_the_test(anyio_backend, jobs, jobstate_worker):
    import asyncio

    loop = asyncio.get_running_loop()

    async def is_same_loop(context):
        return asyncio.get_running_loop() is loop

    for number in range(3):
        jobs.submit(number)
    worker = jobstate_worker(is_same_loop)
    assert (await worker.async_run_one()).record.result is True
    assert [job.record.result for job in await worker.async_run_all()] == [True, True]
    assert await worker.async_run_one() is None
"""

CONFTEST = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.fixture(autouse=True)
def environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_tests_of_applications_and_those_in_the_documents_pass(pytester: pytest.Pytester, processes: str) -> None:
    text = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL))
    assert set(files) == {"test_greetings", "test_async_greetings", "conftest"}
    files["conftest"] += CONFTEST
    pytester.makepyfile(test_application=APPLICATION_TESTS, **files)
    result = pytester.runpytest_subprocess(*OPTIONS, "-n", processes)
    result.assert_outcomes(passed=16)


def test_the_report_of_a_failed_test_has_the_log_of_the_service_during_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_before(jobs):
            jobs.submit(1, correlation_id="before")
            jobs.stats()

        def test_failing(jobs):
            jobs.submit(1, correlation_id="during")
            raise AssertionError
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1, failed=1)
    [log] = re.findall(r"Captured jobstate log teardown -*\n(.*)", result.stdout.str(), re.DOTALL)
    assert "correlation_id=during" in log
    assert "correlation_id=before" not in log
    assert "\x1b" not in log


def test_the_log_is_waited_for_until_the_service_answers_another_request(tmp_path: Path) -> None:
    server = JobstateServer(tmp_path, {})
    (tmp_path / "service.log").write_text("first\n")

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, (tmp_path / "service.log").open("a") as log:
            connection.recv(1024)
            time.sleep(0.1)
            log.write("last\n")
            log.flush()
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answered = pool.submit(answer, listener)
        server.wait_for_log()
        assert server.log() == "first\nlast\n"
        answered.result()


def test_a_service_that_does_not_start_shows_its_log(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def jobstate_settings():
            return {"JOB_TTL_DAYS": "0"}

        def test_it(jobs): ...
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*The jobstate service exited with code 1. Its log:", "*JOB_TTL_DAYS*"])


def test_without_the_service_the_error_says_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    pytester.makepyfile(
        """
        import sys

        def test_it(monkeypatch, request):
            monkeypatch.setattr(sys, "executable", "/nowhere/python")
            request.getfixturevalue("jobs")
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*The command `jobstate` was not found *Install `jobstate-server?embedded?`*"])


def test_another_redis_is_refused_because_its_jobs_would_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="remove REDIS_URL"):
        JobstateServer(tmp_path, {"REDIS_URL": "redis://127.0.0.1"})


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_the_service_ends_with_the_tests(pytester: pytest.Pytester, ending: signal.Signals) -> None:
    pytester.makepyfile(
        f"""
        import os, time

        def test_it(jobstate_server):
            print("listening on", jobstate_server.url, flush=True)
            os.kill(os.getpid(), {int(ending)})
            time.sleep(60)
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "-s")
    found = re.search(r"listening on \S+:(\d+)", result.stdout.str())
    assert found

    def is_gone() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", int(found[1]))) != 0

    wait_until(is_gone, "the end of the service")
    assert result.ret != 0


def test_a_run_that_does_not_use_the_plugin_does_not_import_the_client(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("jobstate")
            assert not {"jobstate", "httpx", "msgspec", "service"} & sys.modules.keys()
        """
    )
    pytester.runpytest_subprocess(*OPTIONS, "-p", "no:schemathesis", "-p", "no:anyio").assert_outcomes(passed=1)
