"""How jobs and snapshots are displayed on terminals and pipes."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from jobstate._sse import Event
from jobstate.cli.commands.top import fetch_snapshot
from jobstate.cli.follow import Change, View, change_of
from jobstate.cli.output import escape_control_chars, escape_json_control_chars
from jobstate.cli.render.dashboard import Snapshot, render, unavailable_text
from jobstate.cli.render.fitting import Time
from jobstate.cli.render.json import JsonLines
from jobstate.cli.render.messages import disconnected_text
from jobstate.cli.render.progress import progress_bar
from jobstate.cli.render.tables import TableListing
from jobstate.cli.render.text import Lines
from tests.helpers.mock_transport import ScriptedTransport, json_response
from tests.helpers.records import record_fields as job

NOW = datetime(2026, 11, 20, 12, 1, 2, tzinfo=UTC)
STARTED = "2026-11-20T12:00:00.000000Z"
#: Escape sequences in 7 and 8 bits that clear the screen, line breaks, a bidirectional control, and markup.
EVIL = "\x1b[2J\x9b2J\r\n\u202eevil [bold]:smile:[/bold]"
ESCAPED = r"\u001b[2J\u009b2J\u000d\u000a\u202eevil [bold]:smile:[/bold]"
#: Escape sequences that move the cursor and set colours.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def record(status: str, revision: int = 1, **fields: Any) -> Change:
    return change_of(msgspec.json.encode(job(status, revision, **fields)))


class Terminal:
    """A terminal of the given width, and its output."""

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
def shown_on(terminal: Terminal) -> Iterator[View]:
    with progress_bar(terminal.console, lambda: NOW) as view:
        yield view


class TestProgressBar:
    def test_it_shows_status_attempts_progress_time_and_message(self) -> None:
        terminal = Terminal()
        progress = {"current": 50, "total": 200, "message": "building"}
        with shown_on(terminal) as view:
            view.changed(record("running", started_at=STARTED, failures=1, max_attempts=3, progress=progress))
        assert re.search(
            r"j1 running +attempt 1, 1 of 3 failed +━+[╸╺]━+ +50/200 +0:01:02 +building", terminal.lines[-1]
        )

    def test_there_is_a_bar_only_if_there_is_a_total(self) -> None:
        terminal = Terminal()
        with shown_on(terminal) as view:
            view.changed(record("running", started_at=STARTED, progress={"current": 50}))
        assert "━" not in terminal.text
        assert " 50 0:01:02" in terminal.text

    @pytest.mark.parametrize(("status", "sign"), [("completed", "✓"), ("failed", "✗"), ("cancelled", "■")])
    def test_it_ends_with_the_final_status_the_duration_and_the_outcome(self, status: str, sign: str) -> None:
        terminal = Terminal()
        outcome: dict[str, Any] = {"result" if status == "completed" else "error_message": {"a": [1]}}
        with shown_on(terminal) as view:
            view.finished(record(status, started_at=STARTED, finished_at="2026-11-20T13:00:05.000000Z", **outcome))
        *_, line, last = terminal.lines
        assert re.search(rf"{sign} j1 {status} +attempt 1 +1:00:05", line)
        assert last == '{"a":[1]}'

    def test_a_lost_connection_is_reported_above_it(self) -> None:
        terminal = Terminal()
        with shown_on(terminal) as view:
            view.changed(record("running"))
            view.on_disconnect("it was cut", 1.26)
            view.on_reconnect()
        assert "It was cut; retrying in 1.3 s.\n" in terminal.text
        assert "Reconnected.\n" in terminal.text

    def test_a_final_status_without_a_record_is_shown(self) -> None:
        terminal = Terminal()
        with shown_on(terminal) as view:
            view.changed(record("running"))
            view.finished(change_of(b'{"job_id":"j1","status":"failed","revision":3,"queue":"default"}'))
        assert re.search("✗ j1 failed +attempt 1", terminal.lines[-1])
        other = Terminal()
        with shown_on(other) as view:
            view.finished(change_of(b'{"job_id":"j1","status":"failed","revision":3,"queue":"default"}'))
        assert "failed" in other.text

    def test_text_of_a_job_is_escaped(self) -> None:
        terminal = Terminal(width=200)
        with shown_on(terminal) as view:
            view.changed(record("running", progress={"current": 1, "message": EVIL}))
        assert ESCAPED in terminal.text
        with shown_on(terminal) as view:
            view.on_disconnect(f"lost {EVIL}", 1)
            view.finished(record("failed", error_message={"evil\u009b": "\u202e[bold]"}))
        assert f"Lost {ESCAPED}; retrying" in terminal.text
        assert r'{"evil\u009b":"\u202e[bold]"}' in terminal.text
        assert not re.search("[\x9b\u202e]|\x1b\\[2J", terminal.raw)

    def test_the_cursor_is_shown_again_after_an_error(self) -> None:
        terminal = Terminal()
        with pytest.raises(ValueError, match="oops"), shown_on(terminal):
            raise ValueError("oops")
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


class TestTextLines:
    def test_each_change_is_one_line_and_the_outcome_is_the_last(self, capsys: pytest.CaptureFixture[str]) -> None:
        view: View = Lines()
        view.changed(record("pending"))
        view.changed(record("running", 2, progress={"current": 1, "total": 4, "message": "a\u2028b"}))
        view.changed(record("running", 3, stale=True, cancel_requested_at=STARTED, progress={"current": 2}))
        view.on_disconnect("it was cut", 2)
        view.on_reconnect()
        view.finished(record("completed", 4, result="Hello"))
        output = capsys.readouterr()
        assert output.out.splitlines() == [
            "2026-11-20T12:00:01Z  pending",
            "2026-11-20T12:00:02Z  running  attempt 1  1/4  a\\u2028b",
            "2026-11-20T12:00:03Z  running  attempt 1, lease expired, cancellation requested  2",
            '"Hello"',
        ]
        assert output.err == "It was cut; retrying in 2.0 s.\nReconnected.\n"

    def test_a_final_status_without_a_record_has_no_time(self, capsys: pytest.CaptureFixture[str]) -> None:
        view: View = Lines()
        view.changed(change_of(b'{"job_id":"j1","status":"failed","revision":3,"queue":"default"}'))
        assert capsys.readouterr().out == "failed\n"

    def test_a_job_without_an_outcome_has_no_last_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        view: View = Lines()
        view.finished(record("cancelled"))
        assert capsys.readouterr().out == ""


def test_json_lines_are_the_events_and_finally_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    changed, last = record("running"), record("completed", 2, result=[1])
    view: View = JsonLines()
    view.changed(changed)
    view.on_disconnect("it was cut", 2)
    view.removed(Event("deleted", b'{"job_id":"j1"}'))
    view.finished(last)
    output = capsys.readouterr()
    assert output.out.encode().splitlines() == [
        b'{"event":"changed","data":' + changed.json + b"}",
        b'{"event":"deleted","data":{"job_id":"j1"}}',
        b'{"event":"ended","data":' + last.json + b"}",
    ]
    assert output.err == "It was cut; retrying in 2.0 s.\n"


def test_the_message_about_an_outage_capitalizes_a_word_but_no_url() -> None:
    refused = "http://127.0.0.1:8000 cannot be reached (refused)"
    assert disconnected_text(refused, 1) == f"{refused}; retrying in 1.0 s."
    assert unavailable_text(refused) == f"{refused}; retrying."
    assert unavailable_text("redis is away") == "Redis is away; retrying."


@pytest.mark.parametrize("text", ["plain ☃ 👩‍🚀 语", "", "tab-free"])
def test_text_without_control_characters_is_unchanged(text: str) -> None:
    assert escape_control_chars(text) == text


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x2028, 0x202E, 0x2066, 0xD800])
def test_every_control_character_is_escaped(code: int) -> None:
    assert escape_control_chars(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_escaped_json_is_equivalent() -> None:
    text = '{\n\t"a": "\u009b\u202e\u2028\x7f", "ü": "☃"}'
    assert json.loads(escape_json_control_chars(text.encode())) == json.loads(text)
    assert escape_json_control_chars(text.encode()).decode() == '{\n\t"a": "\\u009b\\u202e\\u2028\\u007f", "ü": "☃"}'


UUID = "0190f5d2-7c1e-7a63-9f0e-3c5d8e2b4a17"
LONG: Any = {"job_id": UUID, "slate_id": "pinewood-400", "worker": "vm-1234567-88912", "queue": "lineups-of-the-day"}


class TestTable:
    def lines(self, width: int, **fields: Any) -> list[str]:
        terminal = Terminal(width)
        table = TableListing(terminal.console)
        table.page([msgspec.Raw(msgspec.json.encode(job("running", **fields)))])
        table.end(None)
        return [re.sub(" {2,}", "  ", line) for line in terminal.lines]

    def test_it_has_all_columns_if_they_fit(self) -> None:
        assert self.lines(160, job_id=UUID) == [
            "JOB  STATUS  QUEUE  ATTEMPT  PROGRESS  CREATED  SLATE  WORKER",
            f"{UUID}  running  default  1  2026-11-20T12:00:00Z",
        ]

    def test_columns_without_values_are_dropped_before_any_other_shrinks(self) -> None:
        assert self.lines(100, job_id=UUID) == [
            "JOB  STATUS  QUEUE  ATTEMPT  CREATED",
            f"{UUID}  running  default  1  2026-11-20T12:00:00Z",
        ]

    def test_the_id_stays_whole_on_80_columns_and_the_least_important_columns_are_dropped(self) -> None:
        header, row = self.lines(80, **LONG, progress={"current": 350, "total": 1500})
        assert header == "JOB  STATUS  QUEUE  PROGRESS  CREATED"
        assert re.fullmatch(rf"{UUID}  running  lineups-of-…  350/1500  \d+d ago", row)

    def test_a_column_shrinks_before_it_is_dropped(self) -> None:
        header, row = self.lines(116, **LONG)
        assert header == "JOB  STATUS  QUEUE  ATTEMPT  CREATED  SLATE  WORKER"
        assert row.endswith("ago  pinewood-4…  vm-1234567-88912")

    def test_an_id_that_is_wider_than_the_terminal_is_folded(self) -> None:
        header, row, rest = self.lines(40, **LONG)
        assert header == "JOB  STATUS"
        assert row.removesuffix("  running") + rest == UUID


@pytest.mark.parametrize(
    ("seconds", "age"), [(-5, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (86_399, "23h"), (700_000, "8d")]
)
def test_a_time_is_an_age_if_the_column_is_narrow(seconds: int, age: str) -> None:
    time = Time(NOW, NOW + timedelta(seconds=seconds))
    narrow, wide = Terminal(19), Terminal(20)
    narrow.console.print(time)
    wide.console.print(time)
    assert (narrow.lines, wide.lines) == ([f"{age} ago"], ["2026-11-20T12:01:02Z"])


STATS: Any = {
    "at": "2026-11-20T12:00:10.000000Z",
    "statuses": {"pending": 5, "running": 4, "completed": 7, "failed": 1, "cancelled": 0, "blessed": 2},
    "delayed": 2,
    "queues": {},
    "running": {"leased": 3, "unleased": 1},
}
QUEUES: Any = {
    "items": [
        {"queue": "lineups", "paused": True, "max_running": 3, "statuses": {"pending": 4, "running": 3}, "demand": 3},
        {
            **{"queue": "other", "paused": False, "statuses": {"pending": 1, "running": 1}},
            **{"demand": 2, "oldest_due_seconds": 119},
        },
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


class TestSnapshot:
    async def fetch(self, drain: Any = None) -> Snapshot:
        scripted = (
            ScriptedTransport().respond("/v1/stats", json_response(STATS)).respond("/v1/queues", json_response(QUEUES))
        )
        scripted.respond("/v1/drain", json_response(drain or DRAIN)).respond("/v1/jobs", json_response(RUNNING))
        async with scripted.client() as client:
            snapshot = await fetch_snapshot(client)
        assert scripted.requests_to("/v1/jobs")[0].url.params["status"] == "running"
        return snapshot

    async def test_it_shows_counts_queues_and_running_jobs(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(render(await self.fetch(), "http://here", None))
        lines = [re.sub(" {2,}", "  ", line) for line in terminal.lines]
        assert re.match(r"http://here  2026-11-20 12:00:1\d UTC  open", lines[0])
        assert lines[1] == (
            "pending 5 (2 delayed)  running 4 (1 without a lease)  completed 7  failed 1  cancelled 0  blessed 2"
        )
        assert lines[3:6] == [
            "QUEUE  PENDING  RUNNING  MAX  DEMAND  DUE FOR  STATE",
            "lineups  4  3  3  3  -  paused",
            "other  1  1  -  2  1m  open",
        ]
        assert lines[7] == "RUNNING  QUEUE  WORKER  ATTEMPT  LEASE  PROGRESS  MESSAGE"
        assert re.fullmatch(rf"j1  default  ann  1  (19|2[01]) s  ━+[╸╺]━+  5/10  {re.escape(ESCAPED)}", lines[8])
        assert lines[9:12] == ["j2  default  -  1  expired", "j3  default  -  1  -", "… and 1 more"]

    async def test_it_shows_whole_ids_and_leases_on_80_columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        running = LONG | {"lease_expires_at": "2026-11-20T12:00:31.000000Z"}
        progress = {"current": 350, "total": 1500, "message": "350 of 1,500 scenarios"}
        monkeypatch.setitem(RUNNING, "items", [job("running", **running, progress=progress)])
        terminal = Terminal(width=80)
        terminal.console.print(render(await self.fetch(), "http://here", None))
        header, row = [re.sub(" {2,}", "  ", line) for line in terminal.lines[-3:-1]]
        assert header == "RUNNING  QUEUE  LEASE  PROGRESS"
        assert re.fullmatch(rf"{UUID}  lineups-of-the-day  (19|2[01]) s  350/1500", row)

    async def test_text_of_a_job_is_escaped(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(render(await self.fetch(), "http://here", None, error=EVIL))
        assert terminal.text.count(ESCAPED) == 2
        assert not re.search("[\x9b\u202e]|\x1b\\[2J", terminal.raw)

    async def test_it_fits_the_height_of_the_terminal(self) -> None:
        terminal = Terminal(width=200)
        terminal.console.print(render(await self.fetch(), "http://here", 12, error="unavailable"))
        assert len(terminal.lines) <= 12
        assert terminal.lines[-1] == "… and 3 more"

    @pytest.mark.parametrize(("leased", "safe", "words"), [(3, False, "3 leased"), (0, True, "safe to stop")])
    async def test_it_shows_a_drain(self, leased: int, safe: bool, words: str) -> None:
        drain = {**DRAIN, "draining": True, "leased": leased, "safe_to_stop": safe, "until": STARTED}
        terminal = Terminal(width=200)
        terminal.console.print(render(await self.fetch(drain), "http://here", None))
        assert terminal.lines[0].endswith(f"draining until 12:00:00, {words}")

    async def test_its_json_has_the_responses_byte_for_byte(self) -> None:
        snapshot = json.loads((await self.fetch()).json)
        assert snapshot == {
            "stats": STATS,
            "queues": QUEUES,
            "drain": DRAIN,
            "running": RUNNING,
        }
