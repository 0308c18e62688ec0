import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.api.request_context import context_of
from service.server.protocol import protocol_factory
from service.server.request_scheduler import MAX_STARTS_PER_TICK
from service.settings import Settings

REQUEST = b"GET /v1/jobs/j HTTP/1.1\r\nhost: localhost\r\n\r\n"


class NullTransport:
    """A transport that discards what is written."""

    def get_extra_info(self, _: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write(self, _: bytes) -> None: ...

    def close(self) -> None: ...


async def test_concurrent_requests_start_a_few_per_iteration_and_record_their_arrival() -> None:
    arrivals: list[Any] = []

    async def app(scope: Any, _: Any, send: Any) -> None:
        arrivals.append(context_of(scope).received_at)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=protocol_factory(Settings.from_environment({}), lambda _: None), log_config=None)
    config.load()
    make: Any = config.http_protocol_class
    state = ServerState()
    clients = [make(config=config, server_state=state, app_state={}) for _ in range(2 * MAX_STARTS_PER_TICK + 1)]
    for client in clients:
        client.connection_made(NullTransport())
        client.data_received(REQUEST)

    counts = []
    for _ in range(10):
        await asyncio.sleep(0)
        counts.append(len(arrivals))
    assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) == MAX_STARTS_PER_TICK
    assert len(arrivals) == len(clients)
    assert arrivals == sorted(arrivals)
    for client in clients:
        client.connection_lost(None)
