"""The arguments, help, shell completion, errors and exit codes of the commands."""

import re
from collections.abc import Mapping
from typing import Any

import click
import httpx
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result
from msgspec import Raw

from jobstate import (
    BulkActionNotFound,
    JobCancelled,
    JobDeleted,
    JobExists,
    JobFailed,
    JobNotFound,
    JobstateError,
    RequestRejected,
    RetryPolicy,
    ServiceUnavailable,
    UnexpectedCount,
    WaitTimeout,
)
from jobstate._requests import create_job
from jobstate.cli import COMMANDS, connection, main
from jobstate.cli import command as shared
from jobstate.cli.commands.submit import json_error
from jobstate.cli.exit_codes import STATUS_EXIT_CODES, Exit
from jobstate.cli.output import STYLES
from jobstate.config import configure, default_url
from jobstate.errors import ConfigurationError
from service.domain.constraints import IDEMPOTENCY_KEY
from service.domain.states import FINAL_STATUSES, Status
from tests.helpers.mock_transport import ScriptedTransport, json_response
from tests.helpers.paths import ROOT
from tests.helpers.records import record_fields as job

LOST = httpx.RemoteProtocolError("closed")
TERMINAL = list(COMMANDS)
#: The commands that use the service: `bulk` is a group of them.
LEAVES = [
    *(name for name in COMMANDS if name != "bulk"),
    *(f"bulk {name}" for name in ("cancel", "retry", "delete", "abort", "show", "list")),
]
ALL = ["serve", "doctor", "copy", "key", *COMMANDS]


def run(*args: str, environ: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, args, env={"JOBSTATE_URL": None, **(environ or {})}, prog_name="jobstate")


def completions(words: str, incomplete: str = "") -> list[str]:
    complete = BashComplete(main, {}, "jobstate", "_JOBSTATE_COMPLETE")
    return [item.value for item in complete.get_completions(words.split(), incomplete)]


