import asyncio
import gc
from typing import Any

import pytest

from service.api.middleware.concurrency import ConcurrencyLimiter, RequestSlot
from tests.unit.api.middleware.asgi import App, admission, http_scope, request


async def test_requests_above_the_limit_are_rejected_and_later_ones_admitted() -> None:
    app = App()
    app.release.clear()
    stack = admission(app, limiter=ConcurrencyLimiter(2, 1, 1))
    active = [asyncio.create_task(request(stack, http_scope())) for _ in range(2)]
    await app.two_requests.wait()

    status, headers, problem = await request(stack, http_scope())
    assert (status, headers["retry-after"]) == (503, "1")
    assert problem["type"] == "urn:jobstate:problem:overloaded"

    app.release.set()
    assert [response[0] for response in await asyncio.gather(*active)] == [200, 200]
    assert (await request(stack, http_scope()))[0] == 200


async def test_a_request_that_fails_releases_its_slot() -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    stack = admission(broken)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await request(stack, http_scope())


async def test_a_request_over_the_connection_limit_is_rejected_and_its_connection_closed() -> None:
    stack = admission(limiter=ConcurrencyLimiter(9, 1, 1))
    status, headers, problem = await request(stack, http_scope(is_over_connection_limit=True))
    assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
    assert "MAX_CONNECTIONS" in problem["detail"]


async def test_a_request_slot_is_freed_without_garbage_collection() -> None:
    stack = admission()
    gc.disable()
    try:
        await request(stack, http_scope())
        assert not [one for one in gc.get_objects() if type(one) is RequestSlot]
    finally:
        gc.enable()
