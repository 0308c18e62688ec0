import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import jobstate
import pytest_jobstate
import service

ROOT = Path(service.__file__).parent
MODULES = sorted(path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py"))
#: From bottom to top. A module may import from its own layer and from those below.
LAYERS = (
    ("service.libraries",),
    ("service.domain",),
    ("service.settings",),
    ("service.observability.metrics",),
    ("service.store", "service.job_manager"),
    ("service.background",),
    ("service.services",),
    ("service.api",),
    ("service.web",),
    ("service.observability.tracing",),
    ("service.app",),
    ("service.server",),
    ("service.cli",),
    ("service.__main__",),
)
#: Modules outside the layers, which import nothing of them. Only the entry points of processes import them.
INDEPENDENT = ("service.embedded", "service.observability.logs")
ENTRY_POINTS = ("service.cli.serve", "service.cli.doctor", "service.cli.copy", "service.server.supervisor")


def modules_of(package: ModuleType) -> list[Path]:
    """The modules of another package of the wheel, which uses the service over HTTP only."""
    root = Path(str(package.__file__)).parent
    return sorted(path.relative_to(root.parent) for path in root.rglob("*.py"))


CLI_MODULES = [path for path in modules_of(jobstate) if path.parts[1] in {"cli", "__main__.py"}]
WORKER_MODULES = [path for path in modules_of(jobstate) if path.parts[1] == "worker"]
CLIENT_MODULES = [path for path in modules_of(jobstate) if path not in [*CLI_MODULES, *WORKER_MODULES]]
PLUGIN_MODULES = modules_of(pytest_jobstate)

every_module = pytest.mark.parametrize("path", MODULES, ids=str)


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT.parent / path).read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module, or name in a module, that the file imports."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level(module: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if within(module, packages))


def service_imports(path: Path) -> list[str]:
    names = [name for name in imports(path) if within(name, ("service",))]
    return [name for name in names if name != "service.__version__"]


def external_imports(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"service"}


def modules_in(*packages: str) -> list[Path]:
    found = [path for path in MODULES if within(name_of(path), packages)]
    assert found
    return found


def layers_of(module: str) -> list[tuple[str, ...]]:
    return [packages for packages in (*LAYERS, INDEPENDENT) if within(module, packages)]


def test_every_module_belongs_to_one_layer() -> None:
    assert {name for name in map(name_of, MODULES) if len(layers_of(name)) != 1} == {"service", "service.observability"}


@every_module
def test_imports_point_down_only(path: Path) -> None:
    name = name_of(path)
    if name in {"service", "service.observability"} or within(name, INDEPENDENT):
        return
    for imported in service_imports(path):
        if within(imported, INDEPENDENT):
            assert within(name, ENTRY_POINTS), f"{name} imports {imported}"
        else:
            assert level(imported) <= level(name), f"{name} imports {imported}"


@pytest.mark.parametrize("path", modules_in(*INDEPENDENT), ids=str)
def test_independent_modules_import_nothing_of_the_layers(path: Path) -> None:
    own = tuple(package for package in INDEPENDENT if within(name_of(path), (package,)))
    assert [name for name in service_imports(path) if not within(name, own)] == []
    assert not external_imports(path) & {"litestar", "redis"}


@pytest.mark.parametrize("path", modules_in("service.domain"), ids=str)
def test_the_domain_imports_only_msgspec_and_itself(path: Path) -> None:
    assert external_imports(path) <= {*sys.stdlib_module_names, "msgspec"}
    assert all(within(name, ("service.domain",)) for name in service_imports(path))


@pytest.mark.parametrize("path", modules_in("service.store", "service.settings"), ids=str)
def test_the_store_imports_nothing_of_http(path: Path) -> None:
    assert not external_imports(path) & {"litestar", "uvicorn", "click", "http"}


@pytest.mark.parametrize("path", modules_in("service.observability.metrics"), ids=str)
def test_the_metrics_import_the_domain_and_prometheus(path: Path) -> None:
    assert external_imports(path) <= {*sys.stdlib_module_names, "prometheus_client"}
    assert all(within(name, ("service.domain",)) for name in service_imports(path))


@pytest.mark.parametrize("path", modules_in("service.api"), ids=str)
def test_the_api_imports_nothing_of_redis(path: Path) -> None:
    assert not external_imports(path) & {"redis", "uvicorn", "click"}
    known = (
        "service.services",
        "service.store.creation",
        "service.store.jobs",
        "service.store.leases",
        "service.store.events.claim_waiter",
        "service.store.events.hub",
        "service.store.events.job_watcher",
        "service.store.events.stream",
        "service.store.rate_limiter",
        "service.store.deadlines",
        "service.observability.metrics",
    )
    allowed = ("service.api", "service.domain", "service.__version__", *known)
    assert [name for name in service_imports(path) if not within(name, allowed)] == []


def test_the_package_itself_imports_no_module_of_the_service() -> None:
    assert service_imports(Path("service/__init__.py")) == []


@pytest.mark.parametrize("path", [*CLIENT_MODULES, *WORKER_MODULES], ids=str)
def test_client_and_worker_import_nothing_of_the_service_or_the_commands(path: Path) -> None:
    assert external_imports(path) <= {*sys.stdlib_module_names, "anyio", "httpx", "msgspec", "jobstate"}
    assert [name for name in imports(path) if within(name, ("service", "jobstate.cli"))] == []


