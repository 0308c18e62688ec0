"""`jobstate doctor` as a command: on a running service, on a data directory, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import redis as sync_redis

from service.embedded import attach_or_start
from service.store.data_version import DATA_VERSION
from tests.helpers.cli_process import CommandResult, environment, jobstate
from tests.helpers.deployments import DEPLOYMENT, sync_client
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.embedded.test_embedded import alive, server_pid
from tests.integration.embedded.test_restart import make_jobs

#: The partition of the job `j0`.
HOME = PARTITIONS.of("j0")
LIST = HOME.by_created("default", "pending")
#: A line of the report about several partitions.
COUNT = f"{len(PARTITIONS)} partitions\n" if len(PARTITIONS) > 1 else ""


def doctor(data: Path, *args: str) -> CommandResult:
    return jobstate("", "doctor", "--data", str(data), *args)


def test_it_checks_and_repairs_with_and_without_a_running_service(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with Service(tmp_path) as service:
        make_jobs(service.url, 8)
        sound = doctor(data)
        assert (sound.code, sound.err) == (0, "")
        assert sound.out.decode().startswith("8 jobs and ")
        assert f"in use by a running service\n{COUNT}no issues found\n" in sound.out.decode()

        with sync_redis.Redis(unix_socket_path=str(data / "redis.sock")) as client:
            client.zrem(HOME.by_expiry, *client.zrange(HOME.by_expiry, 0, 0))
            client.set("jobs:odd", 1)
        report = doctor(data, "--json")
        document = json.loads(report.out)
        assert (report.code, report.err) == (1, "")
        assert [(one["type"], one["key"], one["repaired"]) for one in document["findings"]] in (
            [("missing", HOME.by_expiry, False), ("foreign", "jobs:odd", False)],
            [("foreign", "jobs:odd", False), ("missing", HOME.by_expiry, False)],
        )
        assert (document["found"], document["left"], document["jobs"]) == (2, 2, 8)
        assert service.stop() == 0

    repaired = doctor(data, "--repair")  # unexpected keys are not repaired
    assert (repaired.code, repaired.err) == (1, "")
    assert "2 found, 1 repaired, 1 left" in repaired.out.decode()
    with attach_or_start(data) as (url, _), sync_redis.Redis.from_url(url) as client:
        client.delete("jobs:odd")
        client.zrem(LIST, "j0")
    assert doctor(data, "--repair").code == 0
    assert f"not in use by a service\n{COUNT}no issues found\n" in doctor(data).out.decode()
    assert not (data / "server.pid").exists()


def test_a_server_that_it_started_stops_with_it(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        make_jobs(service.url, 60)  # at one key a second it is not at its end when the signal comes
    started = subprocess.Popen(
        [sys.executable, "-m", "service", "doctor", "--data", str(tmp_path / "data"), "--rate", "1"],
        env=environment(""),
        stdout=subprocess.DEVNULL,
    )
    wait_until((tmp_path / "data" / "server.pid").exists, "the server")
    server = server_pid(tmp_path)

    started.send_signal(signal.SIGTERM)

    assert started.wait(30) == 143
    assert not alive(server)


def test_its_help_lists_the_exit_codes() -> None:
    shown = " ".join(jobstate("", "doctor", "--help").out.decode().split()).partition("Exit codes:")[2]
    for code in ("0 no issues", "1 unrepaired issues", "2 wrong usage", "3 the check failed", "130 Ctrl-C"):
        assert code in shown


def test_where_it_cannot_look_it_says_why_and_does_not_end_as_if_it_had(tmp_path: Path, spare_url: str) -> None:
    nowhere = doctor(tmp_path / "nowhere")
    assert (nowhere.code, nowhere.out) == (3, b"")
    assert "there are no jobs in" in nowhere.err
    assert os.listdir(tmp_path) == []

    unavailable = jobstate("", "doctor", "--redis-url", "redis://127.0.0.1:1")
    assert (unavailable.code, unavailable.out) == (3, b"")
    assert unavailable.err.startswith("Error: No connection to Redis could be made")

    wrong = jobstate("", "doctor", "--redis-url", "http://127.0.0.1")
    shown = "Error: `--redis-url` (`REDIS_URL`): 'http://127.0.0.1' is not allowed"
    assert (wrong.code, wrong.err.split(";")[0]) == (2, shown)

    newer = ("{p0}:version" if DEPLOYMENT == "cluster" else "jobs:version", DATA_VERSION + 1)
    older = [] if DEPLOYMENT == "cluster" else [("jobs:clock", 1)]  # data of version 1 was on one Redis
    for key, version in (newer, *older):
        with sync_client(spare_url) as client:
            client.set(key, version)
            unsupported = jobstate("", "doctor", REDIS_URL=spare_url)
            client.flushdb()
        assert (unsupported.code, f"has data of version {version}" in unsupported.err) == (3, True)
