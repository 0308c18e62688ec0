"""The programs in docs/clients.md, run through outages."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.helpers.http_faults import FAULTS, RETRY_AFTER, FaultyFront, SeenRequest, faulty_front
from tests.helpers.paths import ROOT
from tests.helpers.polling import TIMEOUT, wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service

ADDRESS: Final = "http://127.0.0.1:8000"
#: A result with numbers that a double cannot hold.
EXACT: Final = '{"text":"Hello, Ann","seed":12345678901234567890,"odds":0.1234567890123456789}'


def code_blocks(language: str) -> list[str]:
    """Return the code of a language in docs/clients.md."""
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


class Outage:
    """A service on its own Redis, behind a proxy that disturbs requests. Plays the worker of one job."""

    def __init__(self, service: Service, front: FaultyFront) -> None:
        self.front = front
        self._service = service
        self._http = httpx.Client(base_url=service.url, timeout=10)

    def finish(self, command: list[str], status: str, **content: str) -> subprocess.CompletedProcess[str]:
        """Run a program that submits one job. Kill the service while it waits, and then finish the job.

        `content` is the JSON of `result` or `error_message`.
        """
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                job_id = wait_until(self._only_job, "the job")
                wait_until(lambda: self._is_waiting(job_id) or process.poll() is not None, "the wait")
                self._service.kill()
                self._service.start()
                self._move(job_id, '{"status": "running"}')
                fields = "".join(f', "{name}": {value}' for name, value in content.items())
                self._move(job_id, f'{{"status": "{status}"{fields}}}')
                output, errors = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def check_requests(self) -> None:
        """Check that the program sent one `Idempotency-Key`, and waited by long polls with the `ETag`."""
        (job_id,) = [job["job_id"] for job in self._http.get("/v1/jobs").json()["items"]]
        creations = self.front.sent("POST", "/v1/jobs")
        assert len(creations) == 1 + len(FAULTS["POST"])
        assert creations[-1].at - creations[-2].at >= RETRY_AFTER
        (key,) = {request.headers["idempotency-key"] for request in creations}
        assert key
        polls = [poll for poll in self.front.sent("GET", f"/{job_id}") if _has_etag(poll)]
        assert polls
        assert all("wait=" in poll.path for poll in polls)

    def _only_job(self) -> str | None:
        items = self._http.get("/v1/jobs").json()["items"]
        return items[0]["job_id"] if items else None

    def _is_waiting(self, job_id: str) -> bool:
        """Return whether a long poll with the ETag, or a stream that has returned the job, is under way."""
        is_polling = any(_has_etag(poll) for poll in self.front.sent("GET", f"/{job_id}"))
        return is_polling or b"event: changed" in self.front.streamed

    def _move(self, job_id: str, body: str) -> None:
        headers = {"Content-Type": "application/json"}
        response = self._http.patch(f"/v1/jobs/{job_id}", content=body, headers=headers)
        assert response.status_code == 200, response.text

    def close(self) -> None:
        self._http.close()


def _has_etag(request: SeenRequest) -> bool:
    return re.fullmatch(r'"\d+-\d+"', request.headers.get("if-none-match", "")) is not None


@contextmanager
def outage(redis: RedisServer, folder: Path) -> Iterator[Outage]:
    """Run a service that `Outage.finish` can kill."""
    settings = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "SHUTDOWN_DRAIN_SECONDS": "1"}
    with Service(folder, **settings) as service, faulty_front(service.url) as front:
        running = Outage(service, front)
        yield running
        running.close()