@pytest.mark.parametrize("path", CLIENT_MODULES, ids=str)
def test_only_the_edge_of_the_client_does_io(path: Path) -> None:
    edge = {"_http.py", "_runners.py", "client.py", "async_client.py", "connections.py", "redirects.py"}
    assert path.name in edge or not external_imports(path) & {"anyio", "httpx", "asyncio", "socket"}


@pytest.mark.parametrize("path", CLIENT_MODULES, ids=str)
def test_the_client_imports_nothing_of_the_worker(path: Path) -> None:
    assert name_of(path) == "jobstate" or not [name for name in imports(path) if within(name, ("jobstate.worker",))]


def test_a_program_that_runs_no_jobs_does_not_import_the_worker() -> None:
    program = "import sys, jobstate; jobstate.Jobs('http://jobs'); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(result.stdout.split())
    assert "jobstate.client" in imported
    assert not imported & {"jobstate.worker", "multiprocessing"}


def test_every_public_name_of_the_client_and_the_worker_exists() -> None:
    assert {name for name in jobstate.__all__ if not hasattr(jobstate, name)} == set()
    assert {"JobContext", "PermanentFailure", "Worker"} < set(jobstate.__all__)
    with pytest.raises(AttributeError, match="'Wroker'"):
        jobstate.Wroker  # noqa: B018


@pytest.mark.parametrize("path", CLI_MODULES, ids=str)
def test_the_cli_executes_nothing_itself(path: Path) -> None:
    assert path.name == "connection.py" or "httpx" not in external_imports(path)


@pytest.mark.parametrize("path", CLI_MODULES, ids=str)
def test_the_cli_imports_nothing_of_the_service_or_the_worker(path: Path) -> None:
    needed = {"click", "httpx", "msgspec", "rich", "jobstate"}
    assert external_imports(path) <= {*sys.stdlib_module_names, *needed}
    assert [name for name in imports(path) if within(name, ("service", "jobstate.worker"))] == []


#: What only the service needs. Redis takes 0.1 s to import, Litestar more.
SERVER_ONLY = {"litestar", "uvicorn", "redis", "structlog", "prometheus_client", "service.settings", "service.embedded"}
#: What only the client needs. The group of commands is the client's.
CLIENT_ONLY = {"httpx", "jobstate.client", "jobstate.async_client", "jobstate.worker", "jobstate.cli.command"}
#: What other libraries import if it is installed.
UNUSED = {"rich", "pygments", "attr", "attrs", "opentelemetry", "pydantic"}
#: What no command of the client imports. httpx imports pygments for a command of its own.
LIGHT = SERVER_ONLY | {"service", "pygments", "jobstate.client", "jobstate.worker", "importlib.metadata"}


def modules_imported_by(program: str, *args: str) -> set[str]:
    program = f"import sys; {program}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())  # a help text may stand above


@pytest.mark.parametrize("path", PLUGIN_MODULES, ids=str)
def test_the_plugin_imports_the_client_and_nothing_of_the_service(path: Path) -> None:
    assert external_imports(path) <= {*sys.stdlib_module_names, "jobstate", "pytest", "pytest_jobstate"}
    assert service_imports(path) == []


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        ("serve", CLIENT_ONLY | UNUSED | {"litestar", "uvicorn", "service.app"}),
        ("doctor", {"litestar", "uvicorn", "httpx", "opentelemetry", "service.cli.serve"}),
        ("key", CLIENT_ONLY | SERVER_ONLY - {"service.settings", "redis"}),
        *((name, LIGHT | {"asyncio", "rich"}) for name in ("list", "get", "cancel", "submit")),
        ("watch", LIGHT | {"rich"}),
        ("top", LIGHT),
    ],
)
def test_a_command_imports_only_what_it_needs(command: str, unwanted: set[str]) -> None:
    program = "from jobstate.cli import main; main(standalone_mode=False)"
    imported = modules_imported_by(program, command, "--help")
    module = {"key": "keys"}.get(command, command)
    assert {f"service.cli.{module}", f"jobstate.cli.commands.{module}"} & imported
    assert not imported & unwanted


@pytest.mark.parametrize("entry_point", ["service.cli.serve", "service.server.supervisor"])
def test_a_process_that_serves_imports_nothing_of_the_client(entry_point: str) -> None:
    program = f"import {entry_point}, service.server.server; from service.app import create_app"
    imported = modules_imported_by(
        f"{program}; from service.settings import Settings; create_app(Settings(), 'redis://127.0.0.1:1')"
    )
    assert {"litestar", "uvicorn", "service.app"} <= imported
    assert not imported & (CLIENT_ONLY | UNUSED)


@pytest.mark.parametrize("path", [*MODULES, *CLIENT_MODULES, *WORKER_MODULES, *CLI_MODULES, *PLUGIN_MODULES], ids=str)
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len((ROOT.parent / path).read_text(encoding="utf-8").splitlines()) <= 300


def test_the_composition_root_is_short() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 100


@every_module
def test_no_module_has_a_catch_all_name(path: Path) -> None:
    assert path.stem not in {"utils", "common", "helpers", "misc"}
