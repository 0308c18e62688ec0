"""Where the tests find their Redis, said in the header of every report."""

import os

import pytest

from tests.integration.servers import Backend, choose_backend

_BACKEND = pytest.StashKey[Backend]()


def pytest_configure(config: pytest.Config) -> None:
    backend = choose_backend()
    if os.environ.get("REQUIRE_DOCKER") == "1" and not backend.is_docker:
        raise pytest.UsageError(f"REQUIRE_DOCKER=1, but {backend.why}")
    config.stash[_BACKEND] = backend


def pytest_report_header(config: pytest.Config) -> str:
    return f"redis: {config.stash[_BACKEND]}"


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> Backend:
    return pytestconfig.stash[_BACKEND]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
