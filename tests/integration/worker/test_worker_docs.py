"""The commands and the program in docs/workers.md work as written."""

import re
import signal
import subprocess
import sys

import httpx

from tests.helpers.paths import ROOT
from tests.helpers.polling import wait_until

TEXT = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str, service: httpx.Client) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [block.replace(ADDRESS, str(service.base_url)) for block in found]


def test_the_worker_with_curl(api: httpx.Client, consistent_store: None) -> None:
    commands = [block for block in blocks("sh", api) if "pip" not in block]
    assert len(commands) == 7
    commands.insert(6, commands[0].replace("greeting", "second", 1))  # a job for the last command, which claims several
    output = subprocess.run(["bash", "-ec", "\n".join(commands)], capture_output=True, text=True, check=True).stdout
    created, extended, released, completed, late, second, batch = output.replace("}{", "}\n{").splitlines()
    assert '"status":"pending"' in created
    assert '"cancel_requested":false' in extended
    assert '"status":"pending"' in released
    assert '"failures":1' in released
    assert '"result":"Hello, Ann"' in completed
    assert "urn:jobstate:problem:lease-lost" in late
    assert '"job_id":"second"' in second
    assert batch.startswith('{"items":[{"job":{"job_id":"second"')


def test_the_worker_in_python(api: httpx.Client, consistent_store: None) -> None:
    (program,) = blocks("python", api)
    assert len([line for line in program.splitlines() if line]) <= 10
    api.post("/v1/jobs", json={"job_id": "greeting", "queue": "greetings", "input_params": {"name": "Ann"}})
    with subprocess.Popen([sys.executable, "-c", program]) as worker:
        try:
            wait_until(lambda: api.get("/v1/jobs/greeting").json()["status"] == "completed", "the greeting")
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert api.get("/v1/jobs/greeting/result").json() == "Hello, Ann"
