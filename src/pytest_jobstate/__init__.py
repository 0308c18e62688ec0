"""The pytest plugin of jobstate: fixtures for the tests of applications that submit or do jobs.

pytest imports this package in every run of an environment that has jobstate. So `jobstate` itself, with its HTTP
client, is imported by the fixtures only.
"""

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_jobstate.server import JobstateServer, ServerError

if TYPE_CHECKING:
    from jobstate import Jobs
    from pytest_jobstate.worker import WorkerFactory

__all__ = ["JobstateServer", "ServerError"]


@pytest.fixture(scope="session")
def jobstate_settings() -> Mapping[str, str]:
    """Settings of the service, such as `{"MAX_BODY_BYTES": "4096"}`. Override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def _jobstate_service(
    jobstate_settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[JobstateServer]:
    """The service of this process: one for the run, or one for each process of pytest-xdist."""
    server = JobstateServer(tmp_path_factory.mktemp("jobstate"), jobstate_settings)
    try:
        _start(server)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def jobstate_url(_jobstate_service: JobstateServer) -> str:
    """The URL of the service, for fixtures of a wider scope. It is the same during the whole run."""
    return _jobstate_service.url


@pytest.fixture
def jobstate_server(_jobstate_service: JobstateServer, request: pytest.FixtureRequest) -> Generator[JobstateServer]:
    """A jobstate service without any jobs. `JOBSTATE_URL` names it during the test, so that `Jobs()` uses it."""
    server, position = _jobstate_service, _jobstate_service.log_size
    _start(server)
    server.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBSTATE_URL", server.url)
        patch.delenv("JOBSTATE_API_KEY", raising=False)
        yield server
    server.wait_for_log()
    request.node.add_report_section("teardown", "jobstate log", server.log(position))  # shown if the test has failed


@pytest.fixture
def jobs(jobstate_server: JobstateServer) -> "Generator[Jobs]":
    """A `jobstate.Jobs` client of the service."""
    from jobstate import Jobs

    with Jobs(jobstate_server.url) as jobs:
        yield jobs


@pytest.fixture
def jobstate_worker(jobs: "Jobs", jobstate_server: JobstateServer) -> "WorkerFactory":
    """A function `jobstate_worker(function, queues=["default"])` that returns a worker that runs jobs on request.

    Its `run_one()` and `run_all()` run the jobs that are due in this process, and return their handles.
    """
    from pytest_jobstate.worker import WorkerFactory

    return WorkerFactory(jobs, jobstate_server.url)


def _start(server: JobstateServer) -> None:
    try:
        server.start()
    except ServerError as error:
        pytest.fail(str(error), pytrace=False)
