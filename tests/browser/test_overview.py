"""The overview: live counts, stale jobs, throughput, and the controls of queues and the drain."""

import re
from typing import Any

import httpx
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenView, PageErrors, change, claim, create, run


def count(page: Page, status: str) -> str:
    return page.locator(f".tile.{status} .count").inner_text()


def test_without_jobs_the_page_shows_a_command_that_creates_one(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view(permissions=["clipboard-read", "clipboard-write"])
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()

    page.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"curl '{str(api.base_url).rstrip('/')}/v1/jobs'")

    create(api, queue="greetings")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_hidden()
    expect(page.locator(".tile.pending .count")).to_have_text("1")


def test_counts_change_without_a_reload(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    create(api, job_id="b", delay_seconds=3600)
    page = open_view()
    expect(page.locator(".tile.pending")).to_contain_text("1 delayed")
    expect(page.locator(".tile.pending .oldest")).to_contain_text("oldest: a")

    lease = claim(api)
    expect(page.locator(".tile.running")).to_contain_text("1 with an active lease, 0 without")
    change(api, "a", lease, status="completed", result=1)
    expect(page.locator(".tile.completed .count")).to_have_text("1")
    assert (count(page, "running"), count(page, "pending")) == ("0", "1")


def test_a_count_links_to_its_jobs(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    run(api, create(api, job_id="b"), status="failed", error_message="no")
    page = open_view()

    page.get_by_role("link", name="1 failed").click()

    expect(page).to_have_url(re.compile(r"#/jobs\?status=failed$"))
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Status")).to_have_value("failed")


def test_a_queue_is_paused_resumed_limited_and_unlimited(open_view: OpenView, api: httpx.Client) -> None:
    create(api, queue="lineups")
    page = open_view()
    row = page.get_by_role("row", name="lineups")

    row.get_by_role("button", name="Pause lineups").click()
    expect(row.locator(".badge.paused")).to_be_visible()
    row.get_by_role("button", name="Limit… lineups").click()
    page.get_by_label("Max running").fill("3")
    page.get_by_role("button", name="Set limit").click()
    expect(row).to_contain_text("of 3")
    queue = api.get("/v1/queues").json()["items"][0]
    assert (queue["paused"], queue["max_running"]) == (True, 3)

    row.get_by_role("button", name="Resume lineups").click()
    expect(row.get_by_role("button", name="Pause lineups")).to_be_visible()
    row.get_by_role("button", name="Limit… lineups").click()
    page.get_by_role("button", name="Remove limit").click()
    expect(row).not_to_contain_text("of 3")
    assert "max_running" not in api.get("/v1/queues").json()["items"][0]


def test_a_queue_shows_its_demand_and_for_how_long_its_next_job_is_due(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", queue="lineups")
    create(api, job_id="b", queue="lineups", delay_seconds=3600)
    page = open_view()
    cells = page.get_by_role("row", name="lineups").get_by_role("cell")
    headings = page.locator(".queues thead th").all_text_contents()
    demand, age = (cells.nth(headings.index(heading) - 1) for heading in ("Demand", "Due for"))
    expect(demand).to_have_text("1")
    expect(age).to_have_text(re.compile(r"^\d+ s$"))

    claim(api, "lineups")
    expect(age).to_have_text("")
    expect(demand).to_have_text("1")


def test_a_button_of_a_queue_sends_only_the_setting_that_it_changes(open_view: OpenView, api: httpx.Client) -> None:
    create(api, queue="lineups")
    page = open_view()
    row = page.get_by_role("row", name="lineups")
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "PUT" else None)
    expect(row).not_to_contain_text(" of ")

    api.put("/v1/queues/lineups", json={"max_running": 7}).raise_for_status()
    row.get_by_role("button", name="Pause lineups").click()
    expect(row).to_contain_text("of 7")
    row.get_by_role("button", name="Limit… lineups").click()
    page.get_by_role("button", name="Remove limit").click()
    expect(row).not_to_contain_text("of 7")

    assert sent == [{"paused": True}, {"max_running": None}]
    assert api.get("/v1/queues").json()["items"][0]["paused"] is True


def test_a_drain_is_started_and_stopped(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    change(api, "a", status="running")
    page = open_view()
    drain = page.get_by_role("region", name="Drain")
    expect(drain).to_contain_text("1 running, 0 of them with an active lease. Oldest: a.")

    drain.get_by_role("button", name="Start drain…").click()
    page.get_by_label("Minutes").fill("10")
    page.get_by_role("button", name="Start drain", exact=True).click()
    expect(drain).to_contain_text("Safe to stop")
    expect(drain).to_contain_text(re.compile(r"Ends automatically in (10 min|9 min 5\d s)"))
    assert api.get("/v1/drain").json()["draining"] is True

    drain.get_by_role("button", name="Stop drain").click()
    expect(drain).to_contain_text("Jobs can be created and claimed.")
    assert api.get("/v1/drain").json()["draining"] is False


def test_a_dismissed_dialog_changes_nothing(open_view: OpenView, api: httpx.Client) -> None:
    create(api)
    page = open_view()
    start = page.get_by_role("button", name="Start drain…")

    start.click()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(start).to_be_focused()
    assert api.get("/v1/drain").json()["draining"] is False


def test_a_rejected_request_is_shown(open_view: OpenView, api: httpx.Client, page_errors: PageErrors) -> None:
    page_errors.expected.add(400)
    create(api, queue="lineups")
    page = open_view()
    page.route("**/v1/queues/lineups", lambda route: route.continue_(post_data='{"paused": 1}'))

    page.get_by_role("button", name="Pause lineups").click()

    expect(page.locator("#toast.error")).to_contain_text("paused")


def test_stale_jobs_are_listed(open_view: OpenView, api: httpx.Client) -> None:
    """The service requeues a stale job within a second, so the test changes the responses."""
    create(api, job_id="abandoned")
    claim(api, worker="crashed")

    def as_stale(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        if "running" in body:
            body["running"] = {"leased": 0, "unleased": 1}
        for job in body.get("items", []):
            job["stale"] = True
        route.fulfill(response=response, json=body)

    page = open_view()
    page.route("**/v1/stats", as_stale)
    page.route("**/v1/jobs?status=running*", as_stale)
    create(api)

    stale = page.get_by_role("region", name="Jobs with expired leases")
    expect(stale.get_by_role("link", name="abandoned")).to_be_visible()
    expect(stale).to_contain_text("held by crashed")


def test_the_charts_show_jobs_that_finished_before_and_after_loading(open_view: OpenView, api: httpx.Client) -> None:
    for job_id in ("a", "b"):
        run(api, create(api, job_id=job_id), status="completed", result=1)
    run(api, create(api, job_id="c"), status="failed", error_message="no")
    page = open_view()
    throughput = page.get_by_role("region", name="Throughput")
    expect(throughput).to_contain_text("In the last 15 minutes: 2 completed, 1 failed, 0 cancelled.")
    expect(throughput.locator("canvas")).to_have_count(2)

    run(api, create(api, job_id="d"), status="completed", result=1)
    expect(throughput).to_contain_text("3 completed")

    throughput.get_by_role("link", name="1 h").click()
    expect(page).to_have_url(re.compile(r"#/\?range=1h$"))
    expect(throughput).to_contain_text("In the last hour: 3 completed, 1 failed")
    box = throughput.locator(".u-over").first.bounding_box()
    assert box
    readouts = []
    for minutes in range(3):  # a new minute may have begun
        page.mouse.move(box["x"] + box["width"] * (59 - minutes) / 59 - 2, box["y"] + box["height"] / 2)
        readouts.append(throughput.locator(".readout").inner_text())
    assert any(re.search(r"[123] completed.* per minute, median \d+ ms$", readout) for readout in readouts), readouts
