"""A copy of the embedded server's data, taken under load as in docs/backup.md, has all acknowledged jobs."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import redis as sync_redis

from service.embedded import attach_or_start
from tests.helpers.cli_process import environment
from tests.helpers.partitions import job_key
from tests.helpers.paths import ROOT
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service

TEXT = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"```bash\n# (\w+): [^\n]*\n(.*?)```", TEXT, re.DOTALL))
#: The programs that the scripts run. After copying, `cp` prints whether the server may have rewritten files.
TOOLS = f"""\
redis-cli() {{ {sys.executable} -S "{ROOT / "tests/helpers/redis_cli.py"}" "$@"; }}
jobstate() {{ {sys.executable} -m service "$@"; }}
cp() {{ command cp "$@"; redis-cli -s "$jobs/redis.sock" CONFIG GET auto-aof-rewrite-percentage; }}
"""
REWRITES = "auto-aof-rewrite-percentage"


def run(script: str, **variables: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", (TOOLS if script == "take" else TOOLS.replace("cp()", "unused()")) + SCRIPTS[script]],
        env=environment("", **{name: str(path) for name, path in variables.items()}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Load:
    """Clients that create and start jobs, and record the acknowledged ones."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self._clients = [threading.Thread(target=self._work, args=(name,)) for name in "ab"]

    def _work(self, name: str) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as api:
            number = 0
            while not self._stopping.wait(0.02):
                job_id, number = f"{name}{number}", number + 1
                body = {"job_id": job_id, "input_params": "x" * 1000, "slate_id": name}
                api.post("/v1/jobs", json=body).raise_for_status()
                self.acknowledged.append(job_id)
                api.patch(f"/v1/jobs/{job_id}", json={"status": "running"}).raise_for_status()

    def __enter__(self) -> "Load":
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for client in self._clients:
            client.join()


def test_a_copy_taken_under_load_has_all_acknowledged_jobs_and_no_issues(tmp_path: Path) -> None:
    data, copy, restored = tmp_path / "data", tmp_path / "copy", tmp_path / "restored"
    with Service(tmp_path) as service, Load(service.url) as load:
        wait_until(lambda: len(load.acknowledged) > 20, "some jobs")
        before = list(load.acknowledged)

        during = run("take", jobs=data, copy=copy)

        after = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > after, "more jobs")
        with sync_redis.Redis(unix_socket_path=str(data / "redis.sock"), decode_responses=True) as client:
            assert client.config_get(REWRITES) == {REWRITES: "100"}
    assert f"{REWRITES}\n0\n" in during

    assert "no issues found" in run("restore", jobs=restored, copy=copy)
    with attach_or_start(restored) as (url, _), sync_redis.Redis.from_url(url) as client:
        assert [job_id for job_id in before if not client.exists(job_key(job_id))] == []
        assert client.exists(job_key(load.acknowledged[-1])) == 0
    with pytest.raises(AssertionError):  # an existing directory is not written to
        run("restore", jobs=restored, copy=copy)
