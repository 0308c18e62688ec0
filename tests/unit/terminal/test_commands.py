"""How the commands are called, helped with and completed, and what their exit codes are."""

import re
from collections.abc import Mapping

import click
import httpx
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from jobstate_cli import command as shared
from jobstate_cli.command import default_url
from jobstate_cli.errors import ClientError, JobGone, Refused, ServiceAway, TimedOut
from jobstate_cli.exits import Exit
from jobstate_cli.submit import body_of, flaw
from jobstate_cli.target import Target
from service.__main__ import COMMANDS, main
from service.domain.constraints import IDEMPOTENCY_KEY
from service.domain.states import FINAL_STATUSES, Status
from tests.helpers.mock_transport import ScriptedTransport, job, json_response
from tests.helpers.paths import ROOT

LOST = httpx.RemoteProtocolError("closed")
TERMINAL = [name for name, place in COMMANDS.items() if place.startswith("jobstate_cli")]


def run(*args: str, environ: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, args, env={"JOBSTATE_URL": None, **(environ or {})}, prog_name="jobstate")


def completions(words: str, incomplete: str = "") -> list[str]:
    complete = BashComplete(main, {}, "jobstate", "_JOBSTATE_COMPLETE")
    return [item.value for item in complete.get_completions(words.split(), incomplete)]


def test_the_help_lists_every_command_with_what_it_does() -> None:
    lines = run("--help").output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("name", TERMINAL)
def test_the_help_of_a_command_says_its_exit_codes_and_where_the_service_is(name: str) -> None:
    shown = " ".join(run(name, "--help").output.split())
    for code, word in {1: "refused", 2: "usage", 3: "failed", 4: "cancelled", 5: "unknown", 6: "--timeout"}.items():
        assert f"{code} " in shown.partition("Exit codes:")[2]
        assert word in shown.partition("Exit codes:")[2]
    assert "130 Ctrl-C" in shown
    assert "JOBSTATE_URL" in shown
    assert "--json" in shown


def test_an_unknown_command_is_refused() -> None:
    result = run("sumbit")
    assert (result.exit_code, "No such command 'sumbit'" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ("", "", list(COMMANDS)),
        ("", "wa", ["watch"]),
        ("list --status", "", list(Status)),
        ("list --status", "c", ["completed", "cancelled"]),
        ("submit", "--sc", ["--scenario-count"]),
        ("--log-level info", "--po", ["--port"]),
    ],
)
def test_the_shell_completes(words: str, incomplete: str, expected: list[str]) -> None:
    assert completions(words, incomplete) == expected


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["get"], "Missing argument 'ID'"),
        (["get", ""], "'ID': it is empty"),
        (["get", ".."], "'ID': '..' is no job's id"),
        (["watch", "j1", "--timeout", "0"], "'--timeout': 0"),
        (["list", "--status", "done"], "'done' is not one of 'pending', 'running', 'completed', 'failed', 'cancelled'"),
        (["list", "--queue", "\udcff"], "'--queue': it is not valid UTF-8"),
        (["list", "--limit", "0"], "'--limit': 0"),
        (["submit", "/no/such/file"], "No such file"),
        (["submit", "-", "--key", "a b"], f"'--key': allowed: {IDEMPOTENCY_KEY.allowed}"),
        (["submit", "-", "--timeout", "3"], "--timeout goes with --watch"),
        *(
            (["list", "--url", url], "allowed: http://HOST:PORT or https://HOST:PORT")
            for url in ("127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[::1", "http://h:0")
        ),
    ],
)
def test_wrong_usage_is_told_with_code_2(args: list[str], words: str) -> None:
    result = CliRunner().invoke(main, args, input="{}", prog_name="jobstate")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["--api-key", "s3cr\u00e9t"], {}, "allowed: visible ASCII characters"),
        ([], {"JOBSTATE_API_KEY": "s3cret s3cret"}, "allowed: visible ASCII characters"),
        (["--url", "http://me:pass@host"], {"JOBSTATE_API_KEY": "s3cret"}, "give one of them"),
        (["--help"], {"JOBSTATE_API_KEY": "s3cret"}, "JOBSTATE_API_KEY"),
    ],
)
def test_an_api_key_is_shown_by_no_message(args: list[str], environ: dict[str, str], words: str) -> None:
    result = run("list", *args, environ=environ)
    assert result.exit_code == (0 if args == ["--help"] else 2)
    assert words in " ".join(result.output.split())
    assert "s3cr" not in result.output
    assert "s3cr" not in repr(Target("http://host", "s3cret"))


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
def test_the_service_is_where_serve_would_listen(environ: dict[str, str], url: str) -> None:
    assert default_url(environ) == url


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:8000", "0", "65536", "abc", "80 00", "\u0663"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    result = run("list", environ={"JOBSTATE_PORT": port})
    words = " ".join(result.output.split())
    assert result.exit_code == 2
    assert f"JOBSTATE_PORT={port!r} is not allowed" in words
    assert "`JOBSTATE_URL`" in words
    assert ("Kubernetes" in words, "`enableServiceLinks: false`" in words) == ("tcp" in port, "tcp" in port)


