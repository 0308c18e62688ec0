"""`jobstate watch`, `submit --watch` and `top` with the real service, and across its restarts."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.background import Outcomes, in_background
from tests.helpers.cli_process import jobstate, start, start_on_terminal
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import NewRedis
from tests.helpers.service_process import Service
from tests.integration.terminal.test_cli import EVIL, EXACT, create, move

ENDINGS = [
    ("completed", {"result": {"lineups": [1, 2]}}, 0, '{"lineups":[1,2]}'),
    ("completed", {}, 0, None),
    ("failed", {"error_message": "no solution"}, 3, '"no solution"'),
    ("cancelled", {}, 4, None),
]
#: Escape sequences that show and hide the cursor, and enter and leave the alternate screen.
SHOW, HIDE, ENTER, LEAVE = "\x1b[?25h", "\x1b[?25l", "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def url(api: httpx.Client) -> str:
    return str(api.base_url)


def events(out: str) -> list[tuple[str, Any]]:
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(set(line) == {"event", "data"} for line in lines)
    return [(line["event"], line["data"]) for line in lines]


@pytest.mark.parametrize(("status", "ending", "code", "outcome"), ENDINGS)
class TestFinalStatus:
    """A job that finishes while it is watched, in every kind of output."""

    def test_a_pipe_gets_a_line_for_each_change(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, outcome: str | None
    ) -> None:
        create(api)
        with start(url, "watch", "j1") as watch:
            watch.wait_for_output("pending")
            move(api, "j1", "running", progress={"current": 1, "total": 4, "message": "one"})
            watch.wait_for_output("running")
            move(api, "j1", status, **ending)
            assert watch.wait() == code
        lines = watch.raw.splitlines()
        outcomes = [outcome] if outcome else []
        assert [re.sub(r"^\S+Z  ", "", line) for line in lines] == [
            "pending",
            "running  attempt 1  1/4  one",
            f"{status}  attempt 1  1/4  one",
            *outcomes,
        ]
        assert watch.errors == ""

    def test_json_has_an_event_for_each_change_and_the_record(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, outcome: str | None
    ) -> None:
        create(api, status="running")
        with start(url, "watch", "j1", "--json") as watch:
            watch.wait_for_output("running")
            move(api, "j1", status, **ending)
            assert watch.wait() == code
        *seen, (last, record) = events(watch.raw)
        assert [(event, data["status"]) for event, data in seen] == [("changed", "running"), ("changed", status)]
        assert all("result" not in data for _, data in seen)
        assert (last, record) == ("ended", api.get("/v1/jobs/j1").json())
        assert watch.errors == ""

    def test_a_terminal_gets_a_progress_bar_and_the_outcome(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, outcome: str | None
    ) -> None:
        create(api, status="running")
        with start_on_terminal(url, "watch", "j1") as watch:
            watch.wait_for_output("running")
            move(api, "j1", "running", progress={"current": 3, "total": 4, "message": "nearly"})
            watch.wait_for_output("━ 3/4 0:0")
            watch.wait_for_output("nearly")
            move(api, "j1", status, **ending)
            assert watch.wait() == code
        assert status in watch.text
        assert (watch.text.splitlines()[-1] == outcome) is (outcome is not None)
        assert watch.raw.rindex(SHOW) > watch.raw.rindex(HIDE)

    def test_a_finished_job_is_shown_at_once(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, outcome: str | None
    ) -> None:
        create(api, status="running")
        move(api, "j1", status, **ending)
        result = jobstate(url, "watch", "j1")
        assert (result.code, result.err) == (code, "")
        assert result.out.decode().splitlines()[1:] == ([outcome] if outcome else [])


def test_the_result_is_printed_byte_for_byte(api: httpx.Client, url: str) -> None:
    create(api, status="running")
    api.patch("/v1/jobs/j1", content=b'{"status":"completed","result":' + EXACT + b"}")
    assert b'"result":' + EXACT + b"," in jobstate(url, "watch", "j1", "--json").out
    assert jobstate(url, "watch", "j1").out.endswith(b"completed  attempt 1\n" + EXACT + b"\n")


def test_a_timeout_exits_with_6(api: httpx.Client, url: str) -> None:
    create(api)
    result = jobstate(url, "watch", "j1", "--timeout", "0.5")
    assert (result.code, result.err) == (6, "Error: j1 did not finish within 0.5 s\n")
    assert result.out.endswith(b"pending\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [["watch", "j1"], ["top"]], ids=" ".join)
def test_a_signal_ends_it_and_restores_the_terminal(
    api: httpx.Client, url: str, command: list[str], number: signal.Signals, code: int
) -> None:
    create(api)
    with start_on_terminal(url, *command) as terminal:
        terminal.wait_for_output("pending")
        terminal.send(number)
        assert terminal.wait() == code
    assert terminal.raw.rindex(SHOW) > terminal.raw.rindex(HIDE)
    assert ENTER not in terminal.raw or terminal.raw.rindex(LEAVE) > terminal.raw.rindex(ENTER)
    assert "Traceback" not in terminal.text
    assert "Aborted" not in terminal.text


def test_a_terminal_that_cannot_move_the_cursor_gets_lines(api: httpx.Client, url: str) -> None:
    create(api, status="completed", result=[1])
    with start_on_terminal(url, "watch", "j1", TERM="dumb") as watch:
        assert watch.wait() == 0
    line, outcome = watch.raw.splitlines()
    assert (line.endswith("Z  completed  attempt 1"), outcome) == (True, "[1]")


def test_text_of_a_job_is_escaped_on_a_terminal(api: httpx.Client, url: str) -> None:
    create(api, status="running")
    move(api, "j1", "running", progress={"current": 1, "message": "\u202e[bold]:boom:"})
    with start_on_terminal(url, "watch", "j1") as watch:
        watch.wait_for_output(r"\u202e[bold]:boom:")
        move(api, "j1", "failed", error_message={"evil": EVIL})
        assert watch.wait() == 3
    assert r'{"evil":"\u009b2J\u202e"}' in watch.text
    assert not re.search("[\x9b\u202e]", watch.raw)


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 3)])
def test_submit_with_watch_exits_with_the_code_of_the_status(
    api: httpx.Client, url: str, tmp_path: Path, status: str, code: int
) -> None:
    (tmp_path / "input.json").write_text("[1]")
    with start(url, "submit", str(tmp_path / "input.json"), "--id", "j1", "--watch") as submit:
        submit.wait_for_output("pending")
        move(api, "j1", "running")
        move(api, "j1", status)
        assert submit.wait() == code
    first, *_, last = submit.raw.splitlines()
    assert first == "j1"
    assert last.endswith(f"{status}  attempt 1")


def test_submit_with_watch_as_json_prints_only_events(api: httpx.Client, url: str, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text("[1]")
    with start(url, "submit", str(tmp_path / "input.json"), "--id", "j1", "--watch", "--json") as submit:
        submit.wait_for_output("pending")
        assert api.post("/v1/jobs/j1/cancel").status_code == 200
        assert submit.wait() == 4
    assert [name for name, _ in events(submit.raw)] == ["changed", "changed", "ended"]


class TestServiceRestart:
    @pytest.fixture
    def service(self, tmp_path: Path) -> Any:
        with Service(tmp_path) as service:
            yield service

    @pytest.mark.parametrize("how", ["killed", "stopped"])
    def test_a_watch_reconnects(self, service: Service, how: str) -> None:
        with httpx.Client(base_url=service.url) as api, start(service.url, "watch", "j1", "--json") as early:
            assert early.wait() == 5
            create(api, status="running")
            with (
                start(service.url, "watch", "j1", "--json") as watch,
                start_on_terminal(service.url, "watch", "j1") as terminal,
            ):
                watch.wait_for_output("running")
                terminal.wait_for_output("running")
                service.kill() if how == "killed" else service.stop()
                watch.wait_for_output("retrying")
                terminal.wait_for_output("retrying")
                service.start()
                move(api, "j1", "running", progress={"current": 1})
                move(api, "j1", "completed", result=[1])
                assert (watch.wait(), terminal.wait()) == (0, 0)
        seen = events(watch.raw)
        revisions = [data["revision"] for name, data in seen if name == "changed"]
        assert revisions == sorted(set(revisions))
        assert seen[-1][0] == "ended"
        assert seen[-1][1]["result"] == [1]
        assert "Reconnected." in watch.errors
        assert "Reconnected." in terminal.text
        assert terminal.text.splitlines()[-1] == "[1]"

    def test_a_job_that_finished_during_the_outage_ends_the_watch(self, service: Service) -> None:
        with httpx.Client(base_url=service.url) as api:
            create(api, status="running")
            with start(service.url, "watch", "j1") as watch:
                watch.wait_for_output("running")
                service.kill()
                watch.wait_for_output("retrying")
                watch.send(signal.SIGSTOP)
                service.start()
                move(api, "j1", "failed", error_message="lost")
                watch.send(signal.SIGCONT)
                assert watch.wait() == 3
        assert watch.raw.splitlines()[-1] == '"lost"'
        assert re.fullmatch(r"(.+; retrying in \d+\.\d s\.\n)+Reconnected\.\n", watch.errors)


class TestTop:
    def test_it_shows_changes(self, api: httpx.Client, url: str) -> None:
        with start_on_terminal(url, "top") as top:
            top.wait_for_output("running 0")
            create(api, "j1", queue="lineups")
            claimed = api.post("/v1/claims", json={"queues": ["lineups"], "worker": "ann", "lease_seconds": 60}).json()
            top.wait_for_output("running 1")
            assert re.search(r"j1 +lineups +ann +1 +(60|5\d) s", top.text)
            progress = {"progress": {"current": 5, "total": 10, "message": "half"}}
            token = {"Lease-Token": claimed["lease"]["token"]}
            assert api.post("/v1/jobs/j1/heartbeat", json=progress, headers=token).status_code == 200
            top.wait_for_output("5/10  half")

    def test_json_has_a_line_for_each_snapshot(self, api: httpx.Client, url: str) -> None:
        with start(url, "top", "--json") as top:
            top.wait_for_output("\n")
            create(api, "j1")
            wait_until(lambda: '"pending":1' in top.raw, "the new job")
            top.send(signal.SIGINT)
            assert top.wait() == 130
        snapshots = [json.loads(line) for line in top.raw.splitlines()]
        assert all(set(snapshot) == {"stats", "queues", "drain", "running"} for snapshot in snapshots)
        assert [snapshot["stats"]["statuses"]["pending"] for snapshot in snapshots][-1] == 1


def test_a_watch_sees_changes_made_through_another_process(tmp_path: Path) -> None:
    with Service(tmp_path, JOBSTATE_WORKERS="2") as service, httpx.Client(base_url=service.url) as api:
        create(api, status="running")
        with start(service.url, "watch", "j1") as first, start(service.url, "watch", "j1") as second:
            first.wait_for_output("running")
            second.wait_for_output("running")
            move(api, "j1", "completed")
            assert (first.wait(), second.wait()) == (0, 0)


def job_expires_under_a_watch(_: NewRedis, tmp_path: Path) -> None:
    with Service(tmp_path, JOB_TTL_SECONDS="5") as service, httpx.Client(base_url=service.url) as api:
        create(api)
        result = jobstate(service.url, "watch", "j1", "--json")
    assert (result.code, result.err) == (5, "Error: j1 has expired\n")
    assert [name for name, _ in events(result.out.decode())] == ["changed", "expired"]


def service_restarts_under_top(_: NewRedis, tmp_path: Path) -> None:
    with (
        Service(tmp_path) as service,
        httpx.Client(base_url=service.url) as api,
        start_on_terminal(service.url, "top") as top,
    ):
        top.wait_for_output("pending 0")
        service.kill()
        top.wait_for_output("cannot be reached")
        service.start()
        create(api)
        top.wait_for_output("pending 1")
        top.send(signal.SIGINT)
        assert top.wait() == 130


@pytest.fixture(scope="module", autouse=True)
def waiting(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The outcomes of the last two tests."""
    with in_background(
        request,
        test_a_job_that_expires_ends_the_watch=job_expires_under_a_watch,
        test_top_shows_the_outage_and_continues=service_restarts_under_top,
    ) as outcomes:
        yield outcomes


def test_a_job_that_expires_ends_the_watch(waiting: Outcomes) -> None:
    waiting["test_a_job_that_expires_ends_the_watch"].result()


def test_top_shows_the_outage_and_continues(waiting: Outcomes) -> None:
    waiting["test_top_shows_the_outage_and_continues"].result()
