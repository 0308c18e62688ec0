"""What the tests run on, said in the header of every report: Redis, compose, node, a browser, nginx."""

import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.helpers import nginx
from tests.helpers.compose import compose_failure
from tests.helpers.locks import TURNS
from tests.helpers.servers import Backend, choose_backend

_BACKEND = pytest.StashKey[Backend]()
#: Why the compose file cannot be run here; None where it can.
_NO_COMPOSE = pytest.StashKey[str | None]()
_NODE_TESTS = Path(__file__).parent / "integration" / "node"
_BROWSER_TESTS = Path(__file__).parent / "browser"
_NGINX_TESTS = Path(__file__).parent / "integration" / "test_proxies.py"
_BOTH = _BROWSER_TESTS / "test_prefix.py"


def missing_node_tools() -> list[str]:
    return [tool for tool in ("node", "npm") if shutil.which(tool) is None]


def browser() -> str | None:
    return shutil.which("chromium")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compose: the test runs compose.yaml")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; what is tested inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):  # as under nohup
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    backend = choose_backend()
    no_compose = compose_failure() if backend.is_docker else backend.why
    if os.environ.get("REQUIRE_DOCKER") == "1" and no_compose:
        raise pytest.UsageError(f"REQUIRE_DOCKER=1, but {no_compose}")
    if os.environ.get("REQUIRE_NODE") == "1" and missing_node_tools():
        raise pytest.UsageError(f"REQUIRE_NODE=1, but there is no {', '.join(missing_node_tools())}")
    if os.environ.get("REQUIRE_BROWSER") == "1" and browser() is None:
        raise pytest.UsageError("REQUIRE_BROWSER=1, but there is no chromium")
    if os.environ.get("REQUIRE_NGINX") == "1" and nginx.binary() is None:
        raise pytest.UsageError("REQUIRE_NGINX=1, but there is no nginx")
    config.stash[_BACKEND], config.stash[_NO_COMPOSE] = backend, no_compose


def pytest_report_header(config: pytest.Config) -> list[str]:
    no_compose = config.stash[_NO_COMPOSE]
    compose = f"not run, because {no_compose}" if no_compose else "run with `docker compose`"
    without = f"there is no {', '.join(missing_node_tools())}, so the tests in {_NODE_TESTS.name}/ are left out"
    node = without if missing_node_tools() else "the linter and the TypeScript client run"
    page = browser() or f"there is no chromium, so the tests in {_BROWSER_TESTS.name}/ are left out"
    proxy = nginx.binary() or f"there is no nginx, so {_NGINX_TESTS.name} and {_BOTH.name} are left out"
    return [
        f"redis: {config.stash[_BACKEND]}",
        f"compose.yaml: {compose}",
        f"node: {node}",
        f"browser: {page}",
        f"nginx: {proxy}",
    ]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    left_out = (
        (_NODE_TESTS, missing_node_tools()),
        (_BROWSER_TESTS, browser() is None),
        (_NGINX_TESTS, nginx.binary() is None),
        (_BOTH, nginx.binary() is None),
    )
    return True if any(collection_path == folder and missing for folder, missing in left_out) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"a test's name must be the same in every process; these hold an address: {unstable}")
    if config.stash[_NO_COMPOSE]:
        left_out = [item for item in items if item.get_closest_marker("compose")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    with TURNS.shared():
        return (yield)


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> Backend:
    return pytestconfig.stash[_BACKEND]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