def test_where_the_address_is_given_a_port_that_is_none_does_not_matter() -> None:
    result = run("list", environ={"JOBSTATE_PORT": "tcp://10.0.0.1:8000", "JOBSTATE_URL": "http://127.0.0.1:1"})
    assert (result.exit_code, "JOBSTATE_PORT" in result.output) == (1, False)
    assert run("list", "--help", environ={"JOBSTATE_PORT": "tcp://10.0.0.1:8000"}).exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceAway("away"), 1),
        (Refused("no"), 1),
        (Refused("no", "job-exists"), 1),
        (Refused("no", "job-not-found"), 5),
        (Refused("no", "job-failed"), 3),
        (Refused("no", "job-cancelled"), 4),
        (JobGone("gone"), 5),
        (TimedOut("late"), 6),
    ],
)
def test_every_error_has_its_code_and_is_told_without_what_steers_a_terminal(error: ClientError, code: int) -> None:
    @click.command(cls=shared.Command)
    def fail() -> None:
        raise type(error)(f"{error}\x1b[2J") if not isinstance(error, Refused) else error

    result = CliRunner().invoke(fail)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"Error: {error}")
    assert "\x1b" not in result.stderr


def test_ctrl_c_is_130_without_a_word() -> None:
    @click.command(cls=shared.Command)
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(interrupted)
    assert (result.exit_code, result.output) == (130, "")


def test_the_ends_of_a_job_are_the_services_final_statuses() -> None:
    from jobstate_cli.exits import ENDS
    from jobstate_cli.terminal import STYLES

    assert set(ENDS) == set(FINAL_STATUSES)
    assert list(STYLES) == list(Status)
    assert set(ENDS.values()) == {Exit.OK, Exit.FAILED, Exit.CANCELLED}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, b'{"input_params": 1.10 }'),
        ({"queue": None}, b'{"input_params": 1.10 }'),
        ({"queue": 'q"1', "max_attempts": 0}, b'{"input_params": 1.10 ,"queue": "q\\"1", "max_attempts": 0}'),
    ],
)
def test_the_body_holds_the_input_as_it_is(fields: dict[str, object], body: bytes) -> None:
    assert body_of(b" 1.10 ", fields) == body


@pytest.mark.parametrize("text", [b"1", b" null\n", b'{"a": 1e400}', b"1" * 10_000, '"é"'.encode(), b'"NaN"'])
def test_whatever_is_json_has_no_flaw(text: bytes) -> None:
    assert flaw(text) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'["\\"NaN",\n\n  NaN]', "line 3 column 3: NaN is not JSON"),
        (b'["a\nb"]', "line 1 column 4: "),
        (b"{} {}", "line 1 column 4: "),
        (b'{"a": \xc3\x28}', "byte 7 is not UTF-8"),
    ],
)
def test_a_flaw_is_told_by_its_place(text: bytes, place: str) -> None:
    assert (flaw(text) or "").startswith(place)


class TestASubmitWhoseReplyIsLost:
    @pytest.fixture
    def scripted(self, monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
        scripted = ScriptedTransport()
        monkeypatch.setattr("jobstate_cli.submit.connected", lambda url: scripted.service())
        monkeypatch.setattr("jobstate_cli.service.PAUSE", 0.001)
        return scripted

    def submit(self, *args: str) -> Result:
        return CliRunner().invoke(main, ["submit", "-", *args], input="{}", prog_name="jobstate")

    def test_it_is_repeated_under_one_key_that_nobody_gave(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST, json_response(job("pending"), 201))
        result = self.submit()
        assert (result.exit_code, result.stdout, result.stderr) == (0, "j1\n", "")
        first, again = (request.headers["Idempotency-Key"] for request in scripted.requests)
        assert first == again != ""

    def test_in_the_end_it_says_under_which_key_to_repeat_it(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST)
        result = self.submit()
        key = scripted.requests[0].headers["Idempotency-Key"]
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"submit it again with --key {key}, and it is created once" in result.stderr

    def test_an_id_is_key_enough(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", LOST)
        assert "submit it again under the same --id, and it is created once" in self.submit("--id", "j1").stderr
        assert "Idempotency-Key" not in scripted.requests[0].headers

    def test_where_nothing_was_sent_there_is_nothing_to_say_about_it(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", httpx.ConnectError("refused"))
        assert self.submit().stderr == "Error: http://service cannot be reached (refused)\n"


def test_the_page_about_the_terminal_has_every_command_and_exit_code() -> None:
    page = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
    codes = page.partition("| exit code |")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", codes, re.M)))} == set(
        Exit
    )
    assert {name for name in TERMINAL if f"| `{name} " in page or f"| `{name}`" in page} == set(TERMINAL)
