"""The connection is lost and comes back, the service's and that of Redis; the page says so and needs no reload."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints, Open, change, claim, create
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service


def mark(page: Page) -> None:
    """So that a reload would be seen."""
    page.evaluate("window.isTheSame = true")


def is_marked(page: Page) -> bool:
    return page.evaluate("window.isTheSame === true") is True


def test_a_restart_of_the_service_is_said_and_made_good(open_view: Open, api: httpx.Client, service: Service) -> None:
    create(api, job_id="a")
    pages = [open_view("#/"), open_view("#/jobs"), open_view("#/jobs/a")]
    for page in pages:
        mark(page)

    service.kill()
    for page in pages:
        expect(page.locator("#banner")).to_contain_text("The connection was lost")
        expect(page.locator("#pulse")).to_have_text("Connection lost")
    expect(pages[0].locator(".tile.pending .count")).to_have_text("1")

    service.start()
    lease = claim(api)
    for page in pages:
        expect(page.locator("#banner")).to_be_empty()
        expect(page.locator("#pulse")).to_have_text("Live")
    expect(pages[0].locator(".tile.running .count")).to_have_text("1")
    expect(pages[1].locator("tbody tr")).to_contain_text("running")
    expect(pages[2].locator(".badges")).to_have_text("running")

    change(api, "a", lease, status="completed", result=1)
    expect(pages[0].locator(".tile.completed .count")).to_have_text("1")
    expect(pages[1].locator("tbody tr")).to_contain_text("completed")
    expect(pages[2].locator(".badges")).to_have_text("completed")
    assert all(is_marked(page) for page in pages)


def test_redis_away_is_said_and_made_good(
    open_view: Open, api: httpx.Client, redis_server: RedisServer, complaints: Complaints
) -> None:
    complaints.foreseen.add(503)
    create(api, job_id="a")
    page = open_view()
    mark(page)

    redis_server.kill()
    page.get_by_role("button", name="Pause default").click()
    expect(page.locator("#banner")).to_contain_text(re.compile("Jobs cannot be served since .*Redis"))
    expect(page.locator("#pulse")).to_have_text("Redis is away")

    redis_server.start()
    expect(page.locator("#banner")).to_be_empty()
    create(api, job_id="b")
    expect(page.locator(".tile.pending .count")).to_have_text("2")
    assert is_marked(page)


def test_what_was_missed_is_read_again_also_where_the_stream_is_refused(
    open_view: Open, api: httpx.Client, service: Service, complaints: Complaints
) -> None:
    complaints.foreseen.add(503)
    create(api, job_id="a")
    page = open_view("#/jobs")
    expect(page.locator("tbody tr")).to_contain_text("pending")

    service.kill()
    expect(page.locator("#banner")).to_contain_text("The connection was lost")
    page.route("**/v1/events*", lambda route: route.fulfill(status=503, json={}))
    page.route("**/ready", lambda route: route.abort())  # it is to see the service again after the change
    service.start()
    change(api, "a", status="running")
    page.unroute("**/ready")

    expect(page.locator("tbody tr")).to_contain_text("running")


def test_a_stream_that_is_refused_is_said_and_asked_for_again(
    open_view: Open, api: httpx.Client, complaints: Complaints
) -> None:
    complaints.foreseen.add(429)
    page = open_view()
    full = {"type": "urn:jobstate:problem:too-many-watchers", "status": 429}
    page.route("**/v1/events*", lambda route: route.fulfill(status=429, json=full))
    page.clock.install()
    page.goto(f"{page.url.split('#')[0]}#/jobs")
    wait_until(lambda: page.evaluate("true") and 429 in dict(complaints.answers), "a refusal")
    page.clock.fast_forward(5000)
    expect(page.locator("#pulse")).to_have_text("No live updates")
    expect(page.locator("#banner")).to_contain_text("sends no events")

    page.unroute("**/v1/events*")
    page.clock.fast_forward(15_000)
    expect(page.locator("#pulse")).to_have_text("Live")
    create(api, job_id="a")
    expect(page.locator("tbody tr")).to_contain_text("pending")


def test_a_page_that_nobody_sees_rests_and_catches_up(open_view: Open, api: httpx.Client) -> None:
    page = open_view("#/jobs")
    hide = """(state) => {
      Object.defineProperty(document, "hidden", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    create(api, job_id="a")

    page.evaluate(hide, False)

    expect(page.locator("tbody tr")).to_have_count(1)
