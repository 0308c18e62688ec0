"""A service with API keys: the page asks for one, keeps it in its tab, shows it nowhere, and forgets it when told."""

from collections.abc import Callable, Iterator

import httpx
import pytest
import redis as sync_redis
from playwright.sync_api import Page, expect

from service.domain.api_keys import generate_key, hash_key
from tests.browser.conftest import Complaints, Load, claim, create
from tests.browser.test_access import violations
from tests.browser.test_job import CLIPBOARD, copied
from tests.helpers.servers import Service

ALL, READ, WORK = generate_key(), generate_key(), generate_key()
SCOPES = {ALL: "read+write+work+admin", READ: "read", WORK: "work"}


@pytest.fixture(scope="module")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    entries = ",".join(
        f"{scopes.replace('+', '-')}:{scopes}:{hash_key(key.encode()).hex()}" for key, scopes in SCOPES.items()
    )
    folder = tmp_path_factory.mktemp("guarded")
    settings = {"REDIS_URL": redis_url, "SHUTDOWN_DRAIN_SECONDS": "0", "API_KEYS": entries}
    with Service(folder, **settings) as service:
        yield service


@pytest.fixture
def api(service: Service, redis_url: str) -> Iterator[httpx.Client]:
    with sync_redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ALL}"}, timeout=10) as http:
        yield http


@pytest.fixture
def turned_away(
    new_page: Callable[..., Page], load: Load, service: Service, api: httpx.Client, complaints: Complaints
) -> Page:
    """A page that shows nothing yet."""
    complaints.foreseen |= {401, 403}
    page = new_page(**CLIPBOARD)
    load(page, service.url)
    expect(page.get_by_role("dialog")).to_contain_text("An API key is asked for")
    return page


def give(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    with page.expect_event("load"):  # the page loads itself again
        page.get_by_role("button", name="Use the key").click()


def test_with_a_key_the_page_shows_follows_and_changes(turned_away: Page, api: httpx.Client) -> None:
    page = turned_away
    assert violations(page) == []
    create(api, job_id="a")
    give(page, f" {ALL} ")
    expect(page.locator(".tile.pending .count")).to_have_text("1")
    claim(api)
    expect(page.locator(".tile.running .count")).to_have_text("1")
    page.get_by_role("button", name="Pause default").click()
    expect(page.locator("#notice")).to_be_visible()
    assert api.get("/v1/queues").json()["items"][0]["paused"] is True
    assert violations(page) == []

    page.goto(f"{page.url.split('#')[0]}#/jobs/a")
    expect(page.locator(".badges")).to_have_text("running")
    command = copied(page, "Copy as curl")
    assert '-H "Authorization: Bearer $JOBSTATE_API_KEY"' in command
    assert ALL not in command
    assert ALL not in page.content()


def test_a_key_that_is_unknown_or_for_other_things_is_asked_for_again(turned_away: Page) -> None:
    page = turned_away
    for key, words in (("jobstate_wrong", "Invalid API key"), (WORK, "with the scope `read`")):
        give(page, key)
        expect(page.get_by_role("dialog")).to_contain_text(words)
    give(page, READ)
    expect(page.get_by_role("heading", name="There is no job yet")).to_be_visible()
    page.get_by_role("button", name="Start a drain…").click()
    page.get_by_role("button", name="Start the drain").click()
    expect(page.locator("#notice")).to_contain_text("with the scope `admin`")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_who_gives_no_key_is_not_asked_over_and_over(turned_away: Page) -> None:
    page = turned_away
    page.get_by_role("button", name="Back").click()
    with page.expect_response("**/v1/stats"):
        page.evaluate("location.hash = '#/?stretch=1h'")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Give a key…").click()
    give(page, READ)
    expect(page.get_by_role("heading", name="There is no job yet")).to_be_visible()


def test_a_key_is_kept_in_its_tab_and_forgotten_when_told(turned_away: Page, load: Load, service: Service) -> None:
    page = turned_away
    give(page, READ)
    expect(page.get_by_role("heading", name="There is no job yet")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="There is no job yet")).to_be_visible()
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length") == 0
    other = page.context.new_page()
    load(other, service.url)
    expect(other.get_by_role("dialog")).to_be_visible()
    with page.expect_event("load"):
        page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
