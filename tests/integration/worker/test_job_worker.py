"""`jobstate.Worker` with the real service, in threads and in processes that are killed."""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobstate import AsyncJobs, JobContext, RequestRejected, Worker
from service.domain.timestamps import format_timestamp, parse_timestamp
from tests.helpers import job_functions as functions
from tests.helpers.deployments import sync_client
from tests.helpers.guards import Guard
from tests.helpers.partitions import job_key
from tests.helpers.paths import ROOT
from tests.helpers.polling import TIMEOUT, free_port, wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service
from tests.integration.server.test_supervisor import children, is_alive
from tests.integration.store.events.test_claim_waiter import waits

pytestmark = pytest.mark.usefixtures("consistent_store")


@pytest.fixture(autouse=True)
def progress_is_sent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobstate.worker.attempt.PROGRESS_INTERVAL", functions.PROGRESS_INTERVAL)


@contextlib.contextmanager
def working(url: str, function: Callable[[JobContext], Any], **options: Any) -> Iterator[Worker]:
    """Run a worker in a thread during the block."""
    worker = Worker(url, ["default"], function, **{"lease_seconds": 5, **options})
    worker_thread = threading.Thread(target=lambda: asyncio.run(worker.serve()))
    worker_thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        worker_thread.join(TIMEOUT)
        assert not worker_thread.is_alive()


