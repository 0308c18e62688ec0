"""Tests that mostly wait: they start with the first test of their file, and run while its other tests do."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.redis_servers import Backend, NewRedis

#: The outcome of each test in the background, by its name.
Outcomes = dict[str, Future[None]]


@contextlib.contextmanager
def in_background(request: pytest.FixtureRequest, **bodies: Callable[[NewRedis, Path], None]) -> Iterator[Outcomes]:
    """Run the bodies of tests of a module in threads, each with a folder, and return their outcomes by test name.

    For a fixture of scope `module` with `autouse`. The bodies of tests that are not selected do not run.
    """
    backend: Backend = request.getfixturevalue("backend")
    folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")

    def run(body: Callable[[NewRedis, Path], None], folder: Path) -> None:
        with backend.servers(folder) as new_redis:
            body(new_redis, folder)

    selected = {item.name for item in request.session.items if item.path == request.path}
    with ThreadPoolExecutor(len(bodies)) as threads:
        yield {
            name: threads.submit(run, body, folders.mktemp("test")) for name, body in bodies.items() if name in selected
        }
