"""What a job and the service look like, on a terminal and elsewhere."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console

from jobstate_cli.follow import View
from jobstate_cli.picture import Picture, drawn, take
from jobstate_cli.records import Record
from jobstate_cli.streams import Event
from jobstate_cli.terminal import harmless, harmless_json
from jobstate_cli.views import view_on
from tests.helpers.mock_transport import ScriptedTransport, job, json_response

NOW = datetime(2026, 11, 20, 12, 1, 2, tzinfo=UTC)
STARTED = "2026-11-20T12:00:00.000000Z"
#: Clears the screen, in seven bits and in eight; ends the line; turns the direction of writing round.
EVIL = "\x1b[2J\x9b2J\r\n\u202eevil [bold]:smile:[/bold]"
HARMLESS = r"\u001b[2J\u009b2J\u000d\u000a\u202eevil [bold]:smile:[/bold]"
#: What moves and colours the text on a terminal.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def record(status: str, revision: int = 1, **fields: Any) -> Record:
    return Record.of(msgspec.json.encode(job(status, revision, **fields)))


class Terminal:
    """A terminal of a width, and what was written on it."""

    def __init__(self, width: int = 120, *, is_terminal: bool = True) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file, width=width, force_terminal=is_terminal, markup=False, emoji=False, highlight=False
        )

    @property
    def raw(self) -> str:
        return self._file.getvalue()

    @property
    def text(self) -> str:
        return CONTROL.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.text.splitlines()]


@contextlib.contextmanager
def shown_on(terminal: Terminal, *, as_json: bool = False) -> Iterator[View]:
    with view_on(terminal.console, lambda: NOW, as_json=as_json) as view:
        yield view


class TestTheBar:
    def test_it_tells_status_attempts_progress_time_and_message(self) -> None:
        terminal = Terminal()
        progress = {"current": 50, "total": 200, "message": "building"}
        with shown_on(terminal) as view:
            view.changed(record("running", started_at=STARTED, failures=1, max_attempts=3, progress=progress))
        assert re.search(
            r"j1 running +attempt 1, 1 of 3 failed +━+[╸╺]━+ +50/200 +0:01:02 +building", terminal.lines[-1]
        )

    def test_there_is_a_bar_only_where_there_is_a_total(self) -> None:
        terminal = Terminal()
        with shown_on(terminal) as view:
            view.changed(record("running", started_at=STARTED, progress={"current": 50}))
        assert "━" not in terminal.text
        assert " 50 0:01:02" in terminal.text

    @pytest.mark.parametrize(("status", "sign"), [("completed", "✓"), ("failed", "✗"), ("cancelled", "■")])
    def test_it_ends_with_how_and_when_the_job_ended_and_what_came_out(self, status: str, sign: str) -> None:
        terminal = Terminal()
        outcome: dict[str, Any] = {"result" if status == "completed" else "error_message": {"a": [1]}}
        with shown_on(terminal) as view:
            view.ended(record(status, started_at=STARTED, finished_at="2026-11-20T13:00:05.000000Z", **outcome))
        *_, line, last = terminal.lines
        assert re.search(rf"{sign} j1 {status} +attempt 1 +1:00:05", line)
        assert last == '{"a":[1]}'

    def test_a_lost_line_is_told_above_it(self) -> None:
        terminal = Terminal()
        with shown_on(terminal) as view:
            view.changed(record("running"))
            view.lost("it was cut", 1.26)
            view.back()
        assert "It was cut; trying again in 1.3 s.\n" in terminal.text
        assert "Connected again.\n" in terminal.text

    def test_no_text_of_a_job_steers_the_terminal(self) -> None:
        terminal = Terminal(width=200)
        with shown_on(terminal) as view:
            view.changed(record("running", progress={"current": 1, "message": EVIL}))
        assert HARMLESS in terminal.text
        with shown_on(terminal) as view:
            view.lost(f"lost {EVIL}", 1)
            view.ended(record("failed", error_message={"evil\u009b": "\u202e[bold]"}))
        assert f"Lost {HARMLESS}; trying" in terminal.text
        assert r'{"evil\u009b":"\u202e[bold]"}' in terminal.text
        assert not re.search("[\x9b\u202e]|\x1b\\[2J", terminal.raw)

    def test_the_cursor_comes_back_after_an_error(self) -> None:
        terminal = Terminal()
        with pytest.raises(ValueError, match="oops"), shown_on(terminal):
            raise ValueError("oops")
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


class TestLines:
    def test_each_change_is_one_line_and_the_last_is_what_came_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        with shown_on(Terminal(is_terminal=False)) as view:
            view.changed(record("pending"))
            view.changed(record("running", 2, progress={"current": 1, "total": 4, "message": "a\u2028b"}))
            view.changed(record("running", 3, stale=True, cancel_requested_at=STARTED, progress={"current": 2}))
            view.lost("it was cut", 2)
            view.back()
            view.ended(record("completed", 4, result="Hello"))
        told = capsys.readouterr()
        assert told.out.splitlines() == [
            "2026-11-20T12:00:01Z  pending",
            "2026-11-20T12:00:02Z  running  attempt 1  1/4  a\\u2028b",
            "2026-11-20T12:00:03Z  running  attempt 1, lease over, cancel asked for  2",
            '"Hello"',
        ]
        assert told.err == "It was cut; trying again in 2.0 s.\nConnected again.\n"

    def test_an_end_that_is_told_afterwards_has_no_time(self, capsys: pytest.CaptureFixture[str]) -> None:
        with shown_on(Terminal(is_terminal=False)) as view:
            view.changed(Record.of(b'{"job_id":"j1","status":"failed","revision":3,"queue":"default"}'))
        assert capsys.readouterr().out == "failed\n"

    def test_nothing_comes_after_the_last_line_of_a_job_without_a_result(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with shown_on(Terminal(is_terminal=False)) as view:
            view.ended(record("cancelled"))
        assert capsys.readouterr().out == ""


def test_json_lines_are_the_events_and_at_the_end_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    changed, last = record("running"), record("completed", 2, result=[1])
    with shown_on(Terminal(), as_json=True) as view:
        view.changed(changed)
        view.lost("it was cut", 2)
        view.gone(Event("deleted", b'{"job_id":"j1"}'))
        view.ended(last)
    told = capsys.readouterr()
    assert told.out.encode().splitlines() == [
        b'{"event":"changed","data":' + changed.json + b"}",
        b'{"event":"deleted","data":{"job_id":"j1"}}',
        b'{"event":"ended","data":' + last.json + b"}",
    ]
    assert told.err == "It was cut; trying again in 2.0 s.\n"


@pytest.mark.parametrize("text", ["plain ☃ 👩‍🚀 语", "", "tab-free"])
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x2028, 0x202E, 0x2066, 0xD800])
def test_every_character_that_steers_is_written_out(code: int) -> None:
    assert harmless(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_json_for_a_terminal_means_the_same() -> None:
    text = '{\n\t"a": "\u009b\u202e\u2028\x7f", "ü": "☃"}'
    assert json.loads(harmless_json(text.encode())) == json.loads(text)
    assert harmless_json(text.encode()).decode() == '{\n\t"a": "\\u009b\\u202e\\u2028\\u007f", "ü": "☃"}'


STATS: Any = {
    "at": "2026-11-20T12:00:10.000000Z",
    "statuses": {"pending": 5, "running": 4, "completed": 7, "failed": 1, "cancelled": 0, "blessed": 2},
    "delayed": 2,
    "queues": {},
    "running": {"leased": 3, "unleased": 1},
}
QUEUES: Any = {
    "items": [
        {"queue": "lineups", "paused": True, "max_running": 3, "statuses": {"pending": 4, "running": 3}},
        {"queue": "other", "paused": False, "statuses": {"pending": 1, "running": 1}},
    ]
}
DRAIN: Any = {"draining": False, "running": 4, "leased": 3, "safe_to_stop": False}
RUNNING: Any = {
    "items": [
        job(
            "running",
            worker="ann",
            lease_expires_at="2026-11-20T12:00:31.000000Z",
            progress={"current": 5, "total": 10, "message": EVIL},
        ),
        job("running") | {"job_id": "j2", "stale": True, "lease_expires_at": STARTED},
        job("running") | {"job_id": "j3"},
    ]
}


class TestThePicture:
    async def take(self, drain: Any = None) -> Picture:
        scripted = (
            ScriptedTransport().respond("/v1/stats", json_response(STATS)).respond("/v1/queues", json_response(QUEUES))
        )
        scripted.respond("/v1/drain", json_response(drain or DRAIN)).respond("/v1/jobs", json_response(RUNNING))
        async with scripted.service() as service:
            picture = await take(service)
        assert scripted.requests_to("/v1/jobs")[0].url.params["status"] == "running"
        return picture

    async def test_it_shows_counts_queues_and_running_jobs(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(drawn(await self.take(), "http://here", None))
        lines = [re.sub(" {2,}", "  ", line) for line in terminal.lines]
        assert re.match(r"http://here  2026-11-20 12:00:1\d UTC  open", lines[0])
        assert lines[1] == (
            "pending 5 (2 delayed)  running 4 (1 without a lease)  completed 7  failed 1  cancelled 0  blessed 2"
        )
        assert lines[3:6] == [
            "QUEUE  PENDING  RUNNING  CAP  STATE",
            "lineups  4  3  3  paused",
            "other  1  1  -  open",
        ]
        assert lines[7] == "RUNNING  QUEUE  WORKER  ATTEMPT  LEASE  PROGRESS  MESSAGE"
        assert re.fullmatch(rf"j1  default  ann  1  (19|2[01]) s  ━+[╸╺]━+  5/10  {re.escape(HARMLESS)}", lines[8])
        assert lines[9:12] == ["j2  default  -  1  over", "j3  default  -  1  -", "… and 1 more"]

    async def test_no_text_of_a_job_steers_the_terminal(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(drawn(await self.take(), "http://here", None, trouble=EVIL))
        assert terminal.text.count(HARMLESS) == 2
        assert not re.search("[\x9b\u202e]|\x1b\\[2J", terminal.raw)

    async def test_it_fits_into_the_terminal(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(drawn(await self.take(), "http://here", 12, trouble="away"))
        assert len(terminal.lines) <= 12
        assert terminal.lines[-1] == "… and 3 more"

    @pytest.mark.parametrize(("leased", "safe", "words"), [(3, False, "3 with a worker"), (0, True, "safe to stop")])
    async def test_it_says_when_the_service_drains(self, leased: int, safe: bool, words: str) -> None:
        drain = {**DRAIN, "draining": True, "leased": leased, "safe_to_stop": safe, "until": STARTED}
        terminal = Terminal(width=200)
        terminal.console.print(drawn(await self.take(drain), "http://here", None))
        assert terminal.lines[0].endswith(f"draining until 12:00:00, {words}")

    async def test_as_json_it_is_the_answers_as_they_came(self) -> None:
        picture = json.loads((await self.take()).json)
        assert picture == {
            "stats": STATS,
            "queues": QUEUES,
            "drain": DRAIN,
            "running": RUNNING,
        }
