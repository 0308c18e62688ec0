"""Tests that run in the background of their file."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.background import in_background
from tests.helpers.redis_servers import Backend, NewRedis

FILE = Path("test_file.py")


def request(folders: pytest.TempPathFactory, *selected: tuple[Path, str]) -> Any:
    """A request of a module fixture in `FILE`, when these tests are selected."""
    values = {"backend": Backend(None, "no server is started"), "tmp_path_factory": folders}
    items = [SimpleNamespace(path=path, name=name) for path, name in selected]
    return SimpleNamespace(path=FILE, session=SimpleNamespace(items=items), getfixturevalue=values.get)


def test_an_outcome_is_the_failure_of_the_body(tmp_path_factory: pytest.TempPathFactory) -> None:
    def body(new_redis: NewRedis, folder: Path) -> None:
        assert not folder.exists()

    with in_background(request(tmp_path_factory, (FILE, "test_a")), test_a=body) as outcomes:
        failure = outcomes["test_a"].exception()
    assert isinstance(failure, AssertionError)


def test_only_the_bodies_of_selected_tests_of_the_file_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    ran = []
    selected = (FILE, "test_a"), (FILE, "test_c"), (Path("another.py"), "test_b")
    bodies = {name: lambda *_, name=name: ran.append(name) for name in ("test_a", "test_b")}
    with in_background(request(tmp_path_factory, *selected), **bodies) as outcomes:
        assert list(outcomes) == ["test_a"]
    assert ran == ["test_a"]
