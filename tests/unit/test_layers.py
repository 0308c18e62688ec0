import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import jobstate
import jobstate_cli
import jobstate_worker
import service

ROOT = Path(service.__file__).parent
MODULES = sorted(path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py"))
#: From the bottom to the top; a module may import from its own layer and from those below.
LAYERS = (
    ("service.domain",),
    ("service.settings",),
    ("service.observability.metrics",),
    ("service.store", "service.job_manager"),
    ("service.api",),
    ("service.web",),
    ("service.observability.tracing", "service.background"),
    ("service.lifespan",),
    ("service.app",),
    ("service.server",),
    ("service.cli",),
    ("service.__main__",),
)
#: What stands beside the layers, imports nothing of them, and is put to use where a process starts.
BESIDE = ("service.embedded", "service.observability.logs")
STARTING = ("service.cli.serve", "service.cli.doctor", "service.server.supervisor")


def modules_beside(package: ModuleType) -> list[Path]:
    """Those of another package of the wheel, which knows the service over HTTP alone."""
    root = Path(str(package.__file__)).parent
    return sorted(path.relative_to(root.parent) for path in root.rglob("*.py"))


SHARED_MODULES = modules_beside(jobstate)
WORKER_MODULES = modules_beside(jobstate_worker)
CLI_MODULES = modules_beside(jobstate_cli)

every_module = pytest.mark.parametrize("path", MODULES, ids=str)


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT.parent / path).read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module or name of a module that is imported anywhere in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level(module: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if within(module, packages))


def ours(path: Path) -> list[str]:
    names = [name for name in imports(path) if within(name, ("service",))]
    return [name for name in names if name != "service.__version__"]


def foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"service"}


def modules_in(*packages: str) -> list[Path]:
    found = [path for path in MODULES if within(name_of(path), packages)]
    assert found
    return found


def places(module: str) -> list[tuple[str, ...]]:
    return [packages for packages in (*LAYERS, BESIDE) if within(module, packages)]


def test_every_module_has_its_place() -> None:
    assert {name for name in map(name_of, MODULES) if len(places(name)) != 1} == {"service", "service.observability"}


@every_module
def test_imports_point_down_only(path: Path) -> None:
    name = name_of(path)
    if name in {"service", "service.observability"} or within(name, BESIDE):
        return
    for imported in ours(path):
        if within(imported, BESIDE):
            assert within(name, STARTING), f"{name} imports {imported}"
        else:
            assert level(imported) <= level(name), f"{name} imports {imported}"


@pytest.mark.parametrize("path", modules_in(*BESIDE), ids=str)
def test_what_stands_beside_the_layers_imports_nothing_of_them(path: Path) -> None:
    own = tuple(package for package in BESIDE if within(name_of(path), (package,)))
    assert [name for name in ours(path) if not within(name, own)] == []
    assert not foreign(path) & {"litestar", "redis"}


@pytest.mark.parametrize("path", modules_in("service.domain"), ids=str)
def test_the_domain_knows_only_msgspec_and_itself(path: Path) -> None:
    assert foreign(path) <= {*sys.stdlib_module_names, "msgspec"}
    assert all(within(name, ("service.domain",)) for name in ours(path))


@pytest.mark.parametrize("path", modules_in("service.store", "service.settings"), ids=str)
def test_the_store_knows_nothing_of_http(path: Path) -> None:
    assert not foreign(path) & {"litestar", "uvicorn", "click", "http"}


@pytest.mark.parametrize("path", modules_in("service.observability.metrics"), ids=str)
def test_the_metrics_know_the_domain_and_prometheus(path: Path) -> None:
    assert foreign(path) <= {*sys.stdlib_module_names, "prometheus_client"}
    assert all(within(name, ("service.domain",)) for name in ours(path))


@pytest.mark.parametrize("path", modules_in("service.api"), ids=str)
def test_the_api_knows_nothing_of_redis(path: Path) -> None:
    assert not foreign(path) & {"redis", "uvicorn", "click"}
    known = (
        "service.store.jobs",
        "service.store.leases",
        "service.store.queues",
        "service.store.events.claim_waiter",
        "service.store.events.job_watcher",
        "service.store.events.stream",
        "service.store.rate_limiter",
        "service.store.deadlines",
        "service.observability.metrics",
    )
    allowed = ("service.api", "service.domain", "service.__version__", *known)
    assert [name for name in ours(path) if not within(name, allowed)] == []


def test_the_package_itself_imports_nothing_of_ours() -> None:
    assert ours(Path("service/__init__.py")) == []


@pytest.mark.parametrize("path", SHARED_MODULES, ids=str)
def test_what_worker_and_terminal_share_needs_neither_of_them(path: Path) -> None:
    assert foreign(path) <= {*sys.stdlib_module_names, "httpx", "jobstate"}
    assert ours(path) == []


@pytest.mark.parametrize("path", WORKER_MODULES, ids=str)
def test_a_worker_needs_httpx_and_nothing_of_the_service(path: Path) -> None:
    assert foreign(path) <= {*sys.stdlib_module_names, "httpx", "jobstate", "jobstate_worker"}
    assert ours(path) == []


@pytest.mark.parametrize("path", CLI_MODULES, ids=str)
def test_a_terminal_needs_nothing_of_the_service(path: Path) -> None:
    needed = {"click", "httpx", "httpx_sse", "msgspec", "rich", "jobstate", "jobstate_cli"}
    assert foreign(path) <= {*sys.stdlib_module_names, *needed}
    assert ours(path) == []


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("serve", {"httpx", "httpx_sse", "jobstate_cli"}),
        ("doctor", {"litestar", "uvicorn", "httpx", "service.cli.serve"}),
        ("get", {"litestar", "redis", "uvicorn", "service.cli.serve"}),
        ("watch", {"litestar", "redis", "uvicorn", "service.cli.serve"}),
    ],
)
def test_a_command_imports_what_it_needs_only(command: str, needless: set[str]) -> None:
    program = (
        "import sys; from service.__main__ import main; main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, command, "--help"], capture_output=True, text=True, check=True
    )
    imported = set(shown.stdout.split())
    assert {f"service.cli.{command}", f"jobstate_cli.{command}", "jobstate_cli.jobs"} & imported
    assert not imported & needless


@pytest.mark.parametrize("path", [*MODULES, *SHARED_MODULES, *WORKER_MODULES, *CLI_MODULES], ids=str)
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len((ROOT.parent / path).read_text(encoding="utf-8").splitlines()) <= 300


def test_the_composition_root_is_seen_at_a_glance() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 100


@every_module
def test_no_module_is_named_for_what_is_left_over(path: Path) -> None:
    assert path.stem not in {"utils", "common", "helpers", "misc"}
