"""The commands of the terminal against the real service, as processes."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.cli_process import Told, environment, jobstate, start_on_terminal
from tests.helpers.servers import free_port, wait_until

#: What no program may read and write again: a number that no double holds, spaces, an escape that need not be one.
EXACT = b'{ "seed":12345678901234567890123, "odds": 1.10,\n  "far": 1e400, "name": "\\u00e9" }'
#: Escape sequences; JSON allows those of eight bits as they are.
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


def document(told: Told) -> Any:
    assert told.code == 0, told.err
    (line,) = told.out.splitlines()
    return json.loads(line)


class TestSubmit:
    @pytest.mark.parametrize("by", ["a file", "standard input"])
    def test_the_input_arrives_byte_for_byte(self, api: httpx.Client, url: str, by: str, tmp_path: Path) -> None:
        (tmp_path / "input.json").write_bytes(b"\n " + EXACT + b"\r\n")
        if by == "a file":
            told = jobstate(url, "submit", str(tmp_path / "input.json"))
        else:
            told = jobstate(url, "submit", "-", stdin=EXACT)
        assert (told.code, told.err) == (0, "")
        job_id = told.out.decode().removesuffix("\n")
        assert b'"input_params":' + EXACT + b"," in api.get(f"/v1/jobs/{job_id}").content

    def test_every_field_of_creation_can_be_given(self, api: httpx.Client, url: str) -> None:
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
        told = jobstate(url, "submit", "-", "--json", *sum(options.items(), ()), stdin=b"[]")
        record = document(told)
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

    def test_every_field_of_the_document_has_an_option(self, api: httpx.Client) -> None:
        from jobstate_cli.submit import submit

        fields = api.get("/schema/openapi.json").json()["components"]["schemas"]["CreateJob"]["properties"]
        assert set(fields) <= {parameter.name for parameter in submit.params}

    def test_the_same_key_creates_nothing_twice_and_none_something_new(self, api: httpx.Client, url: str) -> None:
        first, again = (jobstate(url, "submit", "-", "--key", "k1", stdin=b"{}") for _ in range(2))
        other = jobstate(url, "submit", "-", stdin=b"{}")
        assert first.out == again.out != other.out
        assert len(api.get("/v1/jobs").json()["items"]) == 2

    @pytest.mark.parametrize(
        ("text", "place"),
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
    def test_a_file_that_is_not_json_is_refused_by_place(self, api: httpx.Client, text: bytes, place: str) -> None:
        told = jobstate(str(api.base_url), "submit", "-", stdin=text)
        assert (told.code, told.out) == (2, b"")
        assert f"Invalid value for 'FILE': <stdin>: {place}" in told.err or place in told.err
        assert "Traceback" not in told.err
        assert api.get("/v1/jobs").json()["items"] == []

    def test_a_refusal_names_the_field_and_what_is_allowed(self, url: str) -> None:
        told = jobstate(url, "submit", "-", "--max-attempts", "0", "--json", stdin=b"{}")
        assert told == (1, b"", "Error: max_attempts: 0 is not allowed; allowed: an integer from 1 to 1000\n")

    def test_a_body_that_is_too_large_is_refused_in_words(self, url: str) -> None:
        told = jobstate(url, "submit", "-", stdin=b'"' + b"x" * 1_000_000 + b'"')
        assert (told.code, told.out) == (1, b"")
        assert "The body exceeds the limit of 65536 bytes" in told.err

    def test_another_jobs_id_is_refused(self, api: httpx.Client, url: str) -> None:
        create(api)
        told = jobstate(url, "submit", "-", "--id", "j1", stdin=b"[1]")
        assert (told.code, told.out) == (1, b"")
        assert "j1" in told.err


class TestGet:
    def test_the_record_comes_as_the_service_has_it(self, api: httpx.Client, url: str) -> None:
        api.post("/v1/jobs", content=b'{"job_id": "j1", "input_params": ' + EXACT + b"}")
        told = jobstate(url, "get", "j1", "--json")
        assert told == (0, api.get("/v1/jobs/j1").content + b"\n", "")

    def test_people_get_a_line_for_each_field(self, api: httpx.Client, url: str) -> None:
        create(api, slate_id="s1", status="completed", result={"a": 1.10})
        told = jobstate(url, "get", "j1")
        lines = told.out.decode().splitlines()
        assert told.code == 0
        assert {"job_id\tj1", "status\tcompleted", "slate_id\ts1", 'result\t{"a":1.1}', "stale\tfalse"} <= set(lines)
        assert len(lines) == len(api.get("/v1/jobs/j1").json())

    def test_a_field_stays_on_its_line(self, api: httpx.Client, url: str) -> None:
        api.post("/v1/jobs", content=b'{"job_id": "j1", "input_params": ' + EXACT + b"}")
        lines = jobstate(url, "get", "j1").out.splitlines()
        assert b"input_params\t" + EXACT.replace(b"\n  ", b" ") in lines

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_it_succeeds_whatever_became_of_the_job(self, api: httpx.Client, url: str, status: str) -> None:
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
    def test_the_bare_result_or_an_exit_code_that_says_why_there_is_none(
        self, api: httpx.Client, url: str, status: str, ending: dict[str, Any], code: int, out: bytes
    ) -> None:
        create(api, status=status, **ending)
        told = jobstate(url, "get", "j1", "--result")
        assert (told.code, told.out) == (code, out)
        assert bool(told.err) is (code != 0)


class TestCancel:
    def test_a_job_without_a_worker_is_cancelled(self, api: httpx.Client, url: str) -> None:
        create(api)
        assert jobstate(url, "cancel", "j1") == (0, b"cancelled\n", "")
        assert document(jobstate(url, "cancel", "j1", "--json"))["status"] == "cancelled"

    def test_the_worker_of_a_running_one_is_asked(self, api: httpx.Client, url: str) -> None:
        create(api)
        assert api.post("/v1/claims", json={"queues": ["default"], "worker": "ann"}).status_code == 200
        assert jobstate(url, "cancel", "j1") == (0, b"cancel asked for\n", "")
        assert "cancel_requested_at" in document(jobstate(url, "cancel", "j1", "--json"))

    def test_an_ended_job_is_refused(self, api: httpx.Client, url: str) -> None:
        create(api, status="completed")
        told = jobstate(url, "cancel", "j1")
        assert (told.code, told.out) == (1, b"")
        assert "completed" in told.err


class TestList:
    def test_every_filter_is_passed_on(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", queue="q1", slate_id="s1", correlation_id="c1")
        create(api, "j2", queue="q1", slate_id="s1", correlation_id="c1", status="failed")
        for number, other in enumerate([{"queue": "q2"}, {"slate_id": "s2"}, {"correlation_id": "c2"}]):
            create(api, f"o{number}", **{"queue": "q1", "slate_id": "s1", "correlation_id": "c1", **other})
        filters = ["--status", "pending", "--queue", "q1", "--slate-id", "s1", "--correlation-id", "c1"]
        listed = document(jobstate(url, "list", "--json", *filters))
        assert [item["job_id"] for item in listed["items"]] == ["j1"]

    def test_a_pipe_gets_columns_between_tabs(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", slate_id="s1")
        create(api, "j2", status="running")
        move(api, "j2", "running", progress={"current": 1, "total": 3})
        told = jobstate(url, "list")
        head, *rows = (line.split("\t") for line in told.out.decode().splitlines())
        assert head == ["JOB", "STATUS", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "SLATE", "WORKER"]
        assert [[*row[:5], *row[6:]] for row in rows] == [
            ["j2", "running", "default", "1", "1/3", "", ""],
            ["j1", "pending", "default", "0", "", "s1", ""],
        ]
        assert (told.code, told.err) == (0, "")

    def test_as_many_as_asked_for_over_several_pages(self, api: httpx.Client, url: str) -> None:
        names = [f"j{number:03}" for number in range(205)]
        for name in names:
            create(api, name)
        newest = list(reversed(names))

        def ids(*options: str) -> tuple[list[str], str | None]:
            listed = document(jobstate(url, "list", "--json", *options))
            return [item["job_id"] for item in listed["items"]], listed.get("next_cursor")

        assert ids("--all") == (newest, None)
        assert ids("--limit", "300") == (newest, None)
        most, cursor = ids("--limit", "203")
        assert most == newest[:203]
        assert ids("--cursor", str(cursor)) == (newest[203:], None)
        few = jobstate(url, "list", "--limit", "2")
        assert len(few.out.splitlines()) == 3
        assert few.err == "There are more: --limit N or --all shows them.\n"

    def test_an_empty_list_is_a_document_and_a_head(self, url: str) -> None:
        assert document(jobstate(url, "list", "--json")) == {"items": []}
        assert len(jobstate(url, "list").out.splitlines()) == 1

    def test_items_come_as_the_service_has_them(self, api: httpx.Client, url: str) -> None:
        create(api)
        api.patch("/v1/jobs/j1", content=b'{"status": "failed", "error_message": {"x": 1.10, "y":1e400}}')
        assert jobstate(url, "list", "--json").out == api.get("/v1/jobs").content + b"\n"

    def test_a_terminal_gets_a_table(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", slate_id="[bold]")
        with start_on_terminal(url, "list") as terminal:
            assert terminal.end() == 0
        head, row = (re.split(r" {2,}", line.strip()) for line in terminal.text.splitlines())
        assert head[:3] == ["JOB", "STATUS", "QUEUE"]
        assert (row[:4], row[-1]) == (["j1", "pending", "default", "0"], "[bold]")


class TestTop:
    def test_one_picture(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", queue="lineups")
        api.put("/v1/queues/lineups", json={"paused": True, "max_running": 2})
        for options in (["--once"], []):  # what is no terminal gets one picture anyway
            told = jobstate(url, "top", *options)
            assert (told.code, told.err) == (0, "")
            assert url in told.out.decode()
            assert re.search(r"lineups +1 +0 +2 +paused", told.out.decode())

    def test_one_picture_as_json(self, api: httpx.Client, url: str) -> None:
        create(api, "j1", status="running")
        picture = document(jobstate(url, "top", "--once", "--json"))
        assert picture["stats"]["statuses"]["running"] == 1
        assert picture["queues"] == api.get("/v1/queues").json()
        assert picture["drain"] == api.get("/v1/drain").json()
        assert [item["job_id"] for item in picture["running"]["items"]] == ["j1"]


@pytest.mark.parametrize(
    "command", [["get", "nope"], ["cancel", "nope"], ["watch", "nope"], ["get", "nope", "--result"]]
)
def test_an_unknown_job_is_told_by_code_and_in_words(url: str, command: list[str]) -> None:
    told = jobstate(url, *command)
    assert (told.code, told.out) == (5, b"")
    assert told.err == "Error: There is no job 'nope': it never was, was deleted, or its retention ran out.\n"


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
def test_a_service_that_is_away_is_told_at_once(nowhere: str, command: list[str]) -> None:
    told = jobstate(nowhere, *command, stdin=b"{}")
    assert (told.code, told.out) == (1, b"")
    assert told.err.startswith(f"Error: {nowhere} cannot be reached (")
    assert len(told.err.splitlines()) == 1


#: An output that is not UTF-8, and what it makes of "é ☃ 😀".
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
not_utf8 = pytest.mark.parametrize(
    ("env", "encoding", "shown"),
    [(LATIN_1, "latin-1", r"é \u2603 \ud83d\ude00"), (ASCII, "ascii", r"\u00e9 \u2603 \ud83d\ude00")],
    ids=["latin-1", "ASCII"],
)
TEXT = "é ☃ 😀"


@not_utf8
class TestAnOutputThatIsNotUtf8:
    def test_every_command_escapes_what_it_cannot_show(
        self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str
    ) -> None:
        create(api, "j1", slate_id=TEXT, max_attempts=2)
        assert api.post("/v1/claims", json={"queues": ["default"], "worker": TEXT}).status_code == 200
        commands = [["list"], ["get", "j1"], ["top", "--once"]]
        for command in commands:
            told = jobstate(url, *command, **env)
            assert (told.code, told.err) == (0, "")
            assert shown in told.out.decode(encoding)

    def test_an_outcome_is_json_in_ascii(
        self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str
    ) -> None:
        create(api, "j1", status="completed", result={TEXT: [TEXT, "\x9f"]}, slate_id=TEXT)
        record = api.get("/v1/jobs/j1").json()
        commands: list[tuple[list[str], Any]] = [
            (["get", "j1", "--result"], record["result"]),
            (["get", "j1", "--json"], record),
            (["list", "--json"], api.get("/v1/jobs").json()),
        ]
        for command, expected in commands:
            told = jobstate(url, *command, **env)
            assert (told.code, told.err) == (0, "")
            assert json.loads(told.out.decode("ascii")) == expected
        told = jobstate(url, "watch", "j1", "--json", **env)
        assert json.loads(told.out.decode("ascii").splitlines()[-1])["data"] == record
        told = jobstate(url, "watch", "j1", **env)
        assert json.loads(told.out.decode("ascii").splitlines()[-1]) == record["result"]
        told = jobstate(url, "submit", "-", "--json", stdin=json.dumps(TEXT).encode(), **env)
        assert json.loads(told.out.decode("ascii"))["input_params"] == TEXT

    def test_messages_on_standard_error_are_escaped(
        self, url: str, env: dict[str, str], encoding: str, shown: str
    ) -> None:
        told = subprocess.run(
            [sys.executable, "-m", "service", "list", "--status", "☃", "--url", url],
            env=environment(url, **env),
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert told.returncode == 2
        words = told.stderr.decode(encoding)
        assert "is not one of" in words
        assert "☃" not in words

    @pytest.mark.parametrize(
        "command", [["list"], ["get", "j1"], ["watch", "j1"], ["top", "--once"]], ids=lambda c: c[0]
    )
    def test_a_terminal_is_drawn_with_what_it_has(
        self, api: httpx.Client, url: str, env: dict[str, str], encoding: str, shown: str, command: list[str]
    ) -> None:
        create(api, "j1", slate_id=TEXT, status="running")
        if command[0] in {"top", "list"}:
            move(api, "j1", "running", progress={"current": 1, "total": 3, "message": TEXT * 60})
        else:
            move(api, "j1", "completed", result=[TEXT, TEXT], progress={"current": 1, "total": 3, "message": TEXT * 60})
        with start_on_terminal(url, *command, columns=100, **env) as terminal:
            assert terminal.end() == 0
        written = bytes(terminal._written[terminal._output]).decode(encoding)
        assert "Traceback" not in written
        assert shown in written or r"\u00e9 \u2603 \ud83d\ude00" in written
        assert r"\u2026" not in written
        assert r"\u28" not in written
        if command[0] == "watch":
            assert "+ j1 completed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def test_a_url_on_the_command_line_wins(url: str, nowhere: str) -> None:
    assert jobstate(nowhere, "list", "--url", url).code == 0
    told = jobstate("", "list", JOBSTATE_PORT=nowhere.rpartition(":")[2])
    assert told.err.startswith(f"Error: {nowhere} cannot be reached")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_service_on_this_machine_is_reached_without_a_proxy(url: str, nowhere: str, scheme: str) -> None:
    proxy = nowhere.replace("http", scheme)
    assert jobstate(url, "list", HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy, NO_PROXY="").code == 0


@pytest.mark.parametrize("command", [["list"], ["watch", "j1"], ["top", "--once"]], ids=" ".join)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(command: list[str]) -> None:
    told = jobstate("http://jobs.example", *command, ALL_PROXY="socks5://ann:s3cret@127.0.0.1:1080", NO_PROXY="")
    assert (told.code, told.out) == (2, b"")
    assert told.err.startswith("Error: `ALL_PROXY` names a proxy with socks5://")
    assert len(told.err.splitlines()) == 1
    assert "s3cret" not in told.err


@pytest.mark.parametrize("options", [[], ["--result"], ["--json"]], ids=["people", "result", "json"])
def test_no_text_of_a_job_steers_a_terminal(api: httpx.Client, url: str, options: list[str]) -> None:
    create(api, status="completed", result={"evil": EVIL}, slate_id="[red]")
    with start_on_terminal(url, "get", "j1", *options) as terminal:
        assert terminal.end() == 0
    assert r"\u009b2J\u202e" in terminal.text
    assert not re.search("[\x9b\u202e]", terminal.raw)
    assert EVIL.encode() in jobstate(url, "get", "j1", "--json").out


def test_a_reader_that_leaves_early_hears_no_complaint(api: httpx.Client, url: str) -> None:
    for number in range(3):
        create(api, f"j{number}", result="x" * 60_000, status="completed")
    command = f"{sys.executable} -m service get j0 --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], env=environment(url), capture_output=True, check=False, timeout=30)
    assert (ended.stdout, ended.stderr) == (b'{"job_id":', b"")


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_ctrl_c_while_it_reads_is_130_too(url: str) -> None:
    command = [sys.executable, "-m", "service", "submit", "-"]
    with subprocess.Popen(command, env=environment(url), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as submit:
        assert submit.stdin
        pipe = submit.stdin.fileno()
        os.write(pipe, b"[")
        wait_until(lambda: fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4) == b"\0" * 4, "the read of what was written")
        wait_until(lambda: is_asleep(submit.pid), "the wait for more")
        submit.send_signal(signal.SIGINT)
        assert submit.wait(10) == 130
        assert submit.stderr
        assert submit.stderr.read() == b""
