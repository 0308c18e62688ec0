"""The programs in docs/clients.md and README.md work as written."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.polling import TIMEOUT

ADDRESS = "http://127.0.0.1:8000"
#: For each program the lines that it prints, `…` for what differs each time.
OUTPUTS = [
    ["Hello, Ann"],
    ["failed: {'type': 'Hoarse', 'message': 'lost my voice'}"],
    ["Hello, Cem"],
    ["…", "completed None"],
    ["['Hello, Eve', 'Hello, Fay']", "…"],
    ["['Hello, Eve', 'Hello, Fay']"],
    ["2 matched", "2 done, refused: {}"],
    ["…", "completed", "Hello, Gil"],
    ["['completed', 'data:', 'null']"],
    ["…", "completed None", "Hello, None"],
]


def programs() -> list[str]:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("docs/clients.md", "README.md")]
    found = [program for text in texts for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    uses_jobs = re.compile(r"^from jobstate import .*\bJobs\b|^from jobstate import AsyncJobs", re.MULTILINE)
    return [program for program in found if uses_jobs.search(program) and not program.startswith("# ")]


@pytest.fixture
def worker(api: httpx.Client) -> Iterator[None]:
    """A worker that greets everybody, except Bob."""
    stopped = threading.Event()
    base_url = str(api.base_url)

    def work() -> None:
        claim = {"queues": ["greetings", "typed", "lineups"], "worker": "greeter", "wait_seconds": 1}
        with httpx.Client(base_url=base_url) as http:
            while not stopped.is_set():
                response = http.post("/v1/claims", json=claim)
                if response.status_code == 200:
                    http.patch(
                        f"/v1/jobs/{response.json()['job']['job_id']}",
                        headers={"Lease-Token": response.json()["lease"]["token"]},
                        json=outcome(response.json()["job"]),
                    ).raise_for_status()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopped.set()
    thread.join()


def outcome(job: dict[str, object]) -> dict[str, object]:
    params = job["input_params"]
    assert isinstance(params, dict)
    if params.get("name") == "Bob":
        return {"status": "failed", "error_message": {"type": "Hoarse", "message": "lost my voice"}}
    text = f"Hello, {params.get('name')}"
    return {"status": "completed", "result": {"text": text} if job["queue"] == "typed" else text}


def test_each_program_has_an_expected_output() -> None:
    assert len(programs()) == len(OUTPUTS)


@pytest.mark.parametrize("number", range(len(OUTPUTS)))
def test_a_program_prints_what_it_should(number: int, api: httpx.Client, worker: None) -> None:
    program = programs()[number].replace(ADDRESS, str(api.base_url))
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert result.stderr == ""
    pattern = "".join(r"(.*\n)?" if line == "…" else rf"{re.escape(line)}\n" for line in OUTPUTS[number])
    assert re.fullmatch(pattern, result.stdout, re.DOTALL), result.stdout
