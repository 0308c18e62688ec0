"""A client that `openapi-python-client` generates from the API document, against a running service."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.helpers.conformance import CHECKED_IN
from tests.helpers.service_process import Service

pytestmark = pytest.mark.usefixtures("consistent_store")

CONFIG = "package_name_override: jobstate_client\npost_hooks: []\n"
#: The operations that the tests call, by module.
OPERATIONS = {
    "jobs": (
        *("create_job", "get_job", "update_job", "cancel_job", "get_job_result"),
        *("list_jobs", "delete_job", "get_stats"),
    ),
    "workers": ("claim_job", "heartbeat_job", "release_job"),
    "operations": ("configure_queue", "start_drain", "stop_drain"),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The generated package: its operations, `models` and `Client`."""
    directory = tmp_path_factory.mktemp("client")
    (directory / "config.yml").write_text(CONFIG)
    source = ["--path", str(CHECKED_IN), "--config", str(directory / "config.yml")]
    target = ["--meta", "none", "--output-path", str(directory / "jobstate_client"), "--fail-on-warning"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", *source, *target]
    generated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert generated.returncode == 0, generated.stdout + generated.stderr
    sys.path.insert(0, str(directory))
    try:
        root = importlib.import_module("jobstate_client")
        models = importlib.import_module("jobstate_client.models")
        calls = {
            name: importlib.import_module(f"jobstate_client.api.{module}.{name}")
            for module, names in OPERATIONS.items()
            for name in names
        }
        yield SimpleNamespace(Client=root.Client, models=models, **calls)
    finally:
        sys.path.remove(str(directory))
        for name in [name for name in sys.modules if name.partition(".")[0] == "jobstate_client"]:
            del sys.modules[name]


@pytest.fixture
def client(package: SimpleNamespace, api: httpx.Client, shared_service: Service) -> Iterator[Any]:
    with package.Client(base_url=shared_service.url, raise_on_unexpected_status=True) as client:
        yield client


def create(package: SimpleNamespace, client: Any, job_id: str) -> Any:
    body = package.models.CreateJob(input_params={"seed": 42}, job_id=job_id, slate_id="pinewood-400")
    return package.create_job.sync(client=client, body=body)


def test_a_generated_client_takes_a_job_from_creation_to_deletion(package: SimpleNamespace, client: Any) -> None:
    models = package.models
    created = create(package, client, "sunday")
    assert isinstance(created, models.Job)
    assert (created.status, created.input_params, created.revision) == ("pending", {"seed": 42}, 1)

    progress = models.ProgressInput(current=1, total=2, message="simulating")
    running = models.UpdateJob(status=models.Status.RUNNING, progress=progress)
    assert package.update_job.sync("sunday", client=client, body=running).progress.total == 2
    [listed] = package.list_jobs.sync(client=client, slate_id="pinewood-400", status=models.Status.RUNNING).items
    assert listed.job_id == "sunday"

    completed = models.UpdateJob(status=models.Status.COMPLETED, result={"lineups": [], "best": None})
    finished = package.update_job.sync("sunday", client=client, body=completed)
    assert (finished.status, finished.finished_at.tzinfo is not None) == ("completed", True)
    assert package.get_job_result.sync("sunday", client=client) == {"lineups": [], "best": None}
    assert package.get_stats.sync(client=client).statuses["completed"] == 1

    assert package.delete_job.sync_detailed("sunday", client=client).status_code == 204
    assert isinstance(package.get_job.sync("sunday", client=client), models.Problem)


def test_an_absent_field_is_unset_and_null_is_none(package: SimpleNamespace, client: Any) -> None:
    unset = importlib.import_module("jobstate_client.types").Unset
    job = package.create_job.sync(client=client, body=package.models.CreateJob(input_params=None))

    assert job.input_params is None
    assert all(isinstance(field, unset) for field in (job.result, job.slate_id, job.progress, job.finished_at))


def test_an_optional_body_can_be_left_out(package: SimpleNamespace, client: Any) -> None:
    models = package.models
    create(package, client, "sunday")
    claim = package.claim_job.sync(client=client, body=models.ClaimJob(queues=["default"], worker="w"))

    heartbeat = package.heartbeat_job.sync("sunday", client=client, lease_token=claim.lease.token)
    assert isinstance(heartbeat, models.HeartbeatResult)
    assert package.release_job.sync("sunday", client=client, lease_token=claim.lease.token).status == "pending"
    assert package.start_drain.sync(client=client).draining is True
    assert package.stop_drain.sync(client=client).draining is False


def test_a_setting_of_a_queue_can_be_set_kept_and_cleared(package: SimpleNamespace, client: Any) -> None:
    unset = importlib.import_module("jobstate_client.types").Unset

    def configured(**settings: Any) -> Any:
        body = package.models.ConfigureQueue(**settings)
        return package.configure_queue.sync("q", client=client, body=body)

    assert configured(paused=True, max_running=2).max_running == 2
    assert package.configure_queue.sync("q", client=client).paused is True
    cleared = configured(max_running=None)
    assert (cleared.paused, isinstance(cleared.max_running, unset)) == (True, True)
    assert configured(paused=None).paused is False


def test_its_errors_are_typed(package: SimpleNamespace, client: Any) -> None:
    models = package.models
    missing = package.get_job.sync("nobody", client=client)
    create(package, client, "sunday")
    illegal = package.update_job.sync("sunday", client=client, body=models.UpdateJob(status=models.Status.COMPLETED))
    invalid = package.create_job.sync(client=client, body=models.CreateJob(input_params=1, max_attempts=0))

    assert [type(one) for one in (missing, illegal, invalid)] == [models.Problem] * 3
    assert (missing.status, missing.type_) == (404, "urn:jobstate:problem:job-not-found")
    assert (illegal.status, illegal.type_) == (409, "urn:jobstate:problem:illegal-transition")
    assert (illegal.current_status, illegal.revision) == ("pending", 1)
    [error] = invalid.errors
    assert (error.field, error.allowed) == ("max_attempts", "an integer from 1 to 1000")
    assert missing.correlation_id
    assert missing.detail


def test_a_new_status_field_or_problem_type_does_not_break_it(package: SimpleNamespace, client: Any) -> None:
    job = create(package, client, "sunday").to_dict() | {"status": "paused", "colour": "red"}
    problem = {"type": "urn:jobstate:problem:new", "title": "t", "status": 404, "detail": "d", "correlation_id": "c"}

    def respond(request: httpx.Request) -> httpx.Response:
        """Respond as a later version of the service."""
        known = request.url.path.endswith("sunday")
        return httpx.Response(200, json=job) if known else httpx.Response(404, json=problem | {"hint": "h"})

    with package.Client(base_url="http://later", httpx_args={"transport": httpx.MockTransport(respond)}) as client:
        paused = package.get_job.sync("sunday", client=client)
        missing = package.get_job.sync("nobody", client=client)

    assert (paused.status, paused.additional_properties["colour"]) == ("paused", "red")
    assert (missing.type_, missing.additional_properties["hint"]) == (problem["type"], "h")
