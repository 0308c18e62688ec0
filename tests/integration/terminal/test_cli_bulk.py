"""`jobstate bulk` as a process, with the real service."""

import json
import re
import signal

import httpx
import pytest

from jobstate import Jobs
from tests.helpers.cli_process import jobstate, start, start_on_terminal
from tests.helpers.polling import free_port, wait_until


@pytest.fixture
def url(api: httpx.Client) -> str:
    return str(api.base_url)


def create(url: str, number: int, queue: str = "q") -> list[str]:
    with Jobs(url) as jobs:
        return [job.id for job in jobs.submit_many([{"input_params": at, "queue": queue} for at in range(number)])]


def test_all_jobs_that_match_are_cancelled_retried_and_deleted(api: httpx.Client, url: str) -> None:
    first, *_ = create(url, 3)
    create(url, 1, "other")
    assert jobstate(url, "bulk", "cancel", "--queue", "q", "--dry-run") == (0, b"dry run: 3 matched\n", "")
    assert jobstate(url, "bulk", "cancel", "--queue", "q") == (0, b"3 matched, 3 done, 0 refused\n", "")
    api.post(f"/v1/jobs/{first}/retry").raise_for_status()
    refused = f"3 matched, 2 done, 1 refused: 1 job-not-final ({first})\n"
    assert jobstate(url, "bulk", "delete", "--queue", "q") == (3, refused.encode(), "")
    assert len(api.get("/v1/jobs").json()["items"]) == 2
    none = jobstate(url, "bulk", "retry", "--status", "failed", "--created-after", "2020-01-01T00:00:00Z")
    assert none == (0, b"0 matched, 0 done, 0 refused\n", "")


def test_another_number_than_expected_is_reported(api: httpx.Client, url: str) -> None:
    create(url, 2)
    result = jobstate(url, "bulk", "cancel", "--queue", "q", "--expect", "3")
    assert (result.code, result.out) == (1, b"aborted: 2 matched, 0 done, 0 refused\n")
    assert result.err == "Error: 2 jobs match, and `expect` is 3. No job was changed.\n"
    assert {job["status"] for job in api.get("/v1/jobs").json()["items"]} == {"pending"}


def test_json_is_that_of_the_service(api: httpx.Client, url: str) -> None:
    create(url, 1)
    result = jobstate(url, "bulk", "cancel", "--queue", "q", "--json")
    action_id = json.loads(result.out)["bulk_action_id"]
    assert result == (0, api.get(f"/v1/bulk-actions/{action_id}").content + b"\n", "")
    assert jobstate(url, "bulk", "show", action_id, "--json") == result
    assert jobstate(url, "bulk", "abort", action_id, "--json") == result
    assert jobstate(url, "bulk", "list", "--json").out == api.get("/v1/bulk-actions").content + b"\n"


def test_one_that_is_not_waited_for_is_shown_listed_and_aborted(api: httpx.Client, url: str) -> None:
    create(url, 1000)
    started = jobstate(url, "bulk", "cancel", "--queue", "q", "--no-wait")
    action_id = started.out.decode().strip()
    aborted = jobstate(url, "bulk", "abort", action_id)
    assert (started.code, aborted.code) == (0, 0)
    fields = dict(line.split("\t") for line in jobstate(url, "bulk", "show", action_id).out.decode().splitlines())
    done = api.get(f"/v1/bulk-actions/{action_id}").json()["done"]
    assert (fields["bulk_action_id"], fields["done"], fields["filter"]) == (action_id, str(done), '{"queue":"q"}')
    head, row = (line.split("\t") for line in jobstate(url, "bulk", "list").out.decode().splitlines())
    assert head[:5] == ["ID", "ACTION", "STATE", "MATCHED", "DONE"]
    assert (row[:3], row[4], row[-1]) == ([action_id, "cancel", fields["state"]], str(done), "queue=q")
    assert aborted.out.decode().removeprefix("aborted: ").split(", ")[1:] == [f"{done} done", "0 refused\n"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_goes_on_after_an_interruption(api: httpx.Client, url: str, number: signal.Signals, code: int) -> None:
    create(url, 1000)
    with start(url, "bulk", "cancel", "--queue", "q") as running:
        (action,) = wait_until(lambda: api.get("/v1/bulk-actions").json()["items"], "the bulk action")
        one = f"/v1/bulk-actions/{action['bulk_action_id']}"
        wait_until(lambda: api.get(one).json()["done"], "its first jobs")
        running.send(number)
        assert running.wait() == code
        line = f"The bulk action {action['bulk_action_id']} goes on. To end it: jobstate bulk abort "
        assert running.errors == f"{line}{action['bulk_action_id']}\n"
        assert running.text == ""
    wait_until(lambda: api.get(one).json()["state"] == "done", "its end")
    assert api.get(one).json()["done"] == 1000


def test_one_that_a_client_aborts_meanwhile_has_exit_code_4(api: httpx.Client, url: str) -> None:
    create(url, 1000)
    with start(url, "bulk", "cancel", "--queue", "q") as running:
        (action,) = wait_until(lambda: api.get("/v1/bulk-actions").json()["items"], "the bulk action")
        done = api.delete(f"/v1/bulk-actions/{action['bulk_action_id']}").json()["done"]
        assert running.wait() == 4
        assert f", {done} done, 0 refused\n" in running.text
        assert running.errors == f"Error: the bulk action {action['bulk_action_id']} was aborted.\n"


def test_a_terminal_shows_the_progress_and_then_one_line(url: str) -> None:
    create(url, 500)
    with start_on_terminal(url, "bulk", "cancel", "--queue", "q") as terminal:
        assert terminal.wait() == 0
    assert re.search(r"cancel: running .*\d/500", terminal.text)
    assert terminal.text.splitlines()[-1].endswith("500 matched, 500 done, 0 refused")
    with start_on_terminal(url, "bulk", "list") as terminal:
        assert terminal.wait() == 0
    assert re.search(r"cancel +done +500 +500 +0 .*queue=q", terminal.text)


def test_an_unknown_id_and_an_unreachable_service_are_errors(url: str) -> None:
    for command in ("show", "abort"):
        result = jobstate(url, "bulk", command, "nope")
        assert (result.code, result.out) == (5, b"")
        assert result.err.startswith("Error: There is no bulk action 'nope'.")
    nowhere = f"http://127.0.0.1:{free_port()}"
    for args in (["cancel", "--queue", "q"], ["list"]):
        result = jobstate(nowhere, "bulk", *args)
        assert (result.code, result.out) == (1, b"")
        assert result.err.startswith(f"Error: {nowhere} cannot be reached (")
        assert len(result.err.splitlines()) == 1
