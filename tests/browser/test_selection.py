"""Selected jobs of the list: the page cancels, retries and deletes them with a request for each."""

import httpx
from playwright.sync_api import Locator, Page, Route, expect

from service.api.problems import PROBLEM_TYPES
from service.domain import errors
from tests.browser.conftest import OpenView, PageErrors, create, run
from tests.helpers.polling import wait_until

PROBLEM_JSON = "application/problem+json"


def bar(page: Page) -> Locator:
    return page.get_by_role("region", name="Selected jobs")


def select(page: Page, *job_ids: str) -> None:
    for job_id in job_ids:
        page.get_by_label(f"Select {job_id}", exact=True).check()


def select_all(page: Page) -> None:
    """Select all rows, once there are any: new rows are not selected."""
    expect(page.locator("tbody").get_by_role("checkbox").first).to_be_visible()
    page.get_by_label("Select all rows").check()


def press(page: Page, action: str) -> None:
    bar(page).get_by_role("button", name=action, exact=True).click()


def create_jobs(api: httpx.Client, count: int, **fields: str) -> None:
    """Create `job-000`, `job-001` and so on. The last one becomes the first row."""
    for number in range(count):
        create(api, job_id=f"job-{number:03}", **fields)


def status(api: httpx.Client, job_id: str) -> str:
    response = api.get(f"/v1/jobs/{job_id}")
    return "deleted" if response.status_code == 404 else str(response.json()["status"])


def test_the_bar_counts_the_selected_rows_and_disappears_without_any(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 3)
    page = open_view("#/jobs")
    everything = page.get_by_label("Select all rows")
    expect(bar(page)).to_be_hidden()

    select(page, "job-000", "job-002")
    expect(bar(page)).to_contain_text("2 jobs selected.")
    expect(page.locator(".selection [role=status]")).to_have_text("2 jobs selected.")
    assert everything.evaluate("box => box.indeterminate")
    everything.check()
    expect(bar(page)).to_contain_text("3 jobs selected.")
    assert not everything.evaluate("box => box.indeterminate")

    bar(page).get_by_role("button", name="Clear selection").click()
    expect(bar(page)).to_be_hidden()
    expect(everything).to_be_focused()
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)


def test_the_bar_moves_no_row(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 40)
    page = open_view("#/jobs")
    row = page.locator("tbody tr").nth(3)
    expect(row).to_be_visible()
    before = row.bounding_box()

    select(page, "job-030")

    expect(bar(page)).to_be_in_viewport(ratio=1)
    assert row.bounding_box() == before


def test_a_deleted_job_is_no_longer_selected(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 2)
    run(api, "job-000", status="completed", result=1)
    page = open_view("#/jobs")
    select(page, "job-000", "job-001")

    api.delete("/v1/jobs/job-000").raise_for_status()

    expect(bar(page)).to_contain_text("1 job selected.")
    expect(page.get_by_label("Select job-000", exact=True)).to_be_disabled()
    expect(page.get_by_label("Select job-000", exact=True)).not_to_be_checked()


def test_selected_jobs_are_retried_without_a_question(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 3)
    for job_id in ("job-000", "job-001", "job-002"):
        run(api, job_id, status="failed", error_message="no")
    page = open_view("#/jobs")
    select(page, "job-000", "job-002")

    press(page, "Retry")

    expect(page.locator("#toast")).to_have_text("Retry: 2 of 2 done.")
    expect(page.locator("tbody .badge")).to_have_text(["pending", "failed", "pending"])
    expect(bar(page)).to_be_hidden()
    expect(page.get_by_label("Select all rows")).to_be_focused()


