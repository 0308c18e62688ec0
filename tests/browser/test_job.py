"""The view of a job: live updates, JSON values, and the buttons to cancel, submit again and copy as curl."""

import json
import re
import subprocess
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from service.domain.jobs import NewJob
from tests.browser.conftest import OpenView, PageErrors, change, claim, create, run
from tests.helpers.polling import wait_until

CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


def details(page: Page) -> dict[str, str]:
    labels, values = page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts()
    return dict(zip(labels, values, strict=True))


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.locator("#toast")).to_contain_text("copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def run_in_shell(command: str) -> Any:
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=10)
    return json.loads(result.stdout)


def test_a_job_is_followed_until_it_is_finished_and_the_stream_ends(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    create(api, job_id="a", queue="lineups", slate_id="pinewood-400", max_attempts=2, scenario_count=2000)
    page = open_view("#/jobs/a")
    expect(page.locator(".badges")).to_have_text("pending")

    lease = claim(api, "lineups", worker="worker-7", seconds=90)
    expect(page.locator(".badges")).to_have_text("running")
    expect(page.locator("dl")).to_contain_text("worker-7")
    assert re.fullmatch(r"in 1 min (30|2\d) s of 1 min 30 s", details(page)["Lease expires"])
    progress = {"progress": {"current": 500, "total": 2000, "message": "simulating"}}
    api.post("/v1/jobs/a/heartbeat", json=progress, headers=lease).raise_for_status()
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "0.25")
    expect(page.get_by_text("25% · 500 of 2,000")).to_be_visible()
    expect(page.get_by_text("simulating")).to_be_visible()
    expect(page).to_have_title("25% running: a · jobstate")

    change(api, "a", lease, status="completed", result={"lineups": [1, 2]})
    expect(page.locator(".badges")).to_have_text("completed")
    expect(page.get_by_role("region", name="Result")).to_contain_text("lineups")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(page.locator(".timeline li .change")).to_have_text(["created", "started", "completed"])
    end_of_stream = (204, f"{page.url.split('/#')[0]}/v1/jobs/a/events")
    wait_until(lambda: page.evaluate("1") and end_of_stream in page_errors.responses, "the end of the stream")
    expect(page.locator("#connection-status")).to_have_text("Live")


