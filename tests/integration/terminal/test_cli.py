"""The commands as processes, with the real service."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.cli_process import CommandResult, environment, jobstate, start, start_on_terminal
from tests.helpers.polling import free_port, wait_until

#: JSON that changes when it is decoded and encoded: long numbers, whitespace, and a needless escape.
EXACT = b'{ "seed":12345678901234567890123, "odds": 1.10,\n  "far": 1e400, "name": "\\u00e9" }'
#: An 8-bit escape sequence and a bidirectional control, which JSON allows unescaped.
EVIL = "\x9b2J\u202e"


@pytest.fixture
def url(api: httpx.Client) -> str:
    return str(api.base_url)


@pytest.fixture
def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def create(api: httpx.Client, job_id: str = "j1", status: str = "", **fields: Any) -> None:
    ending = {name: fields.pop(name) for name in ("result", "error_message") if name in fields}
    assert api.post("/v1/jobs", json={"job_id": job_id, "input_params": {}, **fields}).status_code == 201
    if status in {"running", "completed"}:
        move(api, job_id, "running")
    if status not in {"", "pending", "running"}:
        move(api, job_id, status, **ending)


def move(api: httpx.Client, job_id: str, status: str, **fields: Any) -> None:
    assert api.patch(f"/v1/jobs/{job_id}", json={"status": status, **fields}).status_code == 200


def document(result: CommandResult) -> Any:
    assert result.code == 0, result.err
    (line,) = result.out.splitlines()
    return json.loads(line)


class TestSubmit:
    @pytest.mark.parametrize("by", ["a file", "standard input"])
    def test_the_input_is_stored_byte_for_byte(self, api: httpx.Client, url: str, by: str, tmp_path: Path) -> None:
        (tmp_path / "input.json").write_bytes(b"\n " + EXACT + b"\r\n")
        if by == "a file":
            result = jobstate(url, "submit", str(tmp_path / "input.json"))
        else:
            result = jobstate(url, "submit", "-", stdin=EXACT)
        assert (result.code, result.err) == (0, "")
        job_id = result.out.decode().removesuffix("\n")
        assert b'"input_params":' + EXACT + b"," in api.get(f"/v1/jobs/{job_id}").content

    def test_every_field_can_be_set(self, api: httpx.Client, url: str) -> None:
        options = {
            "--id": "j1",
            "--queue": "lineups",
            "--slate-id": "slate ☃",
            "--scenario-count": "2000",
            "--correlation-id": "c1",
            "--max-attempts": "3",
            "--retry-delay": "7",
            "--delay": "60",
            "--key": "k1",
        }
        result = jobstate(url, "submit", "-", "--json", *sum(options.items(), ()), stdin=b"[]")
        record = document(result)
        assert record == api.get("/v1/jobs/j1").json()
        expected = {
            "queue": "lineups",
            "slate_id": "slate ☃",
            "scenario_count": 2000,
            "correlation_id": "c1",
            "max_attempts": 3,
            "retry_delay_seconds": 7,
            "input_params": [],
        }
        assert {name: record[name] for name in expected} == expected
        assert "available_at" in record

    def test_every_field_in_the_openapi_document_has_an_option(self, api: httpx.Client) -> None:
        from jobstate.cli.commands.submit import submit

        fields = api.get("/schema/openapi.json").json()["components"]["schemas"]["CreateJob"]["properties"]
        assert set(fields) <= {parameter.name for parameter in submit.params}

    def test_the_same_key_creates_one_job_and_no_key_creates_another(self, api: httpx.Client, url: str) -> None:
        first, again = (jobstate(url, "submit", "-", "--key", "k1", stdin=b"{}") for _ in range(2))
        other = jobstate(url, "submit", "-", stdin=b"{}")
        assert first.out == again.out != other.out
        assert len(api.get("/v1/jobs").json()["items"]) == 2

    @pytest.mark.parametrize(
        ("text", "position"),
        [
            (b'{"a": 1,\n "b": [1, }', "line 2 column 11: "),
            (b"", "line 1 column 1: "),
            (b'{"a": "NaN", \n"b": NaN}', "line 2 column 6: NaN is not JSON"),
            (b"[-Infinity]", "line 1 column 2: -Infinity is not JSON"),
            (b'"\xff"', "byte 2 is not UTF-8"),
            (b"\xef\xbb\xbf{}", "line 1 column 1: Unexpected UTF-8 BOM"),
            (b"[" * 100_000, "nested too deep"),
        ],
    )
    def test_a_file_that_is_not_json_is_a_usage_error_with_its_position(
        self, api: httpx.Client, text: bytes, position: str
    ) -> None:
        result = jobstate(str(api.base_url), "submit", "-", stdin=text)
        assert (result.code, result.out) == (2, b"")
        assert f"Invalid value for 'FILE': <stdin>: {position}" in result.err or position in result.err
        assert "Traceback" not in result.err
        assert api.get("/v1/jobs").json()["items"] == []

    def test_an_invalid_field_is_reported_with_its_allowed_values(self, url: str) -> None:
        result = jobstate(url, "submit", "-", "--max-attempts", "0", "--json", stdin=b"{}")
        assert result == (1, b"", "Error: `max_attempts`: 0 is not allowed; allowed: an integer from 1 to 1000\n")

    def test_a_body_that_is_too_large_is_reported(self, url: str) -> None:
        result = jobstate(url, "submit", "-", stdin=b'"' + b"x" * 1_000_000 + b'"')
        assert (result.code, result.out) == (1, b"")
        assert "The body exceeds the limit of 65536 bytes" in result.err

    def test_an_id_in_use_is_reported(self, api: httpx.Client, url: str) -> None:
        create(api)
        result = jobstate(url, "submit", "-", "--id", "j1", stdin=b"[1]")
        assert (result.code, result.out) == (1, b"")
        assert "j1" in result.err


class TestGet:
    def test_json_is_the_response_byte_for_byte(self, api: httpx.Client, url: str) -> None:
        api.post("/v1/jobs", content=b'{"job_id": "j1", "input_params": ' + EXACT + b"}")
        result = jobstate(url, "get", "j1", "--json")
        assert result == (0, api.get("/v1/jobs/j1").content + b"\n", "")

    def test_each_field_is_one_line(self, api: httpx.Client, url: str) -> None:
        create(api, slate_id="s1", status="completed", result={"a": 1.10})
        result = jobstate(url, "get", "j1")
        lines = result.out.decode().splitlines()
        assert result.code == 0
        assert {"job_id\tj1", "status\tcompleted", "slate_id\ts1", 'result\t{"a":1.1}', "stale\tfalse"} <= set(lines)
        assert len(lines) == len(api.get("/v1/jobs/j1").json())

    def test_line_breaks_in_json_become_spaces(self, api: httpx.Client, url: str) -> None:
        api.post("/v1/jobs", content=b'{"job_id": "j1", "input_params": ' + EXACT + b"}")
        lines = jobstate(url, "get", "j1").out.splitlines()
        assert b"input_params\t" + EXACT.replace(b"\n  ", b" ") in lines

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_it_succeeds_whatever_the_status(self, api: httpx.Client, url: str, status: str) -> None:
        create(api, status=status)
        assert document(jobstate(url, "get", "j1", "--json"))["status"] == status

    @pytest.mark.parametrize(
        ("status", "ending", "code", "out"),
        [
            ("completed", {"result": {"a": [1, None]}}, 0, b'{"a":[1,null]}\n'),
            ("completed", {"result": None}, 0, b"null\n"),
            ("completed", {}, 0, b""),
            ("failed", {"error_message": "x"}, 3, b""),
            ("cancelled", {}, 4, b""),
            ("pending", {}, 1, b""),
        ],
    )
    def test_the_result_or_the_exit_code_for_its_absence(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, out: bytes
    ) -> None:
        create(api, status=status, **ending)
        result = jobstate(url, "get", "j1", "--result")
        assert (result.code, result.out) == (code, out)
        assert bool(result.err) is (code != 0)


class TestCancel:
    def test_a_pending_job_is_cancelled(self, api: httpx.Client, url: str) -> None:
        create(api)
        assert jobstate(url, "cancel", "j1") == (0, b"cancelled\n", "")
        assert document(jobstate(url, "cancel", "j1", "--json"))["status"] == "cancelled"

    def test_cancellation_of_a_leased_job_is_requested(self, api: httpx.Client, url: str) -> None:
        create(api)
        assert api.post("/v1/claims", json={"queues": ["default"], "worker": "ann"}).status_code == 200
        assert jobstate(url, "cancel", "j1") == (0, b"cancellation requested\n", "")
        assert "cancel_requested_at" in document(jobstate(url, "cancel", "j1", "--json"))

    def test_a_finished_job_cannot_be_cancelled(self, api: httpx.Client, url: str) -> None:
        create(api, status="completed")
        result = jobstate(url, "cancel", "j1")
        assert (result.code, result.out) == (1, b"")
        assert "completed" in result.err


class TestRetry:
    def test_a_failed_job_is_retried(self, api: httpx.Client, url: str) -> None:
        create(api, status="failed")
        assert jobstate(url, "retry", "j1") == (0, b"pending\n", "")

    def test_the_options_are_sent(self, api: httpx.Client, url: str) -> None:
        create(api)
        api.post("/v1/jobs/j1/cancel").raise_for_status()
        record = document(jobstate(url, "retry", "j1", "--json", "--max-attempts", "4", "--priority", "-5"))
        assert (record["status"], record["max_attempts"], record["priority"]) == ("pending", 4, -5)
        api.post("/v1/jobs/j1/cancel").raise_for_status()
        assert "available_at" in document(jobstate(url, "retry", "j1", "--json", "--delay", "60"))

    def test_a_job_that_has_not_failed_is_refused(self, api: httpx.Client, url: str) -> None:
        create(api, status="completed")
        result = jobstate(url, "retry", "j1")
        assert (result.code, result.out) == (1, b"")
        assert "failed or cancelled" in result.err


class TestList:
    def test_every_filter_is_applied(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", queue="q1", slate_id="s1", correlation_id="c1")
        create(api, "j2", queue="q1", slate_id="s1", correlation_id="c1", status="failed")
        for number, other in enumerate([{"queue": "q2"}, {"slate_id": "s2"}, {"correlation_id": "c2"}]):
            create(api, f"o{number}", **{"queue": "q1", "slate_id": "s1", "correlation_id": "c1", **other})
        filters = ["--status", "pending", "--queue", "q1", "--slate-id", "s1", "--correlation-id", "c1"]
        listed = document(jobstate(url, "list", "--json", *filters))
        assert [item["job_id"] for item in listed["items"]] == ["j1"]
        bounds = ["--created-after", listed["items"][0]["created_at"], "--created-before", "9999-01-01T00:00:00Z"]
        create(api, "labelled", labels={"tenant": "acme", "team": "blue"}, queue="q3")
        labels = ["--label", "tenant:acme", "--label", "team:blue"]
        assert [item["job_id"] for item in document(jobstate(url, "list", "--json", *labels))["items"]] == ["labelled"]
        assert document(jobstate(url, "list", "--json", "--label", "tenant:other"))["items"] == []
        bounds += ["--queue", "q1"]
        later = document(jobstate(url, "list", "--json", *bounds))
        assert [item["job_id"] for item in later["items"]] == ["o2", "o1", "j2"]

    def test_a_pipe_gets_tab_separated_columns(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", slate_id="s1")
        create(api, "j2", status="running")
        move(api, "j2", "running", progress={"current": 1, "total": 3})
        result = jobstate(url, "list")
        head, *rows = (line.split("\t") for line in result.out.decode().splitlines())
        assert head == ["JOB", "STATUS", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "SLATE", "WORKER"]
        assert [[*row[:5], *row[6:]] for row in rows] == [
            ["j2", "running", "default", "1", "1/3", "", ""],
            ["j1", "pending", "default", "0", "", "s1", ""],
        ]
        assert (result.code, result.err) == (0, "")

    def test_a_limit_above_the_page_size_reads_several_pages(self, api: httpx.Client, url: str) -> None:
        names = [f"j{number:03}" for number in range(205)]
        for name in names:
            create(api, name)
        newest = list(reversed(names))

        def ids(*options: str) -> tuple[list[str], str | None]:
            listed = document(jobstate(url, "list", "--json", *options))
            return [item["job_id"] for item in listed["items"]], listed.get("next_cursor")

        assert ids("--all") == (newest, None)
        assert ids("--limit", "300") == (newest, None)
        first, cursor = ids("--limit", "203")
        assert first == newest[:203]
        assert ids("--cursor", str(cursor)) == (newest[203:], None)
        few = jobstate(url, "list", "--limit", "2")
        assert len(few.out.splitlines()) == 3
        assert few.err == "More jobs exist: use --limit N or --all.\n"

    def test_an_empty_list_is_a_json_document_or_a_header(self, url: str) -> None:
        assert document(jobstate(url, "list", "--json")) == {"items": []}
        assert len(jobstate(url, "list").out.splitlines()) == 1

    def test_items_are_byte_for_byte_those_of_the_service(self, api: httpx.Client, url: str) -> None:
        create(api)
        api.patch("/v1/jobs/j1", content=b'{"status": "failed", "error_message": {"x": 1.10, "y":1e400}}')
        assert jobstate(url, "list", "--json").out == api.get("/v1/jobs").content + b"\n"

    def test_a_terminal_gets_a_table(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", slate_id="[bold]")
        with start_on_terminal(url, "list") as terminal:
            assert terminal.wait() == 0
        head, row = (re.split(r" {2,}", line.strip()) for line in terminal.text.splitlines())
        assert head[:3] == ["JOB", "STATUS", "QUEUE"]
        assert (row[:4], row[-1]) == (["j1", "pending", "default", "0"], "[bold]")


class TestTop:
    def test_one_snapshot(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", queue="lineups")
        api.put("/v1/queues/lineups", json={"paused": True, "max_running": 2})
        for options in (["--once"], []):  # `--once` is the default on a pipe
            result = jobstate(url, "top", *options)
            assert (result.code, result.err) == (0, "")
            assert url in result.out.decode()
            assert re.search(r"lineups +1 +0 +2 +0 +[0-9]+s +paused", result.out.decode())

    def test_one_snapshot_as_json(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", status="running")
        snapshot = document(jobstate(url, "top", "--once", "--json"))
        assert snapshot["stats"]["statuses"]["running"] == 1
        assert snapshot["queues"] == api.get("/v1/queues").json()
        assert snapshot["drain"] == api.get("/v1/drain").json()
        assert [item["job_id"] for item in snapshot["running"]["items"]] == ["j1"]


@pytest.mark.parametrize(
    "command", [["get", "nope"], ["cancel", "nope"], ["watch", "nope"], ["get", "nope", "--result"]]
)
def test_an_unknown_job_has_exit_code_5_and_a_message(url: str, command: list[str]) -> None:
    result = jobstate(url, *command)
    assert (result.code, result.out) == (5, b"")
    assert result.err == "Error: There is no job 'nope'. It was never created, was deleted, or has expired.\n"


@pytest.mark.parametrize(
    "command",
    [
        ["submit", "-"],
        ["watch", "j1"],
        ["top"],
        ["top", "--once", "--json"],
        ["list", "--all"],
        ["get", "j1"],
        ["cancel", "j1"],
    ],
    ids=" ".join,
)
def test_an_unreachable_service_is_reported_at_once(nowhere: str, command: list[str]) -> None:
    result = jobstate(nowhere, *command, stdin=b"{}")
    assert (result.code, result.out) == (1, b"")
    assert result.err.startswith(f"Error: {nowhere} cannot be reached (")
    assert len(result.err.splitlines()) == 1


#: Encodings that are not UTF-8, and how they represent "é ☃ 😀".
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
not_utf8 = pytest.mark.parametrize(
    ("env", "encoding", "shown"),
    [(LATIN_1, "latin-1", r"é \u2603 \ud83d\ude00"), (ASCII, "ascii", r"\u00e9 \u2603 \ud83d\ude00")],
    ids=["latin-1", "ASCII"],
)
TEXT = "é ☃ 😀"


@not_utf8
class TestOutputThatIsNotUtf8:
    def test_every_command_escapes_characters_that_it_cannot_encode(
        self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str
    ) -> None:
        create(api, "j1", slate_id=TEXT, max_attempts=2)
        assert api.post("/v1/claims", json={"queues": ["default"], "worker": TEXT}).status_code == 200
        commands = [["list"], ["get", "j1"], ["top", "--once"]]
        for command in commands:
            result = jobstate(url, *command, **env)
            assert (result.code, result.err) == (0, "")
            assert shown in result.out.decode(encoding)

    def test_json_is_ascii(self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str) -> None:
        create(api, "j1", status="completed", result={TEXT: [TEXT, "\x9f"]}, slate_id=TEXT)
        record = api.get("/v1/jobs/j1").json()
        commands: list[tuple[list[str], Any]] = [
            (["get", "j1", "--result"], record["result"]),
            (["get", "j1", "--json"], record),
            (["list", "--json"], api.get("/v1/jobs").json()),
        ]
        for command, expected in commands:
            result = jobstate(url, *command, **env)
            assert (result.code, result.err) == (0, "")
            assert json.loads(result.out.decode("ascii")) == expected
        result = jobstate(url, "watch", "j1", "--json", **env)
        assert json.loads(result.out.decode("ascii").splitlines()[-1])["data"] == record
        result = jobstate(url, "watch", "j1", **env)
        assert json.loads(result.out.decode("ascii").splitlines()[-1]) == record["result"]
        result = jobstate(url, "submit", "-", "--json", stdin=json.dumps(TEXT).encode(), **env)
        assert json.loads(result.out.decode("ascii"))["input_params"] == TEXT

    def test_messages_on_standard_error_are_escaped(
        self, url: str, env: dict[str, str], encoding: str, shown: str
    ) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "service", "list", "--status", "☃", "--url", url],
            env=environment(url, **env),
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert result.returncode == 2
        message = result.stderr.decode(encoding)
        assert "is not one of" in message
        assert "☃" not in message

    @pytest.mark.parametrize(
        "command", [["list"], ["get", "j1"], ["watch", "j1"], ["top", "--once"]], ids=lambda c: c[0]
    )
    def test_drawings_on_a_terminal_use_encodable_characters(
        self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str, command: list[str]
    ) -> None:
        create(api, "j1", slate_id=TEXT, status="running")
        if command[0] in {"top", "list"}:
            move(api, "j1", "running", progress={"current": 1, "total": 3, "message": TEXT * 60})
        else:
            move(api, "j1", "completed", result=[TEXT, TEXT], progress={"current": 1, "total": 3, "message": TEXT * 60})
        with start_on_terminal(url, *command, columns=100, **env) as terminal:
            assert terminal.wait() == 0
        written = bytes(terminal._written[terminal._output]).decode(encoding)
        assert "Traceback" not in written
        assert shown in written or r"\u00e9 \u2603 \ud83d\ude00" in written
        assert r"\u2026" not in written
        assert r"\u28" not in written
        if command[0] == "watch":
            assert "+ j1 completed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_the_option_url_has_precedence(url: str, nowhere: str) -> None:
    assert jobstate(nowhere, "list", "--url", url).code == 0
    result = jobstate("", "list", JOBSTATE_PORT=nowhere.rpartition(":")[2])
    assert result.err.startswith(f"Error: {nowhere} cannot be reached")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_loopback_service_is_reached_without_a_proxy(url: str, nowhere: str, scheme: str) -> None:
    proxy = nowhere.replace("http", scheme)
    assert jobstate(url, "list", HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy, NO_PROXY="").code == 0


@pytest.mark.parametrize("command", [["list"], ["watch", "j1"], ["top", "--once"]], ids=" ".join)
def test_the_error_for_an_unusable_proxy_names_its_variable(command: list[str]) -> None:
    result = jobstate("http://jobs.example", *command, ALL_PROXY="socks5://ann:s3cret@127.0.0.1:1080", NO_PROXY="")
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith("Error: `ALL_PROXY` names a socks5:// proxy")
    assert len(result.err.splitlines()) == 1
    assert "s3cret" not in result.err


@pytest.mark.parametrize("options", [[], ["--result"], ["--json"]], ids=["people", "result", "json"])
def test_text_of_a_job_is_escaped_on_a_terminal(api: httpx.Client, url: str, options: list[str]) -> None:
    create(api, status="completed", result={"evil": EVIL}, slate_id="[red]")
    with start_on_terminal(url, "get", "j1", *options) as terminal:
        assert terminal.wait() == 0
    assert r"\u009b2J\u202e" in terminal.text
    assert not re.search("[\x9b\u202e]", terminal.raw)
    assert EVIL.encode() in jobstate(url, "get", "j1", "--json").out


def test_a_closed_pipe_is_no_error(api: httpx.Client, url: str) -> None:
    for number in range(3):
        create(api, f"j{number}", result="x" * 60_000, status="completed")
    command = f"{sys.executable} -m service get j0 --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", command], env=environment(url), capture_output=True, check=False, timeout=30
    )
    assert (process.stdout, process.stderr) == (b'{"job_id":', b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_that_waits_for_a_response(number: signal.Signals, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        with start(f"http://127.0.0.1:{silent.getsockname()[1]}", "list") as running:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1) == b"G"
                running.send(number)
                assert running.wait() == code
        assert (running.raw, running.errors) == ("", "")


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_ctrl_c_while_reading_standard_input_exits_with_130(url: str) -> None:
    command = [sys.executable, "-m", "service", "submit", "-"]
    with subprocess.Popen(command, env=environment(url), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as submit:
        assert submit.stdin
        pipe = submit.stdin.fileno()
        os.write(pipe, b"[")
        wait_until(lambda: fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4) == b"\0" * 4, "the command to read its input")
        wait_until(lambda: is_asleep(submit.pid), "the command to wait for more input")
        submit.send_signal(signal.SIGINT)
        assert submit.wait(10) == 130
        assert submit.stderr
        assert submit.stderr.read() == b""
