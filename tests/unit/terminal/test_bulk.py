"""`jobstate bulk` over scripted transports: what it prints, its exit codes, and what it does in an outage."""

import io
import re
from typing import Any

import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from jobstate import BulkAction, RetryPolicy
from jobstate.cli import connection, main
from jobstate.cli.commands import bulk as command
from jobstate.cli.options import filter_options
from jobstate.cli.render.bulk import cells, summary
from jobstate.cli.render.bulk_terminal import print_table, progress_bar
from tests.helpers.bulk_records import ILLEGAL, NOT_FINAL, action_fields, unexpected_count
from tests.helpers.mock_transport import ScriptedTransport, json_response, problem

ALL = "/v1/bulk-actions"
ONE = "/v1/bulk-actions/b1"
EVIL = "\x1b[2J\u202e"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    """A transport on which each bulk action is started as `b1`."""
    scripted = ScriptedTransport()
    for module in (connection, command):
        monkeypatch.setattr(module, "open_client", lambda config: scripted.blocking_client())
    monkeypatch.setattr(connection, "ATTEMPTS", RetryPolicy(first_delay=0.001, max_attempts=3))
    monkeypatch.setattr(connection, "RECONNECTS", RetryPolicy(first_delay=0.001, max_delay=0.001))
    monkeypatch.setattr("jobstate._bulk._FIRST_PAUSE", 0.001)
    return scripted.respond(ALL, json_response(action_fields("counting"), 202))


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["bulk", *args], prog_name="jobstate")


def cancel(*args: str) -> Result:
    return run("cancel", "--queue", "q", *args)


def action(state: str = "done", **fields: Any) -> BulkAction:
    return msgspec.convert(action_fields(state, **fields), BulkAction)


def examples(*types: str) -> list[dict[str, str]]:
    return [{"job_id": f"j{number}", "type": type_} for number, type_ in enumerate(types, 1)]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (action(matched=3, done=3), "3 matched, 3 done, 0 refused"),
        (action(matched=3, dry_run=True), "dry run: 3 matched"),
        (action("running", matched=3, done=1), "running: 3 matched, 1 done, 0 refused"),
        (action("aborted", matched=3, dry_run=True), "dry run, aborted: 3 matched"),
        (
            action(
                matched=9,
                done=2,
                refused={NOT_FINAL: 4, ILLEGAL: 2, "urn:x:rare": 1},
                examples=examples(NOT_FINAL, ILLEGAL, NOT_FINAL, ILLEGAL, NOT_FINAL, NOT_FINAL),
            ),
            "9 matched, 2 done, 7 refused: 4 job-not-final (j1, j3, j5, …), 2 illegal-transition (j2, j4), 1 rare",
        ),
    ],
)
def test_the_summary_has_the_numbers_and_why_jobs_were_refused(shown: BulkAction, text: str) -> None:
    assert summary(shown) == text


@pytest.mark.parametrize(
    ("end", "code", "out", "err"),
    [
        (action_fields(matched=3, done=3), 0, "3 matched, 3 done, 0 refused\n", ""),
        (
            action_fields(matched=2, done=1, refused={NOT_FINAL: 1}, examples=examples(NOT_FINAL)),
            3,
            "2 matched, 1 done, 1 refused: 1 job-not-final (j1)\n",
            "",
        ),
        (
            action_fields("aborted", matched=2, done=1),
            4,
            "aborted: 2 matched, 1 done, 0 refused\n",
            "Error: the bulk action b1 was aborted.\n",
        ),
        (
            unexpected_count(),
            1,
            "aborted: 2 matched, 0 done, 0 refused\n",
            "Error: 2 jobs match, and `expect` is 3. No job was changed.\n",
        ),
        (
            action_fields("broken", finished_at="2026-11-29T10:00:09Z"),
            1,
            "broken: 0 matched, 0 done, 0 refused\n",
            "",
        ),
    ],
)
def test_the_exit_code_and_the_last_line_say_how_it_ended(
    scripted: ScriptedTransport, end: dict[str, Any], code: int, out: str, err: str
) -> None:
    scripted.respond(ONE, json_response(action_fields("running")), json_response(end))
    result = cancel()
    assert (result.exit_code, result.stdout, result.stderr) == (code, out, err)