class WorkerProcess:
    """A worker in its own process, with its log in a file."""

    def __init__(
        self,
        folder: Path,
        url: str,
        function: str,
        executor: str = "thread",
        lease_seconds: int = 5,
        drain_seconds: float = 30,
    ) -> None:
        self._log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
        command = [sys.executable, "-m", "tests.helpers.job_functions"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, url, function, executor, str(lease_seconds), str(drain_seconds)],
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        self._guard = Guard(self.process, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def children(self) -> list[int]:
        """The ids of the processes that run its functions."""
        return [pid for pid, command in children(self.process.pid).items() if b"spawn_main" in command]

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._guard.close()


def create(api: httpx.Client, job_id: str = "j1", steps: int = 3, until: Path | None = None, **fields: object) -> None:
    """Create a job for `functions.count`, which ends when the file `until` exists."""
    body = {"job_id": job_id, "input_params": {"steps": steps, **({"until": str(until)} if until else {})}, **fields}
    assert api.post("/v1/jobs", json=body).status_code == 201


def job(api: httpx.Client, job_id: str = "j1") -> dict[str, Any]:
    return dict(api.get(f"/v1/jobs/{job_id}").json())


def in_status(api: httpx.Client, status: str, job_id: str = "j1") -> dict[str, Any]:
    wait_until(lambda: job(api, job_id)["status"] == status, f"{status} of {job_id}")
    return job(api, job_id)


def in_end(api: httpx.Client, job_id: str = "j1") -> dict[str, Any]:
    """Wait until the job is completed, and return it."""
    wait_until(lambda: job(api, job_id)["status"] in {"completed", "failed"}, f"the end of {job_id}")
    assert job(api, job_id)["status"] == "completed", job(api, job_id)
    return job(api, job_id)


def started(api: httpx.Client) -> dict[str, Any]:
    """Wait until the job has progress, and return it."""
    return dict(wait_until(lambda: (found := job(api)).get("progress") and found, "progress"))


@pytest.mark.parametrize(
    ("function", "executor"),
    [(functions.count, "thread"), (functions.count_blocking, "thread"), (functions.count_blocking, "process")],
    ids=["async", "thread", "process"],
)
class TestAsyncThreadAndProcess:
    def test_a_job_is_claimed_and_completed(
        self, api: httpx.Client, function: Callable[[JobContext], Any], executor: str
    ) -> None:
        create(api)
        with working(str(api.base_url), function, executor=executor, worker="ann"):
            done = in_status(api, "completed")
        assert (done["result"]["counted"], done["result"]["attempt"], done["worker"]) == (3, 1, "ann")
        assert (done["result"]["by"] == os.getpid()) is (executor == "thread")
        assert done["progress"] == {"current": 3, "total": 3, "message": "step 3"}

    def test_a_cancel_request_stops_the_function(
        self, api: httpx.Client, function: Callable[[JobContext], Any], executor: str
    ) -> None:
        create(api, steps=1000)
        with working(str(api.base_url), function, executor=executor):
            started(api)
            assert api.post("/v1/jobs/j1/cancel").status_code == 202
            cancelled = in_status(api, "cancelled")
        assert (cancelled["failures"], "result" in cancelled) == (0, False)

    def test_a_job_with_a_lost_lease_is_abandoned(
        self, api: httpx.Client, redis_url: str, function: Callable[[JobContext], Any], executor: str
    ) -> None:
        create(api, steps=1000)
        with working(str(api.base_url), function, executor=executor):
            started(api)
            taken = release(api, token_of(redis_url))
            create(api, "next")
            in_status(api, "completed", "next")  # by the same worker, which runs one job at a time
            assert multiprocessing.active_children() == []
        assert job(api)["revision"] == taken["revision"]

    def test_a_run_timeout_stops_the_function(
        self, api: httpx.Client, function: Callable[[JobContext], Any], executor: str
    ) -> None:
        create(api, steps=1000, run_timeout_seconds=1)
        with working(str(api.base_url), function, executor=executor):
            timed_out = in_status(api, "failed")
            create(api, "next")
            in_status(api, "completed", "next")  # by the same worker, which runs one job at a time
            assert multiprocessing.active_children() == []
        assert timed_out["error_message"]["type"] == "urn:jobstate:problem:run-timeout"
        assert timed_out["finished_at"] >= format_timestamp(parse_timestamp(timed_out["started_at"]) + 1_000_000)
        assert job(api)["revision"] == timed_out["revision"], "the worker reports nothing"


def test_a_worker_stops_a_function_at_its_run_timeout_without_the_service(
    api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = threading.Event()

    async def wait(context: JobContext) -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            stopped.set()

    create(api, run_timeout_seconds=1)
    with caplog.at_level(logging.INFO, "jobstate"), working(str(api.base_url), wait, lease_seconds=3600):
        assert stopped.wait(TIMEOUT)  # the next heartbeat is due in 20 minutes
        wait_until(lambda: "job j1: stopped at its run time-out" in caplog.messages, "the log")


def test_a_process_with_a_lost_lease_is_killed(api: httpx.Client, redis_url: str) -> None:
    create(api)
    with working(str(api.base_url), functions.sleep_forever, executor="process"):
        started(api)
        assert len(multiprocessing.active_children()) == 1
        release(api, token_of(redis_url))
        wait_until(lambda: not multiprocessing.active_children(), "the end of the process")
    assert job(api)["status"] == "pending"


def token_of(redis_url: str, job_id: str = "j1") -> str:
    with sync_client(redis_url, decode_responses=True) as client:
        return str(client.hget(job_key(job_id), "_token"))


def release(api: httpx.Client, token: str) -> dict[str, Any]:
    """Release the job with the worker's token, delayed by an hour."""
    response = api.post("/v1/jobs/j1/release", json={"delay_seconds": 3600}, headers={"Lease-Token": token})
    assert response.status_code == 200
    return dict(response.json())


def test_a_function_may_complete_after_a_cancel_request(api: httpx.Client) -> None:
    create(api)
    with working(str(api.base_url), functions.return_despite_cancellation):
        in_status(api, "running")
        api.post("/v1/jobs/j1/cancel")
        assert in_status(api, "completed")["result"] == "done all the same"


def test_a_cancelled_function_may_clean_up_for_longer_than_a_heartbeat(
    api: httpx.Client, attempts: list[httpx.Request]
) -> None:
    cleaned = threading.Event()

    async def clean_up(context: JobContext) -> None:
        context.progress(0)
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            before = len(attempts)
            for step in range(int(TIMEOUT / 0.1)):
                context.progress(step)
                await asyncio.sleep(0.1)
                if len(attempts) >= before + 3:  # heartbeats
                    cleaned.set()
                    break

    create(api)
    with working(str(api.base_url), clean_up):
        started(api)
        api.post("/v1/jobs/j1/cancel")
        in_status(api, "cancelled")
    assert cleaned.is_set()


def test_a_thread_that_exceeds_the_drain_time_is_asked_to_stop(api: httpx.Client) -> None:
    stopped = threading.Event()

    def look(context: JobContext) -> None:
        context.progress(0)
        while not context.cancel_requested:
            time.sleep(0.01)
        stopped.set()

    create(api)
    with working(str(api.base_url), look, drain_seconds=0.1):
        started(api)
    assert stopped.wait(TIMEOUT)
    assert (job(api)["status"], job(api)["failures"]) == ("pending", 0)


def test_an_exception_counts_as_a_failed_attempt_and_the_next_may_succeed(api: httpx.Client) -> None:
    create(api, max_attempts=2)
    with working(str(api.base_url), functions.fail_once):
        done = in_status(api, "completed")
    assert (done["result"], done["failures"]) == (2, 1)


@pytest.mark.parametrize(
    ("function", "executor", "error"),
    [
        (functions.fail_once, "thread", {"type": "RuntimeError", "message": "stumbled"}),
        (functions.exit_process, "process", {"type": "ProcessDied", "message": "the process exited with code 3"}),
        (
            functions.send_unreadable_progress,
            "process",
            {"type": "ProcessDied", "message": "the process sent an unreadable message: ValueError"},
        ),
    ],
    ids=["raises", "exits", "sends garbage"],
)
def test_the_error_of_the_last_attempt_is_recorded(
    api: httpx.Client, function: Callable[[JobContext], Any], executor: str, error: dict[str, str]
) -> None:
    create(api)
    with working(str(api.base_url), function, executor=executor):
        failed = in_status(api, "failed")
    assert failed["error_message"]["type"] == error["type"]
    assert failed["error_message"]["message"].startswith(error["message"])
    assert failed["failures"] == 1


def test_a_process_may_report_progress_from_several_threads(api: httpx.Client) -> None:
    for number in range(2):
        create(api, f"j{number}")
    with working(str(api.base_url), functions.report_from_several_threads, executor="process"):
        for number in range(2):
            assert len(in_end(api, f"j{number}")["result"]) == 50_000


UNGUARDED = """
import sys
from jobstate import Worker

def double(context):
    return context.input_params * 2

Worker(sys.argv[1], ["default"], double, executor="process", lease_seconds=5).run()
"""


def test_a_job_of_an_unguarded_worker_fails_with_the_reason_and_no_second_worker_starts(
    api: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    create(api)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "unguarded.py", str(api.base_url)], stderr=log, cwd=tmp_path)
    with contextlib.closing(Guard(process, signal.SIGKILL)):
        try:
            failed = in_status(api, "failed")
            process.terminate()
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
            process.wait()
    assert failed["attempt"] == 1
    assert failed["error_message"]["type"] == "ProcessDied"
    assert 'under `if __name__ == "__main__":`' in failed["error_message"]["message"]
    assert "RuntimeError: a process of a job function imports the main module" in (tmp_path / "log").read_text()


def test_a_process_may_start_processes(api: httpx.Client) -> None:
    create(api)
    with working(str(api.base_url), functions.use_a_process_pool, executor="process"):
        assert in_end(api)["result"] == [1, 2]


async def wait_for_failed_child(context: JobContext) -> object:
    async with AsyncJobs(context.input_params) as jobs:
        child = await jobs.get("child")
        return await child.wait(TIMEOUT)


def test_a_failed_child_job_counts_as_a_failed_attempt_of_the_job_that_waits_for_it(api: httpx.Client) -> None:
    create(api, "child")
    api.patch("/v1/jobs/child", json={"status": "running"}).raise_for_status()
    failed = {"status": "failed", "error_message": "no such slate"}
    api.patch("/v1/jobs/child", json=failed).raise_for_status()
    body = {"job_id": "j1", "input_params": str(api.base_url), "max_attempts": 2, "retry_delay_seconds": 0}
    api.post("/v1/jobs", json=body).raise_for_status()
    with working(str(api.base_url), wait_for_failed_child):
        ended = in_status(api, "failed")
    assert (ended["attempt"], ended["failures"]) == (2, 2)
    assert ended["error_message"] == {"type": "JobFailed", "message": "job child failed: no such slate"}


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_function_can_fail_a_job_for_good(api: httpx.Client, executor: str) -> None:
    create(api, max_attempts=3)
    with working(str(api.base_url), functions.raise_permanent_failure, executor=executor):
        failed = in_status(api, "failed")
    assert failed["error_message"] == {"type": "invalid-input", "message": "no such slate", "field": "slate_id"}
    assert failed["attempt"] == 1


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (functions.raise_a_surrogate, r"no such file: \udcff.txt"),
        (functions.raise_a_long_text, "xxxx"),
        (functions.fail_in_an_executor, r"no such file: \udcff.txt"),
    ],
    ids=["surrogate", "long text", "executor"],
)
def test_an_error_that_cannot_be_sent_as_it_is_counts_as_one_failed_attempt(
    api: httpx.Client, function: Callable[[JobContext], Any], text: str, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist sends reports as UTF-8, and these tracebacks have lone surrogates.
    monkeypatch.setattr(logging.getLogger("jobstate"), "disabled", True)
    create(api, max_attempts=3, retry_delay_seconds=3600)
    with working(str(api.base_url), function, executor=executor):
        released = wait_until(lambda: (found := job(api))["failures"] and found, "a failed attempt")
    assert (released["status"], released["failures"]) == ("pending", 1)
    create(api, "last")
    with working(str(api.base_url), function, executor=executor):
        error = in_status(api, "failed", "last")["error_message"]
    assert error["type"] == "ValueError"
    assert error["message"].startswith(text)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (functions.return_too_much, "the result cannot be sent: The body exceeds the limit"),
        (functions.return_far_too_much, "the result cannot be sent: "),
        (functions.return_nan, "the result cannot be sent: Out of range float values are not JSON compliant"),
        (functions.return_a_surrogate, "the result cannot be sent: it has the lone surrogate U+DCFF"),
        (
            functions.return_too_many_levels,
            "the result cannot be sent: `result`: it is 250 levels deep",
        ),
        (functions.fail_with_a_surrogate, "the `error_message` of `PermanentFailure` cannot be sent: it has the lone"),
        (
            functions.fail_with_a_long_text,
            "the `error_message` of `PermanentFailure` cannot be sent: The body exceeds the limit",
        ),
        (
            functions.fail_with_too_many_levels,
            "the `error_message` of `PermanentFailure` cannot be sent: `error_message`: it is ",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_outcome_that_cannot_be_sent_fails_the_job_with_the_reason(
    api: httpx.Client, function: Callable[[JobContext], Any], message: str
) -> None:
    create(api, max_attempts=3)
    with working(str(api.base_url), function):
        failed = in_status(api, "failed")
    assert failed["error_message"]["message"].startswith(message)
    assert failed["attempt"] == 1


def test_long_integers_are_received_and_sent_exactly(api: httpx.Client) -> None:
    digits = "1" + "0" * 4_000 + "7"
    body = f'{{"job_id": "j1", "input_params": [{digits}, {2**53 + 1}]}}'
    assert api.post("/v1/jobs", content=body).status_code == 201
    with working(str(api.base_url), functions.return_its_input):
        in_status(api, "completed")
    assert api.get("/v1/jobs/j1/result").text == f"[{digits},{2**53 + 1}]"


def test_a_too_long_integer_does_not_stop_the_worker(api: httpx.Client) -> None:
    body = f'{{"job_id": "j1", "input_params": {"9" * 5_000}}}'
    plain = {"Content-Type": "application/json"}  # `api` parses every response
    assert httpx.post(f"{api.base_url}/v1/jobs", content=body, headers=plain).status_code == 201

    def listed() -> dict[str, Any]:
        return dict(api.get("/v1/jobs").json()["items"][0])  # without the input

    with working(str(api.base_url), functions.return_its_input):
        wait_until(lambda: listed()["status"] == "failed", "the end of j1")
    assert "Decimal is not JSON serializable" in listed()["error_message"]["message"]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_invalid_progress_does_not_fail_the_job(api: httpx.Client, executor: str) -> None:
    create(api)
    with working(str(api.base_url), functions.report_what_cannot_be_sent, executor=executor):
        done = in_end(api)
    assert done["result"] == "done"
    assert done["progress"] == {"current": 1, "message": r"\udcff " + "x" * 1_014 + "…"}


def test_heartbeats_extend_the_lease_while_the_function_runs(api: httpx.Client) -> None:
    create(api)

    def wait(context: JobContext) -> str:
        return str(go_on.wait(TIMEOUT))

    go_on = threading.Event()
    with working(str(api.base_url), wait):
        first = in_status(api, "running")["lease_expires_at"]
        wait_until(lambda: job(api)["lease_expires_at"] > first, "a heartbeat")
        assert job(api)["revision"] == 2
        go_on.set()
        in_status(api, "completed")


def test_concurrency_is_the_number_of_concurrent_jobs(api: httpx.Client) -> None:
    for number in range(4):
        create(api, f"j{number}")
    barrier = threading.Barrier(2)

    def meet(context: JobContext) -> int:
        return barrier.wait(TIMEOUT)

    with working(str(api.base_url), meet, concurrency=2):
        for number in range(4):
            in_status(api, "completed", f"j{number}")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_loopback_service_is_reached_without_a_proxy(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    create(api, steps=1)
    with working(str(api.base_url), functions.count):
        in_status(api, "completed")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """Record the requests that workers sent or tried to send."""
    requests: list[httpx.Request] = []
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def note(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return await handle(transport, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", note)
    return requests


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """Record the requests that workers sent, and lose the first response to each."""
    requests: list[httpx.Request] = []
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def lose_first(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        is_first = key not in {request.headers["Idempotency-Key"] for request in requests}
        requests.append(request)
        response = await handle(transport, request)
        if is_first and response.status_code != 204:
            await response.aread()
            raise httpx.ReadError("the reply was lost")
        return response

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", lose_first)
    return requests


def test_lost_responses_change_nothing(api: httpx.Client, sent: list[httpx.Request]) -> None:
    create(api, steps=5, correlation_id="request-7")
    with working(str(api.base_url), functions.count):
        done = in_status(api, "completed")
    assert (done["attempt"], done["failures"], done["result"]["counted"]) == (1, 0, 5)
    assert sum(request.url.path.endswith("/heartbeat") for request in sent) >= 2
    changes = [request for request in sent if request.method == "PATCH"]
    assert [request.headers["Idempotency-Key"] for request in changes] == [changes[0].headers["Idempotency-Key"]] * 2
    assert {request.headers["X-Correlation-ID"] for request in sent if "j1" in request.url.path} == {"request-7"}


def test_a_lost_response_to_a_release_changes_nothing(api: httpx.Client, sent: list[httpx.Request]) -> None:
    create(api, max_attempts=2, retry_delay_seconds=3600)
    with working(str(api.base_url), functions.fail_once):
        wait_until(lambda: sum(request.url.path.endswith("/release") for request in sent) == 2, "the repetition")
    assert (job(api)["status"], job(api)["failures"]) == ("pending", 1)


def test_a_rejected_claim_ends_the_worker(api: httpx.Client) -> None:
    worker = Worker(str(api.base_url), ["no queue"], functions.count)
    with pytest.raises(RequestRejected, match="invalid-request"):
        worker.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_finish_and_stops_claiming(
    api: httpx.Client, tmp_path: Path, number: signal.Signals
) -> None:
    until = tmp_path / "until"
    create(api, until=until)
    with WorkerProcess(tmp_path, str(api.base_url), "count") as worker:
        started(api)
        create(api, "next")
        worker.process.send_signal(number)
        wait_until(lambda: "waiting up to" in worker.log, "the drain")
        until.touch()
        assert worker.process.wait(TIMEOUT) == 0
    assert (job(api)["status"], job(api)["attempt"]) == ("completed", 1)
    assert (job(api, "next")["status"], job(api, "next")["attempt"]) == ("pending", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("soon", [True, False], ids=["while its process starts", "while it runs"])
def test_a_signal_to_the_process_group_lets_a_process_finish_its_job(
    api: httpx.Client, tmp_path: Path, number: signal.Signals, soon: bool
) -> None:
    create(api, steps=10)
    with WorkerProcess(tmp_path, str(api.base_url), "count_blocking", "process") as worker:
        wait_until(lambda: worker.children, "the process") if soon else started(api)
        os.killpg(worker.process.pid, number)
        assert worker.process.wait(TIMEOUT) == 0
    assert in_end(api)["result"]["counted"] == 10


@pytest.mark.parametrize(
    ("function", "executor"),
    [("count", "thread"), ("count_blocking", "thread"), ("count_blocking", "process"), ("sleep_forever", "process")],
)
def test_a_job_that_exceeds_the_drain_time_is_released_without_a_failure(
    api: httpx.Client, tmp_path: Path, function: str, executor: str
) -> None:
    create(api, steps=1000)
    with WorkerProcess(tmp_path, str(api.base_url), function, executor, drain_seconds=0.5) as worker:
        started(api)
        worker.process.terminate()
        assert worker.process.wait(TIMEOUT) == 0
    assert (job(api)["status"], job(api)["failures"], "error_message" in job(api)) == ("pending", 0, False)


@pytest.mark.parametrize(
    "function",
    [
        "wait_for_a_thread",
        "ignore_cancellation",
        "delegate_to_a_task_that_ignores_cancellation",
        "ignore_every_exception",
    ],
)
def test_a_worker_exits_even_if_its_function_does_not_stop(api: httpx.Client, tmp_path: Path, function: str) -> None:
    create(api)
    with WorkerProcess(tmp_path, str(api.base_url), function, drain_seconds=0.5) as worker:
        started(api)
        worker.process.terminate()
        assert worker.process.wait(10) == 0
    assert (job(api)["status"], job(api)["failures"]) == ("pending", 0)


def test_the_function_of_a_released_job_stops_although_the_loop_continues(api: httpx.Client) -> None:
    create(api)
    contexts: list[JobContext] = []

    async def ignore_cancellation(context: JobContext) -> object:
        contexts.append(context)
        return await functions.ignore_cancellation(context)

    async def main() -> None:
        serving = asyncio.create_task(worker.serve())
        await asyncio.to_thread(started, api)
        worker.stop()
        await serving
        (context,) = contexts
        last = context.latest
        await asyncio.sleep(0.5)
        assert context.latest is last

    worker = Worker(str(api.base_url), ["default"], ignore_cancellation, drain_seconds=0.1)
    ending = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    ending.start()
    ending.join(10)
    assert not ending.is_alive()
    assert job(api)["status"] == "pending"


def test_signal_handlers_are_restored_once_no_job_runs(api: httpx.Client) -> None:
    create(api)
    handlers = []
    tasks = []

    async def leave_a_task(context: JobContext) -> None:
        async def finish_late() -> None:
            try:
                await asyncio.sleep(TIMEOUT)
            finally:
                handlers.extend([signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)])

        tasks.append(asyncio.create_task(finish_late()))
        worker.stop()

    worker = Worker(str(api.base_url), ["default"], leave_a_task)
    worker.run()
    assert handlers == [signal.SIG_DFL, signal.default_int_handler]
    assert job(api)["status"] == "completed"


def test_a_second_signal_releases_the_running_job_at_once(api: httpx.Client, tmp_path: Path) -> None:
    create(api, steps=1000)
    with WorkerProcess(tmp_path, str(api.base_url), "count", drain_seconds=TIMEOUT * 2) as worker:
        started(api)
        worker.process.terminate()
        wait_until(lambda: "waiting up to" in worker.log, "the drain")
        worker.process.terminate()
        assert worker.process.wait(TIMEOUT) == 0
    assert (job(api)["status"], job(api)["failures"]) == ("pending", 0)


def test_an_idle_worker_ends_at_once(api: httpx.Client, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, str(api.base_url), "count") as worker:
        wait_until(lambda: "waiting for jobs" in worker.log, "the worker")
        worker.process.terminate()
        assert worker.process.wait(5) == 0


def test_a_waiting_worker_gets_a_new_job_at_once_with_a_single_claim(
    api: httpx.Client, sent: list[httpx.Request]
) -> None:
    with working(str(api.base_url), functions.count):
        waits(api, 1)
        assert [request.url.path for request in sent] == ["/v1/batch-claim"]
        created = time.monotonic()
        create(api, steps=1)
        in_status(api, "completed")
        assert time.monotonic() - created < 10, "long before the claim times out"


def test_claims_that_do_not_wait_are_a_second_apart(api: httpx.Client, attempts: list[httpx.Request]) -> None:
    with working(str(api.base_url), functions.count, wait_seconds=0):
        wait_until(lambda: attempts, "the first claim")
        time.sleep(2.5)
        assert 2 <= len(attempts) <= 3


@pytest.mark.parametrize("slots", [1, 5])
def test_all_jobs_whose_claim_response_is_late_at_a_stop_are_released(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    names = [f"j{number}" for number in range(slots)]
    for name in names:
        create(api, name)
    claimed = threading.Event()
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def hold_the_first(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        response = await handle(transport, request)
        if not claimed.is_set():
            claimed.set()
            await asyncio.sleep(TIMEOUT)
        return response

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", hold_the_first)
    with working(str(api.base_url), functions.count, concurrency=slots):
        assert claimed.wait(TIMEOUT)
    found = [job(api, name) for name in names]
    assert {(one["status"], one["attempt"], one["failures"]) for one in found} == {("pending", 1, 0)}


def test_a_worker_of_eight_slots_claims_eight_jobs_at_a_time(
    api: httpx.Client, attempts: list[httpx.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobstate.worker.claims.CLAIM_DELAY", TIMEOUT)  # however slow the machine is
    for number in range(40):
        create(api, f"j{number}", steps=0)
    assert Worker(str(api.base_url), ["default"], functions.count, concurrency=8).run_until_idle() == 40
    claims = [json.loads(request.content) for request in attempts if request.url.path == "/v1/batch-claim"]
    assert [claim["max_jobs"] for claim in claims] == [8] * 6, "the last one gets no job"


def test_a_lost_claim_response_gives_the_same_jobs_again(api: httpx.Client, sent: list[httpx.Request]) -> None:
    names = [f"j{number}" for number in range(6)]
    for name in names:
        create(api, name, steps=0)
    assert Worker(str(api.base_url), ["default"], functions.count, concurrency=6).run_until_idle() == 6
    found = [job(api, name) for name in names]
    assert {(one["status"], one["attempt"], one["failures"]) for one in found} == {("completed", 1, 0)}
    claims = [request.headers["Idempotency-Key"] for request in sent if request.url.path == "/v1/batch-claim"]
    assert claims[0] == claims[1]


def test_a_result_whose_request_is_interrupted_by_the_stop_is_sent_again(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(api)
    done = threading.Event()
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def lose_the_first_result(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH" and not done.is_set():
            done.set()
            await asyncio.sleep(TIMEOUT)
        return await handle(transport, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", lose_the_first_result)
    with working(str(api.base_url), functions.count, drain_seconds=0.1):
        assert done.wait(TIMEOUT)
    assert (job(api)["status"], job(api)["result"]["counted"]) == ("completed", 3)


def test_a_stop_repeats_an_unanswered_claim_once(api: httpx.Client, attempts: list[httpx.Request]) -> None:
    with working(str(api.base_url), functions.count):
        waits(api, 1)
    assert [json.loads(request.content)["wait_seconds"] for request in attempts] == [20, 0]
    assert len({request.headers["Idempotency-Key"] for request in attempts}) == 1


def test_a_stop_repeats_no_claim_that_was_never_sent(attempts: list[httpx.Request]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with working(f"http://127.0.0.1:{port}", functions.count):
        wait_until(lambda: len(attempts) == 4, "the pause after the fourth attempt")
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 4
    assert len(attempts) == 4


def test_a_stop_repeats_a_claim_once_if_the_service_disappears(attempts: list[httpx.Request]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with working(f"http://127.0.0.1:{server.getsockname()[1]}", functions.count):
            connection, _ = server.accept()
            with connection:
                received = b""
                while b'"wait_seconds":20' not in received:
                    received += connection.recv(4096)
                server.close()
            wait_until(lambda: len(attempts) == 4, "the pause after the fourth attempt")
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 4
    assert len(attempts) == 5


def test_a_process_does_not_outlive_its_killed_worker(api: httpx.Client, tmp_path: Path) -> None:
    create(api)
    with WorkerProcess(tmp_path, str(api.base_url), "sleep_forever", "process") as worker:
        started(api)
        (child,) = worker.children
        worker.process.kill()
        wait_until(lambda: not is_alive(child), "the end of the process")


def test_the_job_of_a_killed_worker_is_completed_once_by_another(
    api: httpx.Client, redis_url: str, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    create(api, until=until, max_attempts=2)
    with WorkerProcess(tmp_path, str(api.base_url), "count") as first:
        started(api)
        token = token_of(redis_url)
        first.process.kill()
        first.process.wait()
    with WorkerProcess(tmp_path, str(api.base_url), "count") as second:
        wait_until(lambda: job(api)["attempt"] == 2, "the second attempt")
        late = {"status": "completed", "result": "of the first"}
        first_response = api.patch("/v1/jobs/j1", json=late, headers={"Lease-Token": token})
        until.touch()
        done = in_status(api, "completed")
        assert done["result"] == {"counted": 3, "by": second.process.pid, "attempt": 2}
        second_response = api.patch("/v1/jobs/j1", json=late, headers={"Lease-Token": token})
    for answer in (first_response, second_response):
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:jobstate:problem:lease-lost")
    assert (job(api), done["failures"]) == (done, 1)


def test_a_worker_that_was_paused_longer_than_its_lease_abandons_the_job(api: httpx.Client, tmp_path: Path) -> None:
    until = tmp_path / "until"
    create(api, until=until, max_attempts=2)
    with WorkerProcess(tmp_path, str(api.base_url), "count") as first:
        started(api)
        first.process.send_signal(signal.SIGSTOP)
        until.touch()
        with WorkerProcess(tmp_path, str(api.base_url), "count") as second:
            done = in_status(api, "completed")
            assert done["result"] == {"counted": 3, "by": second.process.pid, "attempt": 2}
            until.unlink()  # the first worker cannot end the job
            first.process.send_signal(signal.SIGCONT)
            wait_until(lambda: "job j1: abandoned" in first.log, "the first worker to abandon the job")
    assert (job(api), done["failures"]) == (done, 1)


@pytest.mark.parametrize("soon", [True, False], ids=["finished during the outage", "finished afterwards"])
def test_a_restart_of_the_service_loses_no_job(
    new_redis: Callable[..., RedisServer], tmp_path: Path, soon: bool
) -> None:
    redis = new_redis()
    folder, until = tmp_path / "service", tmp_path / "until"
    folder.mkdir()
    with (
        Service(folder, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service,
        httpx.Client(base_url=service.url, timeout=10) as api,
    ):
        create(api, until=until)
        with WorkerProcess(tmp_path, service.url, "count") as worker:
            in_status(api, "running")
            service.kill()
            wait_until(lambda: "service unavailable" in worker.log, "the outage")
            if soon:
                until.touch()
            service.start()
            if not soon:
                wait_until(lambda: "service recovered" in worker.log, "the recovery")
                until.touch()
            done = in_status(api, "completed")
            wait_until(lambda: "service recovered" in worker.log, "the log of the recovery")
            assert done["result"] == {"counted": 3, "by": worker.process.pid, "attempt": 1}
        assert (done["attempt"], done["failures"]) == (1, 0)
