"""The live picture is drawn anew when something happens, and goes on when nothing answers."""

import asyncio
from typing import Any

import httpx
import pytest

from jobstate_cli import streams, top
from jobstate_cli.errors import Refused
from jobstate_cli.picture import Picture, take
from jobstate_cli.service import Service
from tests.helpers.mock_transport import OPEN, ScriptedTransport, event, json_response, problem, stream_response
from tests.unit.terminal.test_views import DRAIN, QUEUES, RUNNING, STATS

EVENTS = "/v1/events"
NO_STREAM = problem(404, "unknown-route", "There is nothing at '/v1/events'.")
CHANGED = event("changed", {"job_id": "j1", "status": "running", "revision": 2, "queue": "default"}, "7")
REFUSED = httpx.ConnectError("refused")


class EnoughError(Exception):
    """Ends what would go on without end."""


class Seen:
    """A display that has enough after so many calls."""

    def __init__(self, enough: int) -> None:
        self.calls: list[str] = []
        self._enough = enough

    def show(self, picture: Picture) -> None:
        self._note("picture")

    def away(self, reason: str) -> None:
        self._note(reason)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self._enough:
            raise EnoughError


@pytest.fixture(autouse=True)
def _only_events_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "LEAST", 0.001)
    monkeypatch.setattr(top, "MOST", 60.0)
    monkeypatch.setattr(streams, "FIRST_PAUSE", 0.0)


@pytest.fixture
def scripted() -> ScriptedTransport:
    said = {"/v1/stats": STATS, "/v1/queues": QUEUES, "/v1/drain": DRAIN, "/v1/jobs": RUNNING}
    found = ScriptedTransport()
    for path, body in said.items():
        found.respond(path, *(json_response(body) for _ in range(50)))
    return found


async def see(scripted: ScriptedTransport, enough: int) -> list[str]:
    seen = Seen(enough)
    async with asyncio.timeout(10), scripted.service() as service:
        first = await take(service)
        with pytest.raises(EnoughError):
            await top.refresh(service, seen, first)
    return seen.calls


async def test_a_change_brings_a_new_picture(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, stream_response(event("hello", {}, "6"), CHANGED, OPEN))
    assert await see(scripted, enough=2) == ["picture"] * 2


async def test_a_lost_stream_is_found_again_and_looked_after(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, stream_response(), REFUSED, stream_response(OPEN))
    assert await see(scripted, enough=2) == ["picture"] * 2
    assert len(scripted.requests_to(EVENTS)) == 3


async def test_without_a_change_or_a_stream_there_is_a_new_picture_now_and_then(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "MOST", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    assert await see(scripted, enough=4) == ["picture"] * 4
    assert len(scripted.requests_to(EVENTS)) == 1


async def test_a_service_without_a_stream_is_not_listened_to(scripted: ScriptedTransport) -> None:
    scripted.respond(EVENTS, NO_STREAM)
    async with asyncio.timeout(10), scripted.service() as service:
        await top._listen(service, lambda: None)


async def test_a_service_that_is_away_is_told_until_it_is_back(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "MOST", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    scripted.responses["/v1/stats"][1:3] = [REFUSED, REFUSED]
    away = "http://service cannot be reached (refused)"
    assert await see(scripted, enough=4) == ["picture", away, away, "picture"]


async def test_a_refusal_ends_it(scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "MOST", 0.001)
    scripted.respond(EVENTS, NO_STREAM)
    scripted.responses["/v1/stats"][1:] = [httpx.Response(403)]
    async with asyncio.timeout(10), scripted.service() as service:
        first = await take(service)
        with pytest.raises(Refused, match="403 Forbidden"):
            await top.refresh(service, Seen(9), first)


async def test_an_end_that_is_asked_for_just_as_something_happens_comes(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    async def listen(service: Service, happened: Any) -> None:
        heard.append(happened.__self__)

    monkeypatch.setattr(top, "_listen", listen)
    async with scripted.service() as service:
        first = await take(service)
        refreshing = asyncio.create_task(top.refresh(service, Seen(9), first))
        while not (heard and heard[0]._waiters):  # noqa: ASYNC110 (nothing tells that somebody waits)
            await asyncio.sleep(0)
        heard[0].set()
        refreshing.cancel()
        await asyncio.wait([refreshing], timeout=1)
        assert refreshing.cancelled()
