"""One job: followed to its end, its JSON shown as it was sent, cancelled, submitted again, taken along as curl."""

import json
import re
import subprocess
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints, Open, change, claim, create, run
from tests.helpers.polling import wait_until

CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


def facts(page: Page) -> dict[str, str]:
    names, values = page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def copied(page: Page, button: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.locator("#notice")).to_contain_text("copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def in_a_shell(command: str) -> Any:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=10)
    return json.loads(done.stdout)


def test_a_job_is_followed_to_its_end_and_the_stream_stops(
    open_view: Open, api: httpx.Client, complaints: Complaints
) -> None:
    create(api, job_id="a", queue="lineups", slate_id="pinewood-400", max_attempts=2, scenario_count=2000)
    page = open_view("#/jobs/a")
    expect(page.locator(".badges")).to_have_text("pending")

    lease = claim(api, "lineups", worker="worker-7", seconds=90)
    expect(page.locator(".badges")).to_have_text("running")
    expect(page.locator("dl")).to_contain_text("worker-7")
    assert re.fullmatch(r"in 1 min (30|2\d) s of 1 min 30 s", facts(page)["Lease ends"])
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
    expect(page.locator(".timeline li .change")).to_have_text(["created", "taken on", "completed"])
    told_to_stop = (204, f"{page.url.split('/#')[0]}/v1/jobs/a/events")
    wait_until(lambda: page.evaluate("1") and told_to_stop in complaints.answers, "the end of the stream")
    expect(page.locator("#pulse")).to_have_text("Live")


def test_the_lease_ticks(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a")
    claim(api, seconds=50)
    page = open_view("#/jobs/a")
    end = page.locator("dd time[data-told=left]").first
    before = end.inner_text()

    expect(end).not_to_have_text(before)


def test_attempts_failures_and_a_release_are_told(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a", max_attempts=3, retry_delay_seconds=60)
    page = open_view("#/jobs/a")
    lease = claim(api)
    expect(page.locator(".badges")).to_have_text("running")

    api.post("/v1/jobs/a/release", json={"error_message": "out of memory"}, headers=lease).raise_for_status()

    expect(page.locator(".badges")).to_have_text("pending")
    expect(page.locator("dl")).to_contain_text("1, 1 failed (may fail 3 times, retried after 60 s)")
    expect(page.locator(".timeline li .change")).to_have_text(["created", "taken on", "pending again"])
    assert facts(page)["Due"].startswith("in ")


def test_older_changes_that_are_gone_are_said_to_be(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a")
    page = open_view()
    page.route("**/v1/jobs/a/history", lambda route: route.fulfill(json={"items": [], "complete": False}))

    page.goto(f"{page.url.split('#')[0]}#/jobs/a")

    expect(page.get_by_text("Older changes are not kept any more.")).to_be_visible()


def test_a_pending_job_is_cancelled_at_once(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a")
    page = open_view("#/jobs/a")

    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".badges")).to_have_text("cancelled")


def test_cancelling_a_running_job_is_asked_about_and_its_worker_asked_to_stop(
    open_view: Open, api: httpx.Client
) -> None:
    create(api, job_id="a")
    claim(api)
    page = open_view("#/jobs/a")
    cancel = page.get_by_role("button", name="Cancel", exact=True)

    cancel.click()
    page.get_by_role("button", name="No, leave it").click()
    assert "cancel_requested_at" not in api.get("/v1/jobs/a").json()

    cancel.click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#notice")).to_have_text("Its worker was asked to stop.")
    expect(page.locator(".badges")).to_contain_text("cancel asked for")
    expect(page.locator(".timeline li .change").last).to_have_text("cancel asked for")


def test_a_job_is_submitted_again_with_the_same_fields(open_view: Open, api: httpx.Client) -> None:
    sent = b'{"n": 12345678901234567890, "x": 1.0, "a":1,"a":2}'
    body = (
        b'{"job_id": "a", "queue": "q", "slate_id": "s", "correlation_id": "c", "max_attempts": 4, "input_params": %s}'
    )
    api.post("/v1/jobs", content=body % sent, headers={"Content-Type": "application/json"}).raise_for_status()
    page = open_view("#/jobs/a")

    page.get_by_role("button", name="Submit again").click()

    expect(page.locator("#notice")).to_contain_text("Submitted again as")
    [new, _] = api.get("/v1/jobs?include=input_params").json()["items"]
    expect(page.get_by_role("heading", level=1)).to_have_text(new["job_id"])
    assert {name: new[name] for name in ("queue", "slate_id", "correlation_id", "max_attempts")} == {
        **{"queue": "q", "slate_id": "s", "correlation_id": "c"},
        "max_attempts": 4,
    }
    assert sent in api.get(f"/v1/jobs/{new['job_id']}").content


def test_curl_that_is_copied_does_what_it_says(open_view: Open, api: httpx.Client) -> None:
    nasty = 'it\'s $HOME `id` \\ "quoted" !! \u2603 \n$(reboot)'
    create(api, job_id="a", slate_id="it's $(reboot)", input_params={"it's": nasty, "n": 10**25})
    page = open_view("#/jobs/a", **CLIPBOARD)

    again = in_a_shell(copied(page, "Copy as curl"))
    read = in_a_shell(copied(page, "Copy curl to read"))

    assert (again["input_params"], again["slate_id"]) == ({"it's": nasty, "n": 10**25}, "it's $(reboot)")
    assert read == api.get("/v1/jobs/a").json()


def test_curl_of_a_large_job_goes_by_standard_input(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a", input_params=["it's\u2603" * 10_000, "JSON"])
    page = open_view("#/jobs/a", **CLIPBOARD)

    again = in_a_shell(copied(page, "Copy as curl"))

    assert again["input_params"] == ["it's\u2603" * 10_000, "JSON"]


def test_numbers_stand_as_they_were_sent(open_view: Open, api: httpx.Client) -> None:
    sent = b'{"big":12345678901234567890123,"precise":0.1000000000000000055511151231257827,"exp":1E+2,"minus":-0.0}'
    created = api.post(
        "/v1/jobs", content=b'{"job_id":"a","input_params":%s}' % sent, headers={"Content-Type": "application/json"}
    )
    created.raise_for_status()
    page = open_view("#/jobs/a", **CLIPBOARD)

    expect(page.locator(".tree .number")).to_have_text(
        ["12345678901234567890123", "0.1000000000000000055511151231257827", "1E+2", "-0.0"]
    )
    assert copied(page, "Copy Input as it was sent") == sent.decode()


def test_json_unfolds_and_folds_and_shows_long_lists_in_part(open_view: Open, api: httpx.Client) -> None:
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


def test_a_long_text_is_shown_in_part_until_all_of_it_is_wanted(open_view: Open, api: httpx.Client) -> None:
    create(api, job_id="a", input_params="x" * 5000)
    page = open_view("#/jobs/a")
    text = page.get_by_role("region", name="Input").locator(".string")
    expect(text).to_have_text("x" * 2000 + "…")

    page.get_by_role("button", name="Show all 5,000 characters").click()

    expect(text).to_have_text("x" * 5000)


def test_a_megabyte_is_there_at_once(open_view: Open, api: httpx.Client) -> None:
    rows = [{"driver": f"D{number}", "points": [number, number / 3], "note": "é" * 20} for number in range(9_000)]
    assert len(json.dumps(rows, ensure_ascii=False).encode()) > 900_000
    create(api, job_id="a", input_params=rows)
    page = open_view("#/jobs/a")
    tree = page.get_by_role("region", name="Input").locator(".tree")
    expect(tree.locator("details > .inside > *").first).to_be_visible()
    assert page.locator("body *").count() < 3000

    took = page.evaluate(
        """() => {
          const start = performance.now();
          document.querySelector('.tree .inside > button').click();
          return performance.now() - start;
        }"""
    )
    assert took < 500, "the page froze"


def test_what_is_unfolded_stays_so_while_the_job_goes_on(open_view: Open, api: httpx.Client) -> None:
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


def test_a_job_that_never_was_or_is_deleted_is_said_to_be_gone(
    open_view: Open, api: httpx.Client, complaints: Complaints
) -> None:
    complaints.foreseen.update({400, 404})
    page = open_view("#/jobs/never")
    expect(page.get_by_role("heading", name="There is no job with this id")).to_be_visible()
    page.goto(f"{page.url.split('#')[0]}#/jobs/not%20an%20id")
    expect(page.get_by_role("heading", name="The service refuses this")).to_be_visible()
    page.goto(f"{page.url.split('#')[0]}#/nothing")
    expect(page.get_by_role("heading", name="There is no such view")).to_be_visible()
