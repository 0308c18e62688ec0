"""Chooses what the tests run on (Redis, compose, tools), and shows it in the report's header."""

import functools
import gc
import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
import redis.utils

from tests.helpers import chromium, deploy_tools, deployments, distribution, generators, nginx
from tests.helpers.compose import compose_failure
from tests.helpers.locks import TEST_LOCK
from tests.helpers.partitions import PARTITIONS
from tests.helpers.redis_servers import Backend, choose_backend
from tests.helpers.unclosed import UnclosedResources

# Tests open thousands of clients. For each, httpx would read the certificates in 20 ms, redis-py its version in 3 ms.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)  # type: ignore[attr-defined]
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)

_BACKEND = pytest.StashKey[Backend]()
#: Why `docker compose` cannot run; None if it can.
_NO_COMPOSE = pytest.StashKey[str | None]()
#: How many tests of which files are deselected because of `TEST_DEPLOYMENT` or `TEST_PARTITIONS`, by reason.
_DESELECTED = pytest.StashKey[dict[str, list[str]]]()
_NODE_TESTS = Path(__file__).parent / "integration" / "node"
_BROWSER_TESTS = Path(__file__).parent / "browser"
_NGINX_TESTS = Path(__file__).parent / "integration" / "server" / "test_proxies.py"
_CLIENT_TESTS = Path(__file__).parent / "integration" / "clients"
_NGINX_BROWSER_TESTS = _BROWSER_TESTS / "test_prefix.py"
_HELM_TESTS = Path(__file__).parent / "integration" / "deploy" / "test_helm.py"
_SYSTEMD_TESTS = Path(__file__).parent / "integration" / "deploy" / "test_systemd.py"


def missing_node_tools() -> list[str]:
    return [tool for tool in ("node", "npm") if shutil.which(tool) is None]


