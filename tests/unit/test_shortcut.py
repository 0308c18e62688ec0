from typing import Any

import pytest
from litestar.datastructures import State

from service.api import access
from service.api.shortcut import Shortcut
from service.domain.errors import StoreTimeout


@pytest.mark.parametrize("error", [StoreTimeout("no answer"), RuntimeError("a mistake")], ids=repr)
async def test_what_goes_wrong_is_left_to_the_application(error: Exception) -> None:
    class Manager:
        async def get_job(self, job_id: str) -> None:
            raise error

    asked: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope)

    state = State({"job_manager": Manager(), "rate_limiter": None, access.KEYS: ()})
    scope = {"type": "http", "method": "GET", "path": "/v1/jobs/j", "query_string": b"", "headers": []}
    await Shortcut(app, state)(scope, None, None)  # type: ignore[arg-type]
    assert asked == [scope]
