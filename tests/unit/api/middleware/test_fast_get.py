from types import SimpleNamespace
from typing import Any

import pytest
from litestar.datastructures import State

from service.api.middleware.fast_get import ROUTE, JobReadFastPath
from service.domain.errors import StoreTimeout
from service.domain.jobs import Job
from service.services import SERVICES
from service.store.records import decode_job
from tests.unit.api.middleware.asgi import http_scope
from tests.unit.store.test_records import FULL, NOW

JOB = decode_job("j", FULL, NOW)


class Manager:
    def __init__(self, job: Job | Exception | None = JOB) -> None:
        self.job = job
        self.requested_ids: list[str] = []

    async def get_job(self, job_id: str) -> Job | None:
        self.requested_ids.append(job_id)
        if isinstance(self.job, Exception):
            raise self.job
        return self.job


async def send_request(manager: Manager, limiter: Any = None, keys: Any = (), **changed: Any) -> tuple[Any, Any]:
    """Return the status of the fast path, or `None`, and the request's scope."""
    passed, sent = [], []

    async def app(*_: Any) -> None:
        passed.append(True)

    async def send(message: Any) -> None:
        sent.append(message)

    request = http_scope("/v1/jobs/j") | {"query_string": b""} | changed
    state = State({SERVICES: SimpleNamespace(jobs=manager, rate_limiter=limiter, api_keys=keys)})
    await JobReadFastPath(app, state)(request, None, send)  # type: ignore[arg-type]
    assert len(passed) + len(sent) in (1, 2)
    return (sent[0]["status"] if sent else None), request


async def test_a_plain_read_uses_the_fast_path() -> None:
    manager = Manager()
    status, request = await send_request(manager)
    assert (status, manager.requested_ids, request["path_template"]) == (200, ["j"], ROUTE)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PATCH"},
        {"method": "HEAD"},
        {"query_string": b"wait=1"},
        {"path": "/v1/jobs"},
        {"path": "/v1/jobs/"},
        {"path": "/v1/jobs/j/result"},
        {"path": "/v1/jobs/j?"},
        {"path": "/v2/jobs/j"},
        {"limiter": "a limiter"},
        {"keys": ("a key",)},
        *({"headers": [(name, b"x")]} for name in (b"if-none-match", b"prefer", b"origin", b"content-length")),
        {"headers": [(b"accept", b"text/html")]},
        {"headers": [(b"transfer-encoding", b"chunked")]},
    ],
    ids=str,
)
async def test_every_other_request_is_passed_on_without_a_call_to_redis(changed: dict[str, Any]) -> None:
    manager = Manager()
    assert (await send_request(manager, **changed))[0] is None
    assert manager.requested_ids == []


@pytest.mark.parametrize("job", [None, StoreTimeout("no answer"), RuntimeError("a mistake")], ids=repr)
async def test_a_missing_job_or_an_error_is_passed_on(job: Any) -> None:
    assert (await send_request(Manager(job)))[0] is None