def test_the_options_are_sent(scripted: ScriptedTransport) -> None:
    scripted.respond(ONE, json_response(action_fields()))
    filters = {"--status": "failed", "--queue": "q", "--slate-id": "s", "--correlation-id": "c"}
    bounds = {"--created-after": "2026-11-29T10:00:00Z", "--created-before": "2026-11-30T10:00:00Z"}
    options = [word for option in (filters | bounds).items() for word in option]
    run("retry", *options, "--label", "a:1", "--label", "b:2", "--dry-run", "--expect", "7")
    assert msgspec.json.decode(scripted.requests[0].content) == {
        "action": "retry",
        "filter": {
            "status": "failed",
            "queue": "q",
            "slate_id": "s",
            "correlation_id": "c",
            "label": ["a:1", "b:2"],
            "created_after": "2026-11-29T10:00:00Z",
            "created_before": "2026-11-30T10:00:00Z",
        },
        "dry_run": True,
        "expect": 7,
    }


def test_the_filters_are_those_of_the_list() -> None:
    @click.command()
    @filter_options
    def empty() -> None: ...

    filters = {parameter.name for parameter in empty.params}
    for name in ("cancel", "retry", "delete"):
        assert filters <= {parameter.name for parameter in command.bulk.commands[name].params}
    listing = main.get_command(click.Context(main), "list")
    assert listing is not None
    assert filters <= {parameter.name for parameter in listing.params}


def test_json_is_the_last_response_byte_for_byte(scripted: ScriptedTransport) -> None:
    end = httpx.Response(200, content=b' {"new":1.10, ' + msgspec.json.encode(action_fields())[1:])
    scripted.respond(ONE, json_response(action_fields("running")), end)
    result = cancel("--json")
    assert (result.exit_code, result.stdout_bytes) == (0, end.content + b"\n")


def test_without_waiting_it_prints_the_id_or_the_response(scripted: ScriptedTransport) -> None:
    assert (cancel("--no-wait").output, cancel("--no-wait").exit_code) == ("b1\n", 0)
    assert msgspec.json.decode(cancel("--no-wait", "--json").output) == action_fields("counting")
    assert scripted.requests_to(ONE) == []


def test_an_outage_is_reported_and_waited_out(scripted: ScriptedTransport) -> None:
    refused = httpx.ConnectError("refused")
    scripted.respond(ONE, *[refused] * 5, json_response(action_fields(matched=1, done=1)))
    result = cancel()
    assert (result.exit_code, result.stdout) == (0, "1 matched, 1 done, 0 refused\n")
    first, *_, last = result.stderr.splitlines()
    assert first == "http://service cannot be reached (refused); retrying in 0.0 s."
    assert last == "Reconnected."
    assert len(result.stderr.splitlines()) == 6


