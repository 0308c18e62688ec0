"""Only the user of the service can read its data directory, whatever modes it had before."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as sync_redis

from service.embedded import EmbeddedServer, EmbeddedServerError, attach_or_start
from service.embedded.permissions import restrict_to_owner
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.embedded.test_restart import make_jobs, read_jobs

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another user")


@pytest.fixture
def shared_dir() -> Iterator[Path]:
    """A directory that every user of the machine may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(data: Path) -> dict[str, int]:
    """Return the modes, in a directory, that allow access by other users."""
    return {str(path): mode(path) for path in (data, *data.rglob("*")) if mode(path) & 0o077}


def readable_by_nobody(data: Path) -> list[str]:
    """Return the files of a directory that another user can read, and the sockets it can connect to."""
    program = """
import json, os, socket, sys
paths, found = json.load(sys.stdin), []
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in paths:
    try:
        if path.endswith(".sock"):
            socket.socket(socket.AF_UNIX).connect(path)
        elif os.path.isdir(path):
            os.listdir(path)
        else:
            open(path, "rb").close()
    except OSError:
        continue
    found.append(path)
print(json.dumps(found))
"""
    paths = json.dumps([str(path) for path in (data, *data.rglob("*"))])
    shown = subprocess.run(
        [sys.executable, "-I", "-c", program], input=paths, capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(shown.stdout)
    return found


def make_public(data: Path) -> None:
    """Give a directory and its files the modes of a copy that did not preserve modes."""
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@as_root
@pytest.mark.parametrize("kind", ["missing", "exists", "link"])
def test_another_user_cannot_read_the_data_of_a_running_service(shared_dir: Path, kind: str) -> None:
    data = shared_dir / "data"
    if kind == "exists":
        data.mkdir(mode=0o755)
    if kind == "link":
        (shared_dir / "disk").mkdir(mode=0o755)
        data.symlink_to("disk")
    before = os.umask(0)
    try:
        service = Service(shared_dir)
    finally:
        os.umask(before)
    with service:
        make_jobs(service.url, 2)

        assert (data / "appendonlydir").is_dir()
        assert modes(data) == {}
        assert readable_by_nobody(data) == []
    make_public(data)
    assert {Path(path).name for path in readable_by_nobody(data)} > {"server.log", "server.json", "appendonlydir"}


def test_a_copy_restored_without_modes_is_made_private_and_keeps_its_jobs(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        before = make_jobs(service.url, 4)
        service.stop()
        data = tmp_path / "data"
        (data / "dump.rdb").write_bytes(b"")
        make_public(data)

        service.start()

        assert modes(data) == {}
        assert read_jobs(service.url, list(before)) == before
        assert service.log.count("data directory permissions restricted") == 1
        service.stop()
        service.start()
        assert service.log.count("data directory permissions restricted") == 1


def test_files_that_the_server_creates_later_are_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        names = set((data / "appendonlydir").iterdir())
        client.bgrewriteaof()
        client.bgsave()

        def rewritten() -> bool:
            info = client.info("persistence")
            busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
            return not any(info[name] for name in busy) and (data / "dump.rdb").exists()

        wait_until(rewritten, "the rewrite")
        assert set((data / "appendonlydir").iterdir()) != names
        assert modes(data) == {}


def test_appendonly_files_behind_a_link_are_made_private(tmp_path: Path) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    (data / "appendonlydir").rename(disk)
    (data / "appendonlydir").symlink_to(disk)
    make_public(disk)

    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"
        assert modes(disk) == {}


def rejection(data: Path) -> str:
    with pytest.raises(EmbeddedServerError) as raised, EmbeddedServer(data):
        pass
    return str(raised.value)


def test_a_directory_with_other_files_is_rejected_unchanged_until_it_is_private(tmp_path: Path) -> None:
    data = tmp_path / "project"
    data.mkdir(mode=0o755)
    (data / "README.md").write_text("")

    assert rejection(data) == (
        f"`JOBSTATE_DATA`: other users may enter {data}, which contains 'README.md', which is not a file of jobstate. "
        f"Choose a directory for jobs only, or run `chmod 700 {data}`."
    )
    assert mode(data) == 0o755
    assert [path.name for path in data.iterdir()] == ["README.md"]
    other = mode(data / "README.md")
    data.chmod(0o700)
    with EmbeddedServer(data):
        assert mode(data / "README.md") == other


def test_a_shared_directory_is_rejected_and_unchanged(tmp_path: Path) -> None:
    data = tmp_path / "shared"
    data.mkdir()
    data.chmod(0o1777)

    assert "sticky bit" in rejection(data)
    assert mode(data) == 0o1777


@as_root
@pytest.mark.parametrize("what", ["", "server.json", "appendonlydir", "appendonlydir/appendonly.aof.manifest"])
def test_a_file_of_another_user_is_rejected_by_name(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data):
        pass
    os.chown(data / what, NOBODY, NOBODY)

    message = rejection(data)

    assert f"{data / what} belongs to user 'nobody', and the service runs as user 'root'" in message
    assert "chown" in message


@as_root
@pytest.mark.parametrize("of_another", ["data", "disk"])
def test_a_link_is_rejected_if_it_or_its_target_belongs_to_another_user(tmp_path: Path, of_another: str) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    data = tmp_path / "data"
    data.symlink_to("disk")
    os.chown(tmp_path / of_another, NOBODY, NOBODY, follow_symlinks=False)

    assert f"{data} belongs to user 'nobody'" in rejection(data)


@as_root
def test_a_link_of_root_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private").mkdir(mode=0o755)
    os.chown(tmp_path / "private", NOBODY, NOBODY)
    data = tmp_path / "data"
    data.symlink_to("private")
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    restrict_to_owner(data)

    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["directory in it", "link to a directory in it", "link in it"])
def test_a_world_writable_parent_is_rejected_unless_it_is_sticky(tmp_path: Path, kind: str) -> None:
    parent, elsewhere = tmp_path / "parent", tmp_path / "elsewhere"
    parent.mkdir()
    data = elsewhere if kind.startswith("link to") else parent / "data"
    if kind == "link in it":
        elsewhere.mkdir()
        data.symlink_to(elsewhere)
    if kind.startswith("link to"):
        (parent / "data").mkdir()
        data.symlink_to(parent / "data")
    parent.chmod(0o777)

    message = rejection(data)

    assert f"every user may write to {parent} and therefore replace {data}" in message
    parent.chmod(0o1777)
    with EmbeddedServer(data):
        assert mode(data) == 0o700


def test_created_parents_are_not_world_writable(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        server = EmbeddedServer(tmp_path / "a" / "b" / "data")
    finally:
        os.umask(before)
    with server:
        assert [mode(path) for path in server.directory.path.parents[:2]] == [0o755, 0o755]


def test_a_file_system_without_modes_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)

    assert "does not store file modes" in rejection(data)


def test_a_mode_that_cannot_be_set_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(path: Path, _: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", chmod)

    reason = f"the mode of {data} cannot be set: Operation not permitted"
    assert rejection(data) == f"`JOBSTATE_DATA`: {reason}. Choose another directory."


@as_root
def test_the_directory_of_a_short_socket_is_rejected_below_a_world_writable_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_dir = tmp_path / "tmp"
    shared_dir.mkdir()
    shared_dir.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared_dir))

    with pytest.raises(EmbeddedServerError, match=f"`TMPDIR`: every user may write to {shared_dir}"):
        EmbeddedServer(tmp_path / ("x" * 100))


@as_root
def test_attaching_to_a_running_service_of_another_user_changes_nothing(shared_dir: Path) -> None:
    data = shared_dir / "data"
    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        os.chown(data, NOBODY, NOBODY)
        with attach_or_start(data) as (url, _), sync_redis.Redis.from_url(url) as second_client:
            assert second_client.get("key") == b"value"
        assert data.stat().st_uid == NOBODY
        os.chown(data, 0, 0)
