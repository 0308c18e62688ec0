"""The list of jobs: filters in the address, rows that change in place, the button for new jobs, pagination."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from service.domain.errors import StoreUnavailable
from service.store.jobs import JobStateManager
from tests.browser.conftest import LoadUrl, OpenView, PageErrors, change, claim, create, run
from tests.helpers.deployments import close_pool, open_pool
from tests.helpers.partitions import PARTITIONS, connect
from tests.helpers.service_process import Service

JOB_COUNT = 10_000


def ids(page: Page) -> list[str]:
    return page.locator("tbody tr th a.id").all_inner_texts()


def create_many(redis_url: str) -> None:
    """Create the jobs in a thread, because the browser has an event loop in this one."""

    async def create_all() -> None:
        pool = open_pool(redis_url, len(PARTITIONS))
        manager, limit = JobStateManager(connect(pool), ttl=timedelta(days=7)), asyncio.Semaphore(50)

        async def create_one(number: int) -> None:
            job_id, slate_id = f"job-{number:05}", f"slate-{number % 7}"
            async with limit:
                while True:  # on a busy machine Redis may answer too late; a repeated creation changes nothing
                    with contextlib.suppress(StoreUnavailable):
                        await manager.create_job(job_id, {"n": number}, None, slate_id=slate_id)
                        return

        for start in range(0, JOB_COUNT, 500):  # jobs are ordered by number, except within 500
            await asyncio.gather(*(create_one(number) for number in range(start, start + 500)))
        await close_pool(pool)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(create_all())).result()


def test_a_change_before_the_stream_opens_is_shown(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client
) -> None:
    create(api, job_id="a")
    page, held = new_page(), list[Route]()
    page.route("**/v1/events?*", lambda route: held.append(route))
    load(page, f"{service.url}/#/jobs")
    expect(page.locator("tbody tr")).to_have_count(1)

    create(api, job_id="b")
    held[0].continue_()

    expect(page.locator("tbody tr")).to_have_count(2)


def test_the_rows_are_read_once_after_the_stream_has_opened(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client
) -> None:
    create(api, job_id="a")
    page, urls = new_page(), list[str]()
    page.on("response", lambda response: urls.append(response.url.removeprefix(service.url)))
    load(page, f"{service.url}/#/jobs")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.wait_for_timeout(1200)

    reads = [url for url in urls if re.match("/v1/(events|jobs)", url)]
    assert [url.partition("?")[0] for url in reads] == ["/v1/events", "/v1/jobs"]


def test_each_filter_narrows_the_list_and_is_part_of_the_address(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", queue="lineups", slate_id="pinewood 400", correlation_id="r/1")
    create(api, job_id="b", queue="lineups", slate_id="other")
    create(api, job_id="c", queue="reports", slate_id="pinewood 400")
    run(api, create(api, job_id="d", queue="lineups"), status="completed")
    page = open_view("#/jobs")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(page.locator(".heading")).to_contain_text("4 jobs")

    page.get_by_label("Queue").fill("lineups")
    page.get_by_label("Queue").press("Enter")
    expect(rows).to_have_count(3)
    page.get_by_label("Status").select_option("pending")
    expect(rows).to_have_count(2)
    page.get_by_label("Slate").fill("pinewood 400")
    page.get_by_label("Slate").press("Tab")
    expect(rows).to_have_count(1)
    page.get_by_label("Correlation ID").fill("r/1")
    page.get_by_label("Correlation ID").press("Enter")
    expect(page).to_have_url(
        re.compile(r"#/jobs\?status=pending&queue=lineups&slate_id=pinewood\+400&correlation_id=r%2F1$")
    )
    assert ids(page) == ["a"]

    address = page.url
    page.go_back()
    page.go_back()
    expect(rows).to_have_count(2)
    expect(page.get_by_label("Slate")).to_have_value("")
    page.goto("about:blank")
    page.goto(address)
    expect(rows).to_have_count(1)
    expect(page.get_by_label("Slate")).to_have_value("pinewood 400")

    page.get_by_role("link", name="Clear").click()
    expect(rows).to_have_count(4)


def test_labels_filter_the_list_together(open_view: OpenView, api: httpx.Client, page_errors: PageErrors) -> None:
    page_errors.expected.add(400)
    create(api, job_id="job-a", labels={"tenant": "acme", "team": "blue"})
    create(api, job_id="job-b", labels={"tenant": "acme", "team": "red"})
    create(api, job_id="job-c", labels={"tenant": "<b>other</b>"})
    page = open_view("#/jobs")
    rows = page.locator("tbody tr")
    expect(page.get_by_role("row", name="job-c").get_by_role("link", name="tenant:<b>other</b>")).to_be_visible()

    page.get_by_role("row", name="job-a").get_by_role("link", name="tenant:acme").click()
    expect(rows).to_have_count(2)
    expect(page.locator(".heading")).to_contain_text("2 jobs")
    page.get_by_label("Label", exact=True).fill("team:blue")
    page.get_by_label("Label", exact=True).press("Enter")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile(r"#/jobs\?label=tenant%3Aacme&label=team%3Ablue$"))
    expect(page.get_by_label("Label", exact=True)).to_have_value("")

    create(api, job_id="other", labels={"tenant": "acme"})
    create(api, job_id="new", labels={"tenant": "acme", "team": "blue"})
    page.get_by_role("button", name="1 new job").click()
    expect(rows).to_have_count(2)
    assert ids(page) == ["new", "job-a"]

    page.get_by_role("link", name="Remove the filter tenant:acme").click()
    expect(page).to_have_url(re.compile(r"#/jobs\?label=team%3Ablue$"))
    page.get_by_label("Label", exact=True).fill("tenant")
    page.get_by_label("Label", exact=True).press("Enter")
    expect(page.get_by_text("Request rejected")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("key:value")
    page.get_by_role("link", name="Clear").click()
    expect(rows).to_have_count(5)


def test_a_row_changes_in_place_and_keeps_the_focus(open_view: OpenView, api: httpx.Client) -> None:
    for number in range(30):
        create(api, job_id=f"job-{number:02}")
    page = open_view("#/jobs")
    row = page.get_by_role("row", name="job-00")
    row.get_by_role("link", name="job-00").focus()
    scrolled = page.evaluate("scrollY")

    lease = claim(api)
    expect(row).to_contain_text("running")
    api.post(
        "/v1/jobs/job-00/heartbeat",
        json={"progress": {"current": 1, "total": 4, "message": "on it"}},
        headers=lease,
    )
    expect(row).to_contain_text("25% · 1 of 4")
    expect(row).to_contain_text("on it · worker-1")
    change(api, "job-00", lease, status="failed", error_message={"detail": "it broke"})
    expect(row).to_contain_text("it broke")

    expect(row.get_by_role("link", name="job-00")).to_be_focused()
    assert page.evaluate("scrollY") == scrolled
    assert ids(page)[-1] == "job-00"
    api.delete("/v1/jobs/job-00").raise_for_status()
    expect(row).to_contain_text("deleted")


def test_new_jobs_appear_on_request(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="first")
    page = open_view("#/jobs")
    expect(page.locator("tbody tr")).to_have_count(1)

    create(api, job_id="second")
    create(api, job_id="third")
    expect(page.get_by_role("button", name="2 new")).to_be_visible()
    assert ids(page) == ["first"]

    page.get_by_role("button", name="2 new").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert ids(page) == ["third", "second", "first"]
    expect(page.locator("button.new")).to_be_hidden()


def test_an_empty_list_fills_automatically(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view("#/jobs?status=running")
    expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()

    create(api, job_id="a")
    claim(api)

    expect(page.locator("tbody tr")).to_have_count(1)


def test_only_matching_new_jobs_are_counted(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", correlation_id="mine")
    page = open_view("#/jobs?correlation_id=mine")
    expect(page.locator("tbody tr")).to_have_count(1)

    create(api, job_id="b", correlation_id="other")
    create(api, job_id="c", correlation_id="mine")

    expect(page.get_by_role("button", name="1 new")).to_be_visible()


def test_a_row_that_no_longer_matches_the_filter_stays_in_place(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    create(api, job_id="b")
    page = open_view("#/jobs?status=pending")
    expect(page.locator("tbody tr")).to_have_count(2)

    claim(api)

    row = page.get_by_role("row", name="running")
    expect(row).to_have_class("outdated")
    assert ids(page) == ["b", "a"]


def test_the_search_finds_a_job_or_says_why_not(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected.update({400, 404})
    create(api, job_id="needle")
    page = open_view()

    page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    for text, message in (("hay", "Job hay not found."), ("no such id", "Invalid job ID.")):
        search.fill(text)
        search.press("Enter")
        expect(page.locator("#find-message")).to_have_text(message)

    search.fill(" needle ")
    search.press("Enter")
    expect(page.get_by_role("heading", name="needle", level=1)).to_be_focused()


def test_ten_thousand_jobs_are_shown_in_pages_of_bounded_size(
    open_view: OpenView, api: httpx.Client, redis_url: str
) -> None:
    create_many(redis_url)
    page = open_view("#/jobs")
    expect(page.locator(".heading")).to_contain_text("100 of 10,000 jobs, newest first")
    seen = ids(page)

    for number in range(3):
        page.get_by_role("link", name="Older").click()
        expect(page.locator("tbody tr").first).not_to_contain_text(seen[100 * number])
        seen += ids(page)
    assert (len(seen), len(set(seen))) == (400, 400)
    assert page.locator("body *").count() < 4000

    row = page.locator("tbody tr").nth(60)
    row.scroll_into_view_if_needed()
    before = row.bounding_box()
    create(api, job_id="fresh")
    expect(page.get_by_role("button", name="1 new")).to_be_visible()
    assert row.bounding_box() == before
    assert ids(page) == seen[300:]

    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody tr").first).to_contain_text(seen[200])
    page.get_by_role("button", name="1 new").click()
    expect(page.locator("tbody tr").first).to_contain_text("fresh")

    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr").first).not_to_contain_text("fresh")
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr").first).to_contain_text("fresh")
    page.goto(f"{page.url.split('#')[0]}#/jobs?slate_id=slate-3&status=completed")
    expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()


@pytest.mark.parametrize("parameter", ["cursor=nonsense", "queue=no+queue", "status=none"])
def test_an_invalid_parameter_in_the_address_is_reported(
    open_view: OpenView, page_errors: PageErrors, parameter: str
) -> None:
    page_errors.expected.add(400)
    page = open_view(f"#/jobs?{parameter}")

    expect(page.get_by_role("heading", name="Request rejected")).to_be_visible()
    page.get_by_role("link", name="Show all jobs").click()
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