def test_the_help_lists_every_command_with_a_sentence() -> None:
    lines = run("--help").output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == ALL
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_a_command_has_exit_codes_and_connection_options(name: str) -> None:
    shown = " ".join(run(*name.split(), "--help").output.split())
    words = {1: "request rejected", 2: "usage", 3: "the job failed", 4: "the job was", 5: "the job is", 6: "--timeout"}
    if name.startswith("bulk "):
        words |= {3: "some jobs were refused", 4: "the bulk action was", 5: "the bulk action is"}
    own = {
        **{"get": {3, 4, 5}, "cancel": {5}, "retry": {5}, "list": set(), "top": set()},
        **{"bulk abort": {5}, "bulk show": {5}, "bulk list": set()},
        **{f"bulk {action}": {3, 4, 5} for action in ("cancel", "retry", "delete")},
    }.get(name, {3, 4, 5, 6})
    for code, word in words.items():
        assert (f"{code} {word}" in shown.partition("Exit codes:")[2]) is (code in {1, 2, *own})
    assert "130 Ctrl-C" in shown
    assert "JOBSTATE_URL" in shown
    assert "--json" in shown


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("sumbit")
    assert (result.exit_code, "No such command 'sumbit'" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ("", "", ALL),
        ("", "wa", ["watch"]),
        ("list --status", "", list(Status)),
        ("list --status", "c", ["completed", "cancelled"]),
        ("submit", "--sc", ["--scenario-count"]),
        ("bulk", "", ["abort", "cancel", "delete", "list", "retry", "show"]),
        ("bulk retry --status", "f", ["failed"]),
        ("--log-level info", "--po", ["--port"]),
    ],
)
def test_the_shell_completes(words: str, incomplete: str, expected: list[str]) -> None:
    assert completions(words, incomplete) == expected


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["get"], "Missing argument 'ID'"),
        (["get", ""], "'ID': must not be empty"),
        (["get", ".."], "'ID': '..' is not a job id"),
        (["watch", "j1", "--timeout", "0"], "'--timeout': 0"),
        (["list", "--status", "done"], "'done' is not one of 'pending', 'running', 'completed', 'failed', 'cancelled'"),
        (["list", "--queue", "\udcff"], "'--queue': must be valid UTF-8"),
        (["list", "--limit", "0"], "'--limit': 0"),
        (["list", "--label", "tenant"], "'--label': 'tenant' is not KEY:VALUE, such as tenant:acme"),
        (["submit", "-", "--label", "a:1", "--label", "a:2"], "'--label': 'a' has two values, which no job has"),
        (["submit", "/no/such/file"], "No such file"),
        (["submit", "-", "--key", "a b"], f"'--key': allowed: {IDEMPOTENCY_KEY.allowed}"),
        (["submit", "-", "--timeout", "3"], "--timeout requires --watch"),
        (["bulk", "cancel"], "No filter is given, so that all jobs would match: use --queue or another one."),
        (["bulk", "cancel", "--status", "done"], "'done' is not one of 'pending', 'running'"),
        (["bulk", "delete", "--queue", "q", "--expect", "-1"], "'--expect': -1"),
        (["bulk", "abort"], "Missing argument 'ID'"),
        (["bulk", "requeue"], "No such command 'requeue'"),
        *(
            (["list", "--url", url], "allowed: http://HOST:PORT or https://HOST:PORT")
            for url in ("127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[::1", "http://h:0")
        ),
    ],
)
def test_a_usage_error_has_exit_code_2(args: list[str], words: str) -> None:
    result = CliRunner().invoke(main, args, input="{}", prog_name="jobstate")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["--api-key", "s3cr\u00e9t"], {}, "allowed: visible ASCII characters"),
        ([], {"JOBSTATE_API_KEY": "s3cret s3cret"}, "allowed: visible ASCII characters"),
        (["--url", "http://me:pass@host"], {"JOBSTATE_API_KEY": "s3cret"}, "remove one of them"),
        (["--help"], {"JOBSTATE_API_KEY": "s3cret"}, "JOBSTATE_API_KEY"),
    ],
)
def test_no_message_contains_the_api_key(args: list[str], environ: dict[str, str], words: str) -> None:
    result = run("list", *args, environ=environ)
    assert result.exit_code == (0 if args == ["--help"] else 2)
    assert words in " ".join(result.output.split())
    assert "s3cr" not in result.output
    assert "s3cr" not in repr(configure("http://host", "s3cret"))


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"JOBSTATE_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"JOBSTATE_HOST": "jobs.example", "JOBSTATE_PORT": ""}, "http://jobs.example:8000"),
        ({"JOBSTATE_HOST": "0.0.0.0"}, "http://127.0.0.1:8000"),
        ({"JOBSTATE_HOST": "::"}, "http://[::1]:8000"),
        ({"JOBSTATE_HOST": "fe80::1"}, "http://[fe80::1]:8000"),
    ],
)
def test_the_default_url_is_the_address_of_serve(environ: dict[str, str], url: str) -> None:
    assert default_url(environ) == url


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:8000", "0", "65536", "abc", "80 00", "\u0663"])
def test_an_invalid_port_is_a_usage_error_that_names_the_variable(port: str) -> None:
    result = run("list", environ={"JOBSTATE_PORT": port})
    words = " ".join(result.output.split())
    assert result.exit_code == 2
    assert f"JOBSTATE_PORT={port!r} is not allowed" in words
    assert "`JOBSTATE_URL`" in words
    assert ("Kubernetes" in words, "`enableServiceLinks: false`" in words) == ("tcp" in port, "tcp" in port)


