"""How the worker and the command line report a redirect."""

import asyncio
import logging

import httpx
import pytest

from jobstate._requests import get_job
from jobstate.cli.follow import follow
from jobstate.cli.render.text import Lines
from jobstate.errors import Redirected
from jobstate.redirects import redirect_advice
from jobstate.worker.client import WorkerClient
from tests.helpers.mock_transport import RECORD, STREAM, ScriptedTransport

REQUESTED = "http://jobs:8000/v1/jobs/j1"
CHECK = "check the URL of the service"


def redirect(location: str | None, status: int = 302, requested: str = REQUESTED) -> httpx.Response:
    headers = {} if location is None else {"Location": location}
    return httpx.Response(status, headers=headers, request=httpx.Request("GET", requested))


@pytest.mark.parametrize(
    ("location", "target", "what_to_do"),
    [
        ("https://jobs/v1/jobs/j1", "https://jobs/v1/jobs/j1", "if this is the service, use `https://jobs` as its URL"),
        ("https://a/sub/v1/jobs/j1?x=1", "https://a/sub/v1/jobs/j1?x=1", "use `https://a/sub` as its URL"),
        ("https://ann:s3cret@a/v1/jobs/j1", "https://a/v1/jobs/j1", "use `https://a` as its URL"),
        ("//other/v1/jobs/j1", "http://other/v1/jobs/j1", "use `http://other` as its URL"),
        ("/login?next=%2Fv1", "http://jobs:8000/login?next=%2Fv1", CHECK),
        ("https://login.example/", "https://login.example/", CHECK),
    ],
)
def test_the_advice_names_the_target_and_what_to_do(location: str, target: str, what_to_do: str) -> None:
    advice = redirect_advice(redirect(location))
    assert advice.startswith(f"redirect to `{target}`, not followed; ")
    assert advice.endswith(what_to_do)
    assert "s3cret" not in advice


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (None, "redirect without a `Location` header; "),
        ("https://a:port/", "redirect to the invalid URL 'https://a:port/'; "),
    ],
)
def test_the_advice_says_that_the_target_is_missing_or_invalid(location: str | None, words: str) -> None:
    assert redirect_advice(redirect(location)) == words + CHECK


def test_a_long_target_is_cut() -> None:
    assert len(redirect_advice(redirect("https://a/" + "x" * 10_000))) < 500


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_worker_logs_the_target_and_retries(
    status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        httpx.Response(status, headers={"Location": "https://jobs/v1/batch-claim"}),
        httpx.Response(204),
    ]

    async def no_pause(seconds: float) -> None: ...

    monkeypatch.setattr(asyncio, "sleep", no_pause)
    caplog.set_level(logging.WARNING)
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    async with httpx.AsyncClient(base_url="http://jobs", transport=transport) as http:
        client = WorkerClient(http, ["default"], "ann", 30)
        assert await client.claim(client.new_claim(1), 0) == ()
    (line,) = caplog.messages
    assert "redirect to `https://jobs/v1/batch-claim`" in line
    assert "use `https://jobs` as its URL" in line


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("prefix", ["https://service", "https://service/sub"])
async def test_the_command_line_reports_the_target(status: int, prefix: str) -> None:
    scripted = ScriptedTransport()
    for path in (RECORD, STREAM):
        scripted.respond(path, httpx.Response(status, headers={"Location": prefix + path}))
    at = rf"{status}: redirect to `{prefix}"
    with (
        scripted.blocking_client() as blocking,
        pytest.raises(Redirected, match=f"{at}{RECORD}`.* use `{prefix}` as its URL"),
    ):
        blocking.send(get_job("j1"))
    async with scripted.client() as client:
        with pytest.raises(Redirected, match=f"{at}{STREAM}`.* use `{prefix}` as its URL"):
            await follow(client, "j1", Lines(), None)
    assert len(scripted.requests) == 2