def test_a_label_leads_to_the_jobs_that_have_it(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", labels={"tenant": "acme", "team": "blue"}, retention_seconds=3600)
    create(api, job_id="b", labels={"tenant": "acme"})
    create(api, job_id="c")
    page = open_view("#/jobs/a")
    expect(page.locator("dl").get_by_role("link", name="team:blue")).to_be_visible()
    assert details(page)["Kept after its end"] == "1 h"

    page.locator("dl").get_by_role("link", name="tenant:acme").click()

    expect(page.locator("tbody tr")).to_have_count(2)


def test_the_remaining_lease_time_counts_down(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    claim(api, seconds=50)
    page = open_view("#/jobs/a")
    remaining = page.locator("dd time[data-format=left]").first
    before = remaining.inner_text()

    expect(remaining).not_to_have_text(before)


def test_attempts_failures_and_a_release_are_shown(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", max_attempts=3, retry_delay_seconds=60)
    page = open_view("#/jobs/a")
    lease = claim(api)
    expect(page.locator(".badges")).to_have_text("running")

    api.post("/v1/jobs/a/release", json={"error_message": "out of memory"}, headers=lease).raise_for_status()

    expect(page.locator(".badges")).to_have_text("pending")
    expect(page.locator("dl")).to_contain_text("1, 1 failed (max 3 failures, retry after 60 s)")
    expect(page.locator(".timeline li .change")).to_have_text(["created", "started", "requeued"])
    assert details(page)["Available"].startswith("in ")


def test_a_truncated_history_says_so(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    page = open_view()
    page.route("**/v1/jobs/a/history", lambda route: route.fulfill(json={"items": [], "complete": False}))

    page.goto(f"{page.url.split('#')[0]}#/jobs/a")

    expect(page.get_by_text("Older changes are no longer stored.")).to_be_visible()


def test_a_pending_job_is_cancelled_immediately(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    page = open_view("#/jobs/a")

    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".badges")).to_have_text("cancelled")


def test_cancelling_a_running_job_needs_a_confirmation_and_requests_its_worker_to_stop(
    open_view: OpenView, api: httpx.Client
) -> None:
    create(api, job_id="a")
    claim(api)
    page = open_view("#/jobs/a")
    cancel = page.get_by_role("button", name="Cancel", exact=True)

    cancel.click()
    page.get_by_role("button", name="Go back").click()
    assert "cancel_requested_at" not in api.get("/v1/jobs/a").json()

    cancel.click()
    page.get_by_role("button", name="Cancel job").click()
    expect(page.locator("#toast")).to_have_text("Cancellation requested.")
    expect(page.locator(".badges")).to_contain_text("cancel requested")
    expect(page.locator(".timeline li .change").last).to_have_text("cancel requested")


def test_a_failed_job_is_retried_and_followed_to_its_next_end(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    run(api, "a", status="failed", error_message={"reason": "no line-up"})
    page = open_view("#/jobs/a")
    expect(page.locator(".timeline .failed .attempt-error")).to_have_text('{"reason":"no line-up"}')

    for number in (1, 2):  # also after the stream of an attempt has ended
        page.get_by_role("button", name="Retry").click()

        expect(page.locator(".badges")).to_have_text("pending")
        expect(page.locator(".timeline li .change").last).to_have_text("retried")
        expect(page.get_by_role("button", name="Retry")).to_be_hidden()
        run(api, "a", status="failed", error_message=f"again {number}")
        expect(page.locator(".badges")).to_have_text("failed")
        expect(page.locator(".timeline .attempt-error")).to_have_count(number + 1)


def test_a_retry_that_is_refused_says_so_and_shows_the_job_as_it_is(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected = {409}
    create(api, job_id="a")
    run(api, "a", status="failed")
    page = open_view("#/jobs/a")
    retry = page.get_by_role("button", name="Retry")
    expect(retry).to_be_visible()
    api.post("/v1/jobs/a/retry").raise_for_status()

    retry.click()

    expect(page.locator("#toast")).to_contain_text("failed or cancelled")
    expect(page.locator(".badges")).to_have_text("pending")


def test_a_job_is_submitted_again_with_the_same_fields(open_view: OpenView, api: httpx.Client) -> None:
    sent = b'{"n": 12345678901234567890, "x": 1.0, "a":1,"a":2}'
    fields = {
        "queue": "q",
        "slate_id": "s",
        "correlation_id": "c",
        "scenario_count": 2000,
        "max_attempts": 4,
        "retry_delay_seconds": 7,
        "run_timeout_seconds": 600,
        "start_timeout_seconds": 60,
        "retention_seconds": 3600,
        "labels": {"tenant": "acme", "site": "a:b"},
        "priority": -60,
    }
    assert set(fields) == set(NewJob.__struct_fields__) - {"input_params", "delay_seconds"}
    body = b'{"job_id": "a", "input_params": %s, %s' % (sent, json.dumps(fields).encode().removeprefix(b"{"))
    api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"}).raise_for_status()
    page = open_view("#/jobs/a")

    page.get_by_role("button", name="Submit again").click()

    expect(page.locator("#toast")).to_contain_text("Submitted again as")
    [new, _] = api.get("/v1/jobs?include=input_params").json()["items"]
    expect(page.get_by_role("heading", level=1)).to_have_text(new["job_id"])
    assert {name: new[name] for name in fields} == fields
    assert sent in api.get(f"/v1/jobs/{new['job_id']}").content


def test_a_field_that_the_page_does_not_know_is_shown_as_it_is(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    api.post("/v1/jobs/a/cancel").raise_for_status()
    added = {
        "zero_count": 0,
        "marks": {"tenant": "<b>acme</b>"},
        "note": "<i>plain</i>",
        "review_at": "2099-01-01T00:00:00.000000Z",
    }
    page = open_view("#/")
    page.route("**/v1/jobs/a", lambda route: route.fulfill(json={**route.fetch().json(), **added}))
    page.evaluate("location.hash = '#/jobs/a'")

    expect(page.locator("dl")).to_contain_text("Zero count")
    shown = details(page)
    assert shown["Zero count"] == "0"
    assert shown["Marks"] == '{"tenant":"<b>acme</b>"}'
    assert shown["Note"] == "<i>plain</i>"
    assert shown["Review at"].startswith("in ")
    known = {"Queue", "Correlation ID", "Attempts", "Created", "Finished", "Duration", "Updated", "Expires"}
    assert set(shown) == known | {"Zero count", "Marks", "Note", "Review at"}


def test_copied_curl_commands_work(open_view: OpenView, api: httpx.Client) -> None:
    nasty = 'it\'s $HOME `id` \\ "quoted" !! \u2603 \n$(reboot)'
    create(api, job_id="a", slate_id="it's $(reboot)", input_params={"it's": nasty, "n": 10**25})
    page = open_view("#/jobs/a", **CLIPBOARD)

    created = run_in_shell(copied(page, "Copy as curl"))
    read = run_in_shell(copied(page, "Copy curl to read"))

    assert (created["input_params"], created["slate_id"]) == ({"it's": nasty, "n": 10**25}, "it's $(reboot)")
    assert read == api.get("/v1/jobs/a").json()


def test_curl_sends_a_large_job_through_standard_input(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", input_params=["it's\u2603" * 10_000, "JSON"])
    page = open_view("#/jobs/a", **CLIPBOARD)

    created = run_in_shell(copied(page, "Copy as curl"))

    assert created["input_params"] == ["it's\u2603" * 10_000, "JSON"]


def test_numbers_keep_all_digits(open_view: OpenView, api: httpx.Client) -> None:
    sent = b'{"big":12345678901234567890123,"precise":0.1000000000000000055511151231257827,"exp":1E+2,"minus":-0.0}'
    response = api.post(
        "/v1/jobs", content=b'{"job_id":"a","input_params":%s}' % sent, headers={"Content-Type": "application/json"}
    )
    response.raise_for_status()
    page = open_view("#/jobs/a", **CLIPBOARD)

    expect(page.locator(".tree .number")).to_have_text(
        ["12345678901234567890123", "0.1000000000000000055511151231257827", "1E+2", "-0.0"]
    )
    assert copied(page, "Copy Input as JSON") == sent.decode()


def test_json_folds_and_long_lists_are_shown_in_chunks(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", input_params={"deep": {"er": {"est": "x" * 700}}, "many": list(range(1000, 1350))})
    page = open_view("#/jobs/a")
    tree = page.get_by_role("region", name="Input").locator(".tree")
    expect(tree.get_by_text("many: […] 350 items")).to_be_visible()
    expect(tree.get_by_text("1099")).to_be_hidden()

    tree.get_by_text("many:").click()
    expect(tree.get_by_text("1099", exact=True)).to_be_visible()
    expect(tree.get_by_text("1100", exact=True)).to_have_count(0)
    tree.get_by_role("button", name="Show more after 100").click()
    tree.get_by_role("button", name="Show more after 201").click()
    tree.get_by_role("button", name="Show more after 302").click()
    assert tree.locator("details .leaf .number").all_inner_texts() == [str(number) for number in range(1000, 1350)]
    assert "349: 1349" in tree.inner_text()

    tree.get_by_text("many:").click()
    expect(tree.get_by_text("1099", exact=True)).to_be_hidden()


def test_a_long_string_is_truncated_until_all_of_it_is_requested(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", input_params="x" * 5000)
    page = open_view("#/jobs/a")
    text = page.get_by_role("region", name="Input").locator(".string")
    expect(text).to_have_text("x" * 2000 + "…")

    page.get_by_role("button", name="Show all 5,000 characters").click()

    expect(text).to_have_text("x" * 5000)


def test_a_megabyte_of_json_is_shown_at_once(open_view: OpenView, api: httpx.Client) -> None:
    rows = [{"driver": f"D{number}", "points": [number, number / 3], "note": "é" * 20} for number in range(9_000)]
    assert len(json.dumps(rows, ensure_ascii=False).encode()) > 900_000
    create(api, job_id="a", input_params=rows)
    page = open_view("#/jobs/a")
    tree = page.get_by_role("region", name="Input").locator(".tree")
    expect(tree.locator("details > .content > *").first).to_be_visible()
    assert page.locator("body *").count() < 3000

    added = page.evaluate(
        """() => {
          const before = document.querySelectorAll("*").length;
          document.querySelector(".tree .content > button").click();
          return document.querySelectorAll("*").length - before;
        }"""
    )
    assert 0 < added < 3000, "a click shows the next part, not all of it"


def test_an_unfolded_value_stays_unfolded_when_the_job_changes(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", input_params={"list": list(range(400))})
    page = open_view("#/jobs/a")
    tree = page.get_by_role("region", name="Input").locator(".tree")
    tree.get_by_text("list:").click()
    expect(tree.get_by_text("99", exact=True)).to_be_visible()

    run(api, "a", status="failed", error_message="Traceback:\n  line 1\nValueError: no")

    expect(page.get_by_role("region", name="Error").locator(".lines")).to_have_text(
        "Traceback:\n  line 1\nValueError: no", use_inner_text=True
    )
    expect(tree.get_by_text("99", exact=True)).to_be_visible()


def test_an_unknown_job_an_invalid_id_and_an_unknown_view_are_reported(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected.update({400, 404})
    page = open_view("#/jobs/never")
    expect(page.get_by_role("heading", name="Job not found")).to_be_visible()
    page.goto(f"{page.url.split('#')[0]}#/jobs/not%20an%20id")
    expect(page.get_by_role("heading", name="Request rejected")).to_be_visible()
    page.goto(f"{page.url.split('#')[0]}#/nothing")
    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
