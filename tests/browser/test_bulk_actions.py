"""Bulk actions on the page: started from the filters after a count and a confirmation, followed, aborted."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from service.api.problems import PROBLEM_TYPES, TYPE_PREFIX
from service.domain import errors
from tests.browser.conftest import PHONE, LoadUrl, OpenView, create, run
from tests.browser.test_access import violations
from tests.browser.test_selection import bar, create_jobs, press, select, select_all
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service

ALL = "Select all jobs that match"
#: Milliseconds after which the page reads a list without unfinished actions again.
MAX_INTERVAL = 10_000


def create_failed(api: httpx.Client, count: int) -> None:
    for number in range(count):
        job_id = create(api, job_id=f"failed-{number:03}", queue="lineups")
        run(api, job_id, status="failed", error_message="no")


def select_all_that_match(page: Page) -> None:
    select_all(page)
    press(page, ALL)


def actions(api: httpx.Client) -> list[dict[str, Any]]:
    return [action for action in api.get("/v1/bulk-actions").json()["items"] if not action["dry_run"]]


def start(api: httpx.Client, action: str = "cancel", **filters: str) -> str:
    response = api.post("/v1/bulk-actions", json={"action": action, "filter": filters})
    response.raise_for_status()
    return str(response.json()["bulk_action_id"])


def cards(page: Page) -> Locator:
    return page.locator(".bulk-action")


def bulk_action(**fields: Any) -> dict[str, Any]:
    """Return an action as the service describes it, with these fields."""
    return {
        **{"bulk_action_id": "one", "action": "retry", "filter": {"status": "failed"}, "dry_run": False},
        **{"state": "running", "matched": 2000, "done": 0, "refused": {}, "examples": []},
        **{"created_at": "2026-11-29T10:00:00.000000Z", **fields},
    }


def serve(page: Page, *items: dict[str, Any]) -> None:
    """Answer reads of the bulk actions with these."""
    page.unroute("**/v1/bulk-actions")
    page.route("**/v1/bulk-actions", lambda route: route.fulfill(json={"items": items}))


@pytest.mark.parametrize(
    ("view", "count"),
    [
        pytest.param("#/jobs", 101, id="without a filter"),
        pytest.param("#/jobs?queue=default", 3, id="where all are shown"),
    ],
)
def test_all_jobs_that_match_are_not_offered(open_view: OpenView, api: httpx.Client, view: str, count: int) -> None:
    create_jobs(api, count)
    page = open_view(view)

    select_all(page)

    expect(bar(page)).to_contain_text(f"{min(count, 100)} jobs selected.")
    expect(bar(page).get_by_role("button", name=ALL)).to_be_hidden()


def test_all_jobs_that_match_are_offered_once_all_rows_are_selected(open_view: OpenView, api: httpx.Client) -> None:
    create_jobs(api, 101)
    page = open_view("#/jobs?queue=default")
    everything, offer = page.get_by_label("Select all rows"), bar(page).get_by_role("button", name=ALL)

    select(page, "job-100")
    expect(offer).to_be_hidden()
    everything.check()
    offer.click()
    expect(bar(page)).to_contain_text("All jobs that match are selected.")
    expect(bar(page).get_by_role("button", name="Cancel", exact=True)).to_be_focused()

    page.get_by_label("Select job-100", exact=True).uncheck()
    expect(bar(page)).to_contain_text("99 jobs selected.")
    everything.check()
    press(page, ALL)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(bar(page)).to_be_hidden()
    everything.check()
    expect(offer).to_be_visible()


def test_the_jobs_that_match_are_counted_and_changed_after_a_confirmation_only(
    open_view: OpenView, api: httpx.Client
) -> None:
    create_jobs(api, 2)
    create_failed(api, 101)
    page = open_view("#/jobs?status=failed&queue=lineups")
    select_all_that_match(page)
    dialog = page.get_by_role("dialog", name="Retry 101 jobs that match status failed, queue lineups?")

    press(page, "Retry")
    dialog.get_by_role("button", name="Cancel").click()
    expect(bar(page).get_by_role("button", name="Retry", exact=True)).to_be_focused()
    assert actions(api) == []

    press(page, "Retry")
    dialog.get_by_role("button", name="Retry 101 jobs").click()
    expect(page.get_by_role("heading", name="Bulk actions", level=1)).to_be_focused()
    expect(cards(page)).to_contain_text("101 of 101 done.")
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 103
    [action] = actions(api)
    assert action["filter"] == {"status": "failed", "queue": "lineups"}
    assert "expect" not in action

    page.reload()
    expect(cards(page)).to_contain_text("101 of 101 done.")
    page.get_by_role("link", name="status failed, queue lineups").click()
    expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()


def test_a_stopped_count_asks_nothing_and_is_aborted(open_view: OpenView, api: httpx.Client) -> None:
    create_failed(api, 101)
    page = open_view("#/jobs?queue=lineups")
    select_all_that_match(page)
    counting = bulk_action(dry_run=True, state="counting", matched=1234)
    deleted: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            deleted.append(route.request.url)
        route.fulfill(json={**counting, "state": "aborted"} if deleted else counting)

    page.route("**/v1/bulk-actions**", answer)
    page.route("**/v1/bulk-actions/one", answer)
    press(page, "Retry")
    expect(bar(page)).to_contain_text("Counting the jobs that match…")
    expect(bar(page).locator(".bar")).to_have_text("1,234")

    press(page, "Stop")

    expect(bar(page)).to_contain_text("All jobs that match are selected.")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert len(deleted) == 1


def test_a_count_ends_when_its_view_is_left(open_view: OpenView, api: httpx.Client) -> None:
    create_failed(api, 101)
    page = open_view("#/jobs?queue=lineups")
    select_all_that_match(page)
    held: list[Route] = []
    page.route("**/v1/bulk-actions/*", lambda route: held.append(route))
    page.route("**/v1/bulk-actions", lambda route: route.fulfill(json=bulk_action(dry_run=True, state="counting")))
    press(page, "Retry")
    wait_until(lambda: page.evaluate("1") and bool(held), "the first read")

    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    held[0].fulfill(json=bulk_action(dry_run=True, state="counting"))
    wait_until(lambda: page.evaluate("1") and len(held) == 2, "the abort")

    assert held[1].request.method == "DELETE"
    held[1].fulfill(json=bulk_action(dry_run=True, state="aborted"))


def test_a_bulk_action_is_followed_until_it_ends(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view()
    running = bulk_action(done=497, refused={f"{TYPE_PREFIX}illegal-transition": 3}, by="ops")
    serve(page, running, bulk_action(bulk_action_id="count", dry_run=True, state="done"))
    page.goto(f"{page.url.split('#')[0]}#/bulk-actions")
    card = cards(page)
    expect(card).to_have_count(1)
    expect(card).to_contain_text("Jobs that match status failed")
    expect(card.get_by_role("progressbar")).to_have_attribute("value", "0.25")
    expect(card).to_contain_text("497 of 2,000 done, 3 refused.")
    expect(card).to_contain_text("by ops")

    serve(page, {**running, "state": "done", "done": 1997, "finished_at": "2026-11-29T10:00:09.000000Z"})

    expect(card).to_contain_text("1,997 of 2,000 done, 3 refused.", timeout=5000)
    expect(card.get_by_role("button", name="Abort")).to_be_hidden()
    expect(page.locator("main [role=status]")).to_have_text("Retry done: 1,997 of 2,000 done, 3 refused.")


def test_the_refused_jobs_of_a_bulk_action_are_listed_with_the_reason(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view()
    refusals = (errors.IllegalTransition, errors.JobNotFinal, errors.StoreCorrupt)
    types = [TYPE_PREFIX + PROBLEM_TYPES[error].name for error in refusals]
    examples = [{"job_id": f"job-{name.rsplit(':')[-1]}", "type": name} for name in types]
    serve(page, bulk_action(state="done", refused=dict.fromkeys(types, 1200), examples=examples))
    page.goto(f"{page.url.split('#')[0]}#/bulk-actions")

    entries = page.locator(".refused > li")
    expect(entries).to_have_count(3)
    for entry, error in zip(entries.all(), refusals, strict=True):
        expect(entry).to_contain_text(f"{PROBLEM_TYPES[error].title}: 1,200")
        expect(entry).to_contain_text("and 1,199 more")
        link = entry.get_by_role("link", name=f"job-{PROBLEM_TYPES[error].name}")
        expect(link).to_have_attribute("href", f"#/jobs/job-{PROBLEM_TYPES[error].name}")


def test_a_running_bulk_action_can_be_aborted(open_view: OpenView, api: httpx.Client) -> None:
    create(api, queue="lineups")
    page = open_view()
    action_id = start(api, queue="lineups")
    serve(page, bulk_action(bulk_action_id=action_id))
    page.goto(f"{page.url.split('#')[0]}#/bulk-actions")

    with page.expect_response(f"**/v1/bulk-actions/{action_id}") as response:
        cards(page).get_by_role("button", name="Abort").click()

    assert response.value.request.method == "DELETE"
    expect(page.locator("#toast")).to_have_text("Bulk action aborted.")


def test_a_bulk_action_that_another_client_started_appears(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client
) -> None:
    create(api, queue="lineups")
    page = new_page()
    page.clock.install()
    load(page, f"{service.url}/#/bulk-actions")
    expect(page.get_by_role("heading", name="No bulk actions")).to_be_visible()

    action_id = start(api, queue="lineups", created_after="2020-01-01T00:00:00Z")
    wait_until(lambda: api.get(f"/v1/bulk-actions/{action_id}").json()["state"] == "done", "the end")
    page.clock.fast_forward(MAX_INTERVAL)

    expect(cards(page)).to_contain_text("1 of 1 done.")
    expect(cards(page)).to_contain_text("Jobs that match queue lineups, created after 2020-01-01T00:00:00Z")
    expect(cards(page).get_by_role("link")).to_have_count(0)


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": PHONE}], ids=str)
def test_selection_and_bulk_actions_are_accessible_and_fit_a_phone(
    open_view: OpenView, api: httpx.Client, options: dict[str, Any]
) -> None:
    create_failed(api, 101)
    page = open_view("#/jobs?queue=lineups", **options)
    width = page.evaluate("innerWidth")
    select_all(page)
    expect(bar(page)).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width

    name = "x" * 128
    refused = {"refused": {f"{TYPE_PREFIX}illegal-transition": 1}}
    example = {"job_id": name, "type": f"{TYPE_PREFIX}illegal-transition"}
    serve(page, bulk_action(filter={"slate_id": name}, **refused, examples=[example]))
    page.goto(f"{page.url.split('#')[0]}#/bulk-actions")
    expect(cards(page)).to_have_count(1)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