def test_an_invalid_port_is_ignored_if_the_url_is_set() -> None:
    result = run("list", environ={"JOBSTATE_PORT": "tcp://10.0.0.1:8000", "JOBSTATE_URL": "http://127.0.0.1:1"})
    assert (result.exit_code, "JOBSTATE_PORT" in result.output) == (1, False)
    assert run("list", "--help", environ={"JOBSTATE_PORT": "tcp://10.0.0.1:8000"}).exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceUnavailable("unavailable"), 1),
        (RequestRejected("no"), 1),
        (JobExists("no"), 1),
        (ConfigurationError("no"), 2),
        (JobNotFound("no"), 5),
        (BulkActionNotFound("no"), 5),
        (UnexpectedCount("no"), 1),
        (JobFailed("no"), 3),
        (JobCancelled("no"), 4),
        (JobDeleted("deleted"), 5),
        (WaitTimeout("late"), 6),
    ],
)
def test_every_error_has_its_exit_code_and_is_printed_without_control_characters(
    error: JobstateError, code: int
) -> None:
    @click.command(cls=shared.Command)
    def fail() -> None:
        raise type(error)(f"{error}\x1b[2J")

    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"Error: {error}")
    assert "\x1b" not in result.stderr


def test_ctrl_c_exits_with_130_and_prints_nothing() -> None:
    @click.command(cls=shared.Command)
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(interrupted)
    assert (result.exit_code, result.output) == (130, "")


def test_every_final_status_has_an_exit_code() -> None:
    assert set(STATUS_EXIT_CODES) == set(FINAL_STATUSES)
    assert list(STYLES) == list(Status)
    assert set(STATUS_EXIT_CODES.values()) == {Exit.OK, Exit.FAILED, Exit.CANCELLED}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, b'{"input_params": 1.10 }'),
        ({"slate_id": None}, b'{"input_params": 1.10 }'),
        ({"slate_id": 's"1', "max_attempts": 0}, b'{"slate_id":"s\\"1","max_attempts":0,"input_params": 1.10 }'),
    ],
)
def test_the_body_contains_the_input_byte_for_byte(fields: Any, body: bytes) -> None:
    assert create_job(Raw(b" 1.10 "), None, None, None, fields).body == body


@pytest.mark.parametrize("text", [b"1", b" null\n", b'{"a": 1e400}', b"1" * 10_000, '"é"'.encode(), b'"NaN"'])
def test_valid_json_has_no_error(text: bytes) -> None:
    assert json_error(text) is None


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b'["\\"NaN",\n\n  NaN]', "line 3 column 3: NaN is not JSON"),
        (b'["a\nb"]', "line 1 column 4: "),
        (b"{} {}", "line 1 column 4: "),
        (b'{"a": \xc3\x28}', "byte 7 is not UTF-8"),
    ],
)
def test_an_error_in_json_has_its_position(text: bytes, position: str) -> None:
    assert (json_error(text) or "").startswith(position)


class TestSubmitWithALostResponse:
    @pytest.fixture
    def scripted(self, monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
        scripted = ScriptedTransport()
        monkeypatch.setattr(connection, "open_client", lambda config: scripted.blocking_client())
        monkeypatch.setattr(connection, "ATTEMPTS", RetryPolicy(first_delay=0.001, max_attempts=3))
        return scripted

    def submit(self, *args: str) -> Result:
        return CliRunner().invoke(main, ["submit", "-", *args], input="{}", prog_name="jobstate")

    def test_it_is_retried_under_a_generated_key(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST, json_response(job("pending"), 201))
        result = self.submit()
        assert (result.exit_code, result.stdout, result.stderr) == (0, "j1\n", "")
        first, again = (request.headers["Idempotency-Key"] for request in scripted.requests)
        assert first == again != ""

    def test_the_final_error_names_the_key_for_a_repetition(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST)
        result = self.submit()
        key = scripted.requests[0].headers["Idempotency-Key"]
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"submit it again with --key {key} to avoid a duplicate" in result.stderr

    def test_no_key_is_needed_with_an_id(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST)
        error = self.submit("--id", "j1").stderr
        assert "submit it again with the same --id to avoid a duplicate" in error
        assert "--key" not in error

    def test_a_request_that_was_never_sent_needs_no_advice(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", httpx.ConnectError("refused"))
        assert self.submit().stderr == "Error: http://service cannot be reached (refused)\n"


def test_the_document_has_every_command_and_exit_code() -> None:
    page = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    codes = page.partition("| exit code |")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", codes, re.M)))} == set(
        Exit
    )
    assert {name for name in LEAVES if re.search(rf"(\| |, )`{name}[ `]", page)} == set(LEAVES)
