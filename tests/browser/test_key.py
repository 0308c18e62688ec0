"""With API keys, the page asks for a key, stores it for its tab, never shows it, and clears it on request."""

import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.domain.api_keys import generate_key, hash_key
from tests.browser.conftest import LoadUrl, PageErrors, claim, create
from tests.browser.test_access import violations
from tests.browser.test_job import CLIPBOARD, copied
from tests.helpers.deployments import sync_client
from tests.helpers.service_process import Service

ALL, READ, WORK = generate_key(), generate_key(), generate_key()
SCOPES = {ALL: "read+write+work+admin", READ: "read", WORK: "work"}


@pytest.fixture(scope="module")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    entries = ",".join(
        f"{scopes.replace('+', '-')}:{scopes}:{hash_key(key.encode()).hex()}" for key, scopes in SCOPES.items()
    )
    folder = tmp_path_factory.mktemp("authenticated")
    settings = {"REDIS_URL": redis_url, "SHUTDOWN_DRAIN_SECONDS": "0", "API_KEYS": entries}
    with Service(folder, **settings) as service:
        yield service


@pytest.fixture
def api(service: Service, redis_url: str) -> Iterator[httpx.Client]:
    with sync_client(redis_url) as client:
        client.flushdb()
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ALL}"}, timeout=10) as http:
        yield http


@pytest.fixture
def unauthenticated_page(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client, page_errors: PageErrors
) -> Page:
    """Return a page that shows the dialog for the API key."""
    page_errors.expected |= {401, 403}
    page = new_page(**CLIPBOARD)
    load(page, service.url)
    expect(page.get_by_role("dialog")).to_contain_text("API key required")
    return page


def enter_key(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    with page.expect_event("load"):  # the page reloads
        page.get_by_role("button", name="Use key").click()


def test_with_a_key_the_page_reads_follows_and_changes_jobs(unauthenticated_page: Page, api: httpx.Client) -> None:
    page = unauthenticated_page
    assert violations(page) == []
    create(api, job_id="a")
    enter_key(page, f" {ALL} ")
    expect(page.locator(".tile.pending .count")).to_have_text("1")
    claim(api)
    expect(page.locator(".tile.running .count")).to_have_text("1")
    page.get_by_role("button", name="Pause default").click()
    expect(page.locator("#toast")).to_be_visible()
    assert api.get("/v1/queues").json()["items"][0]["paused"] is True
    assert violations(page) == []

    page.goto(f"{page.url.split('#')[0]}#/jobs/a")
    expect(page.locator(".badges")).to_have_text("running")
    command = copied(page, "Copy as curl")
    assert '-H "Authorization: Bearer $JOBSTATE_API_KEY"' in command
    assert ALL not in command
    assert ALL not in page.content()


def test_the_page_asks_again_after_an_unknown_key_or_one_without_the_scope(unauthenticated_page: Page) -> None:
    page = unauthenticated_page
    for key, words in (("jobstate_wrong", "Invalid API key"), (WORK, "with the scope `read`")):
        enter_key(page, key)
        expect(page.get_by_role("dialog")).to_contain_text(words)
    enter_key(page, READ)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    page.get_by_role("button", name="Start drain…").click()
    page.get_by_role("button", name="Start drain", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("with the scope `admin`")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_dismissed_dialog_does_not_open_again_by_itself(unauthenticated_page: Page) -> None:
    page = unauthenticated_page
    page.get_by_role("button", name="Cancel").click()
    with page.expect_response("**/v1/stats"):
        page.evaluate("location.hash = '#/?range=1h'")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Enter API key…").click()
    enter_key(page, READ)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()


def test_a_key_is_stored_for_its_tab_until_it_is_cleared(
    unauthenticated_page: Page, load: LoadUrl, service: Service
) -> None:
    page = unauthenticated_page
    enter_key(page, READ)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length") == 0
    other = page.context.new_page()
    load(other, service.url)
    expect(other.get_by_role("dialog")).to_be_visible()
    with page.expect_event("load"):
        page.get_by_role("button", name="Clear API key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_changes_of_many_jobs_without_the_scope_name_it(unauthenticated_page: Page, api: httpx.Client) -> None:
    page = unauthenticated_page
    for number in range(101):
        create(api, job_id=f"job-{number:03}")
    enter_key(page, READ)
    page.goto(f"{page.url.split('#')[0]}#/jobs?queue=default")

    page.get_by_label("Select job-001", exact=True).check()
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("Retry: 0 of 1 done. ")
    expect(page.locator("#toast")).to_contain_text("with the scope `write`")

    page.get_by_label("Select all rows").check()
    page.get_by_role("button", name="Select all jobs that match").click()
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.locator("#toast")).to_have_text(re.compile("^(?!Retry).*with the scope `write`"))
    expect(page.get_by_role("dialog")).to_have_count(0)
