"""`jobstate top` refreshes after changes, and survives outages."""

import asyncio
from typing import Any

import httpx
import pytest

from jobstate import RequestRejected, RetryPolicy
from jobstate.cli import connection
from jobstate.cli.commands import top
from jobstate.cli.commands.top import fetch_snapshot
from jobstate.cli.connection import AsyncClient
from jobstate.cli.render.dashboard import Snapshot
from tests.helpers.mock_transport import OPEN, ScriptedTransport, event, json_response, problem, stream_response
from tests.unit.terminal.test_views import DRAIN, QUEUES, RUNNING, STATS

EVENTS = "/v1/events"
NO_STREAM = problem(404, "unknown-route", "There is nothing at '/v1/events'.")
CHANGED = event("changed", {"job_id": "j1", "status": "running", "revision": 2, "queue": "default"}, "7")
REFUSED = httpx.ConnectError("refused")


class EnoughError(Exception):
    """Ends the refresh."""


class RecordingDisplay:
    """A display that records its calls, and raises after `enough` of them."""

    def __init__(self, enough: int) -> None:
        self.calls: list[str] = []
        self._enough = enough

    def show(self, snapshot: Snapshot) -> None:
        self._note("snapshot")

    def show_error(self, reason: str) -> None:
        self._note(reason)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self._enough:
            raise EnoughError


@pytest.fixture(autouse=True)
def _only_events_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "MIN_REFRESH", 0.001)
    monkeypatch.setattr(top, "MAX_REFRESH", 60.0)
    monkeypatch.setattr(connection, "RECONNECTS", RetryPolicy(first_delay=0.0))


@pytest.fixture
def scripted() -> ScriptedTransport:
    responses = {"/v1/stats": STATS, "/v1/queues": QUEUES, "/v1/drain": DRAIN, "/v1/jobs": RUNNING}
    scripted = ScriptedTransport()
    for path, body in responses.items():
        scripted.respond(path, *(json_response(body) for _ in range(50)))
    return scripted


async def run_refresh(scripted: ScriptedTransport, enough: int) -> list[str]:
    display = RecordingDisplay(enough)
    async with asyncio.timeout(10), scripted.client() as client:
        first = await fetch_snapshot(client)
        with pytest.raises(EnoughError):
            await top.refresh(client, display, first)
    return display.calls


async def test_a_change_triggers_a_new_snapshot(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, stream_response(event("hello", {}, "6"), CHANGED, OPEN))
    assert await run_refresh(scripted, enough=2) == ["snapshot"] * 2


async def test_a_reconnect_triggers_a_new_snapshot(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, stream_response(), REFUSED, stream_response(OPEN))
    assert await run_refresh(scripted, enough=2) == ["snapshot"] * 2
    assert len(scripted.requests_to(EVENTS)) == 3


async def test_without_events_there_is_a_new_snapshot_periodically(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "MAX_REFRESH", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    assert await run_refresh(scripted, enough=4) == ["snapshot"] * 4
    assert len(scripted.requests_to(EVENTS)) == 1


async def test_the_listener_ends_if_there_is_no_stream(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, NO_STREAM)
    async with asyncio.timeout(10), scripted.client() as client:
        await top._listen(client, lambda: None)


async def test_an_outage_is_shown_until_the_service_has_recovered(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "MAX_REFRESH", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    scripted.responses["/v1/stats"][1:3] = [REFUSED, REFUSED]
    unavailable = "http://service cannot be reached (refused)"
    assert await run_refresh(scripted, enough=4) == ["snapshot", unavailable, unavailable, "snapshot"]


async def test_a_rejected_request_ends_it(scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "MAX_REFRESH", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    scripted.responses["/v1/stats"][1:] = [problem(403, "insufficient-scope", "The key lacks the scope.")]
    async with asyncio.timeout(10), scripted.client() as client:
        first = await fetch_snapshot(client)
        with pytest.raises(RequestRejected, match="The key lacks the scope"):
            await top.refresh(client, RecordingDisplay(9), first)


async def test_a_cancellation_at_the_time_of_a_change_is_effective(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners: list[Any] = []

    async def listen(client: AsyncClient, happened: Any) -> None:
        listeners.append(happened.__self__)

    monkeypatch.setattr(top, "_listen", listen)
    async with scripted.client() as client:
        first = await fetch_snapshot(client)
        refreshing = asyncio.create_task(top.refresh(client, RecordingDisplay(9), first))
        while not (listeners and listeners[0]._waiters):  # noqa: ASYNC110 (an `asyncio.Event` does not report its waiters)
            await asyncio.sleep(0)
        listeners[0].set()
        refreshing.cancel()
        await asyncio.wait([refreshing], timeout=1)
        assert refreshing.cancelled()