def test_selected_jobs_are_deleted_after_a_confirmation_only(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 2)
    for job_id in ("job-000", "job-001"):
        run(api, job_id, status="completed", result=1)
    page = open_view("#/jobs")
    select_all(page)
    dialog = page.get_by_role("dialog", name="Delete 2 jobs?")

    press(page, "Delete")
    dialog.get_by_role("button", name="Go back").click()
    expect(bar(page).get_by_role("button", name="Delete", exact=True)).to_be_focused()
    assert status(api, "job-000") == "completed"

    press(page, "Delete")
    dialog.get_by_role("button", name="Delete 2 jobs").click()
    expect(page.locator("#toast")).to_have_text("Delete: 2 of 2 done.")
    assert [status(api, job_id) for job_id in ("job-000", "job-001")] == ["deleted", "deleted"]


def test_refused_jobs_are_listed_with_the_reason(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected |= {404, 409}
    create_jobs(api, 3)
    run(api, "job-000", status="completed", result=1)
    create(api, job_id="gone")
    page = open_view("#/jobs")
    select_all(page)
    page.route("**/v1/jobs/gone/cancel", lambda route: route.continue_(url=route.request.url.replace("gone", "none")))

    press(page, "Cancel")
    page.get_by_role("dialog").get_by_role("button", name="Cancel 4 jobs").click()

    dialog = page.get_by_role("dialog", name="Cancel: 2 of 4 done, 2 refused")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    expect(dialog.locator(".refused > li")).to_have_count(2)
    for error, job_id in ((errors.IllegalTransition, "job-000"), (errors.JobNotFound, "gone")):
        entry = dialog.locator(".refused > li").filter(has_text=job_id)
        expect(entry).to_contain_text(f"{PROBLEM_TYPES[error].title}: 1")
    dialog.get_by_role("link", name="job-000").click()
    expect(page.get_by_role("heading", name="job-000", level=1)).to_be_visible()
    expect(dialog).to_have_count(0)


def test_at_most_ten_refused_jobs_are_named(open_view: OpenView, api: httpx.Client, page_errors: PageErrors) -> None:
    page_errors.expected.add(409)
    create_jobs(api, 13)
    page = open_view("#/jobs")
    select_all(page)

    press(page, "Retry")

    dialog = page.get_by_role("dialog", name="Retry: 0 of 13 done, 13 refused")
    expect(dialog.get_by_role("link")).to_have_count(10)
    expect(dialog).to_contain_text("and 3 more")


def test_a_few_requests_are_sent_at_a_time_and_a_stop_sends_no_more(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 20)
    page, held = open_view("#/jobs"), list[Route]()
    select_all(page)
    page.route("**/cancel", lambda route: held.append(route))

    press(page, "Cancel")
    page.get_by_role("dialog").get_by_role("button", name="Cancel 20 jobs").click()
    wait_until(lambda: page.evaluate("1") and len(held) == 3, "the first requests")
    held.pop(0).continue_()
    expect(bar(page)).to_contain_text("5% · 1 of 20")
    wait_until(lambda: page.evaluate("1") and len(held) == 3, "the next request")

    expect(bar(page).get_by_role("button", name="Stop")).to_be_focused()
    press(page, "Stop")
    for route in held[:]:
        route.continue_()

    expect(page.locator("#toast")).to_have_text("Cancel: 4 of 20 done.")
    expect(bar(page)).to_contain_text("16 jobs selected.")
    assert len(held) == 3
    assert api.get("/v1/stats").json()["statuses"]["cancelled"] == 4


def test_an_error_of_the_service_ends_the_requests_and_keeps_the_rest_selected(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected.add(503)
    create_jobs(api, 20)
    page = open_view("#/jobs")
    select_all(page)
    problem = {"type": "urn:jobstate:problem:store-timeout", "title": "Job store timeout", "detail": "Try again."}
    page.route("**/cancel", lambda route: route.fulfill(status=503, json=problem, content_type=PROBLEM_JSON))

    press(page, "Cancel")
    page.get_by_role("dialog").get_by_role("button", name="Cancel 20 jobs").click()

    expect(page.locator("#toast")).to_have_text("Cancel: 0 of 20 done. Try again.")
    expect(bar(page)).to_contain_text("20 jobs selected.")
    assert sum(status == 503 for status, _ in page_errors.responses) <= 3