def _absence(tools: list[str]) -> str:
    return f"{', '.join(tools)} missing" if tools else ""


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(UnclosedResources())
    config.addinivalue_line("markers", "compose: the test runs compose.yaml")
    config.addinivalue_line("markers", "only_one_partition: the test is about the limits of one partition")
    config.addinivalue_line("markers", "replicas_only(why): the test needs Sentinel or a cluster")
    config.addinivalue_line("markers", "standalone_only(why): the test needs one Redis; no Sentinel, no cluster")
    config.addinivalue_line("markers", "not_on_cluster(why): the test needs one Redis or Sentinel; no cluster")
    # A shell ignores SIGINT in its background jobs, and child processes inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):  # as under nohup
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    backend = choose_backend()
    no_compose = compose_failure() if backend.is_docker else backend.reason
    required = {
        "REQUIRE_DOCKER": no_compose,
        "REQUIRE_NODE": _absence(missing_node_tools()),
        "REQUIRE_BROWSER": chromium.program() is None and "chromium is missing",
        "REQUIRE_NGINX": nginx.binary() is None and "nginx is missing",
        "REQUIRE_CLIENTS": _absence(generators.missing_tools()),
        "REQUIRE_HELM": _absence(deploy_tools.missing_chart_tools()),
        "REQUIRE_SYSTEMD": deploy_tools.systemd_analyze() is None and "systemd-analyze is missing",
    }
    for variable, problem in required.items():
        if problem and os.environ.get(variable) == "1":
            raise pytest.UsageError(f"{variable}=1, but {problem}")
    config.stash[_BACKEND], config.stash[_NO_COMPOSE] = backend, no_compose


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return distribution.processes(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> distribution.FileScheduling | None:
    return distribution.FileScheduling(config, log) if config.option.dist == "load" else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    no_compose = config.stash[_NO_COMPOSE]
    compose = f"skipped: {no_compose}" if no_compose else "run with `docker compose`"
    no_node, no_clients = _absence(missing_node_tools()), _absence(generators.missing_tools())
    node = (
        f"{no_node}, tests in {_NODE_TESTS.name}/ skipped" if no_node else "the linter and the TypeScript clients run"
    )
    page = chromium.program() or f"chromium missing, tests in {_BROWSER_TESTS.name}/ skipped"
    proxy = nginx.binary() or f"nginx missing, {_NGINX_TESTS.name} and {_NGINX_BROWSER_TESTS.name} skipped"
    skipped = f"{no_clients}, tests in {_CLIENT_TESTS.name}/ skipped"
    clients = skipped if no_clients else "Go and Java run"
    no_chart = _absence(deploy_tools.missing_chart_tools())
    chart = f"{no_chart}, {_HELM_TESTS.name} skipped" if no_chart else shutil.which("helm")
    unit = deploy_tools.systemd_analyze() or f"systemd-analyze missing, {_SYSTEMD_TESTS.name} skipped"
    return [
        f"redis: {config.stash[_BACKEND]}",
        f"deployment: {deployments.describe()}",
        f"partitions: {len(PARTITIONS)} (`TEST_PARTITIONS`)",
        f"compose.yaml: {compose}",
        f"node: {node}",
        f"browser: {page}",
        f"nginx: {proxy}",
        f"generated clients: {clients}",
        f"helm: {chart}",
        f"systemd: {unit}",
        "longer runs: `just fuzz`, `just faults`, `just test-partitions`, `just test-sentinel`, `just test-cluster`, "
        "`just clients` (CONTRIBUTING.md has them)",
    ]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    skipped = (
        (_NODE_TESTS, missing_node_tools()),
        (_BROWSER_TESTS, chromium.program() is None),
        (_NGINX_TESTS, nginx.binary() is None),
        (_NGINX_BROWSER_TESTS, nginx.binary() is None),
        (_CLIENT_TESTS, generators.missing_tools()),
        (_HELM_TESTS, deploy_tools.missing_chart_tools()),
        (_SYSTEMD_TESTS, deploy_tools.systemd_analyze() is None),
    )
    return True if any(collection_path == folder and missing for folder, missing in skipped) else None


def pytest_collection() -> None:
    gc.disable()  # what is collected stays: to look through it again and again takes a quarter of the time


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(
            f"test ids must be the same in every process; remove the object addresses in {unstable}"
        )
    if config.stash[_NO_COMPOSE]:
        skipped = [item for item in items if item.get_closest_marker("compose")]
        config.hook.pytest_deselected(items=skipped)
        items[:] = [item for item in items if item not in skipped]
    _deselect_by_deployment(config, items)
    distribution.start_longest_first(items)


def _why_not(item: pytest.Item) -> str | None:
    if item.get_closest_marker("only_one_partition") is not None and len(PARTITIONS) > 1:
        return "needs one partition"
    if (why := deployments.why_not(item)) is not None:
        return why
    own = item.get_closest_marker("partitions")
    is_one = own is not None and own.args == (1,)
    return "a cluster has several partitions" if is_one and deployments.DEPLOYMENT == "cluster" else None


def _deselect_by_deployment(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {item: why for item in items if (why := _why_not(item)) is not None}
    if reasons:
        config.hook.pytest_deselected(items=list(reasons))
        items[:] = [item for item in items if item not in reasons]
    named: dict[str, list[str]] = {}
    for item, why in reasons.items():
        named.setdefault(why, []).append(item.path.name)
    config.stash[_DESELECTED] = named


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return [
        f"deselected ({deployments.DEPLOYMENT}, {len(PARTITIONS)} partitions): {why}: "
        + ", ".join(f"{name} ({files.count(name)})" for name in dict.fromkeys(files))
        for why, files in config.stash.get(_DESELECTED, {}).items()
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    with TEST_LOCK.shared():
        return (yield)


@pytest.fixture(scope="session")
def backend(pytestconfig: pytest.Config) -> Backend:
    return pytestconfig.stash[_BACKEND]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