@pytest.mark.parametrize(
    ("interruption", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interruption_says_that_the_bulk_action_goes_on_and_how_to_end_it(
    scripted: ScriptedTransport, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, code: int
) -> None:
    def interrupt(*_: Any) -> None:
        raise interruption

    scripted.respond(ONE, json_response(action_fields("running")))
    monkeypatch.setattr("jobstate._runners.threading.Event.wait", interrupt)
    result = cancel()
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "The bulk action b1 goes on. To end it: jobstate bulk abort b1\n"


def test_a_key_that_may_not_read_still_gets_the_id(scripted: ScriptedTransport) -> None:
    scripted.respond(ONE, problem(403, "insufficient-scope", "The key lacks the scope `read`."))
    result = cancel()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "The bulk action b1 goes on. To end it: jobstate bulk abort b1",
        "Error: The key lacks the scope `read`.",
    ]


@pytest.mark.parametrize(
    ("failure", "may_go_on"), [(httpx.ReadTimeout("slow"), True), (httpx.ConnectError("refused"), False)]
)
def test_a_lost_response_to_the_start_says_where_to_look(
    scripted: ScriptedTransport, failure: Exception, may_go_on: bool
) -> None:
    scripted.responses[ALL] = [failure]
    result = cancel()
    assert (result.exit_code, result.stdout) == (1, "")
    assert ("The bulk action may have been started. To see it: jobstate bulk list" in result.stderr) is may_go_on
    assert result.stderr.splitlines()[-1].startswith("Error: http://service ")


def test_an_abortion_prints_what_was_done(scripted: ScriptedTransport) -> None:
    scripted.respond(ONE, json_response(action_fields("aborted", matched=3, done=1)))
    assert (run("abort", "b1").output, run("abort", "b1").exit_code) == ("aborted: 3 matched, 1 done, 0 refused\n", 0)
    assert {request.method for request in scripted.requests} == {"DELETE"}
    assert msgspec.json.decode(run("abort", "b1", "--json").output)["state"] == "aborted"


def test_an_unknown_bulk_action_has_exit_code_5(scripted: ScriptedTransport) -> None:
    scripted.respond(ONE, problem(404, "bulk-action-not-found", "There is no bulk action 'b1'."))
    for name in ("show", "abort"):
        result = run(name, "b1")
        assert (result.exit_code, result.output) == (5, "Error: There is no bulk action 'b1'.\n")


def test_one_is_shown_with_all_its_fields_whatever_its_state(scripted: ScriptedTransport) -> None:
    scripted.respond(ONE, json_response({**action_fields("aborted"), "new": EVIL}))
    result = run("show", "b1")
    assert result.exit_code == 0
    escaped = "\\u001b[2J\\u202e"
    assert {"state\taborted", 'filter\t{"queue":"q"}', f"new\t{escaped}"} <= set(result.stdout.splitlines())


def test_a_list_on_a_pipe_has_a_line_for_each(scripted: ScriptedTransport) -> None:
    listed = [action_fields(matched=2, done=1, refused={ILLEGAL: 1}), action_fields("running", dry_run=True)]
    scripted.responses[ALL] = [json_response({"items": listed})]
    result = run("list")
    assert (result.exit_code, [line.split("\t") for line in result.stdout.splitlines()]) == (
        0,
        [
            ["ID", "ACTION", "STATE", "MATCHED", "DONE", "REFUSED", "CREATED", "FILTER"],
            ["b1", "cancel", "done", "2", "1", "1", "2026-11-29T10:00:00Z", "queue=q"],
            ["b1", "cancel (dry run)", "running", "0", "0", "0", "2026-11-29T10:00:00Z", "queue=q"],
        ],
    )
    assert msgspec.json.decode(run("list", "--json").stdout) == {"items": listed}


class Terminal:
    """A terminal of the given width, and its output."""

    def __init__(self, width: int = 120) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file, width=width, force_terminal=True, markup=False, emoji=False, highlight=False
        )

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._file.getvalue())


def test_the_bar_counts_the_matching_jobs_and_then_those_that_were_tried() -> None:
    terminal = Terminal()
    with progress_bar(terminal.console) as view:
        for one, text in [
            (action("counting", matched=7), "cancel: counting .*7 matched"),
            (action("running", matched=9, done=3), "cancel: running ━{8}╺━{15} 3/9"),
            (action("running", matched=9, done=3, refused={ILLEGAL: 2}), "cancel: running .*5/9, 2 refused"),
            (action(EVIL), r"cancel: \\u001b\[2J\\u202e .*0/0"),
        ]:
            view.changed(one)
            view._bar.refresh()
            assert re.search(f"{text} *$", terminal.text.splitlines()[-1])
        view.on_disconnect(f"lost{EVIL}", 2.0)
        view.on_reconnect()
    assert "Lost\\u001b[2J\\u202e; retrying in 2.0 s.\n" in terminal.text
    assert "Reconnected.\n" in terminal.text


def test_a_table_shows_the_filters_without_control_characters_and_drops_them_on_a_narrow_terminal() -> None:
    row = cells(action(filter={"queue": f"[bold]{EVIL}", "label": ["a:1", "b:2"]}))
    wide, narrow = Terminal(140), Terminal(50)
    print_table(wide.console, [row])
    print_table(narrow.console, [row])
    assert r"queue=[bold]\u001b[2J\u202e label=a:1 label=b:2" in wide.text
    assert narrow.text.split("\n")[0].split()[:3] == ["ID", "ACTION", "STATE"]
    assert "FILTER" not in narrow.text
