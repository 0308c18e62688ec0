"""Outages of the service, Redis and the event stream: the page reports them and recovers without a reload."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenView, PageErrors, change, claim, create
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service


def mark(page: Page) -> None:
    """Set a variable that a reload would clear."""
    page.evaluate("window.isMarked = true")


def is_marked(page: Page) -> bool:
    return page.evaluate("window.isMarked === true") is True


def test_pages_recover_from_a_restart_of_the_service(open_view: OpenView, api: httpx.Client, service: Service) -> None:
    create(api, job_id="a")
    pages = [open_view("#/"), open_view("#/jobs"), open_view("#/jobs/a")]
    for page in pages:
        mark(page)

    service.kill()
    for page in pages:
        expect(page.locator("#banner")).to_contain_text("Connection lost")
        expect(page.locator("#connection-status")).to_have_text("Connection lost")
    expect(pages[0].locator(".tile.pending .count")).to_have_text("1")

    service.start()
    lease = claim(api)
    for page in pages:
        expect(page.locator("#banner")).to_be_empty()
        expect(page.locator("#connection-status")).to_have_text("Live")
    expect(pages[0].locator(".tile.running .count")).to_have_text("1")
    expect(pages[1].locator("tbody tr")).to_contain_text("running")
    expect(pages[2].locator(".badges")).to_have_text("running")

    change(api, "a", lease, status="completed", result=1)
    expect(pages[0].locator(".tile.completed .count")).to_have_text("1")
    expect(pages[1].locator("tbody tr")).to_contain_text("completed")
    expect(pages[2].locator(".badges")).to_have_text("completed")
    assert all(is_marked(page) for page in pages)


def test_a_page_recovers_from_a_redis_outage(
    open_view: OpenView, api: httpx.Client, redis_server: RedisServer, page_errors: PageErrors
) -> None:
    page_errors.expected.add(503)
    create(api, job_id="a")
    page = open_view()
    mark(page)

    redis_server.kill()
    try:
        page.get_by_role("button", name="Pause default").click()
        expect(page.locator("#banner")).to_contain_text(re.compile("Redis unavailable since .*Redis"))
        expect(page.locator("#connection-status")).to_have_text("Redis unavailable")
    finally:
        redis_server.start()  # the other tests need it, too
    expect(page.locator("#banner")).to_be_empty()
    create(api, job_id="b")
    expect(page.locator(".tile.pending .count")).to_have_text("2")
    assert is_marked(page)


def test_missed_changes_are_read_although_the_stream_is_rejected(
    open_view: OpenView, api: httpx.Client, service: Service, page_errors: PageErrors
) -> None:
    page_errors.expected.add(503)
    create(api, job_id="a")
    page = open_view("#/jobs")
    expect(page.locator("tbody tr")).to_contain_text("pending")

    service.kill()
    expect(page.locator("#banner")).to_contain_text("Connection lost")
    page.route("**/v1/events*", lambda route: route.fulfill(status=503, json={}))
    page.route("**/ready", lambda route: route.abort())  # the page sees the service only after the change
    service.start()
    change(api, "a", status="running")
    page.unroute("**/ready")

    expect(page.locator("tbody tr")).to_contain_text("running", timeout=30_000)


def test_a_rejected_stream_is_reported_and_requested_again(
    open_view: OpenView, api: httpx.Client, page_errors: PageErrors
) -> None:
    page_errors.expected.add(429)
    page = open_view()
    problem = {"type": "urn:jobstate:problem:too-many-watchers", "status": 429}
    page.route("**/v1/events*", lambda route: route.fulfill(status=429, json=problem))
    page.clock.install()
    page.goto(f"{page.url.split('#')[0]}#/jobs")
    wait_until(lambda: page.evaluate("true") and 429 in dict(page_errors.responses), "a rejected stream")
    page.clock.fast_forward(5000)
    expect(page.locator("#connection-status")).to_have_text("No live updates")
    expect(page.locator("#banner")).to_contain_text("event stream is unavailable")

    page.unroute("**/v1/events*")
    page.clock.fast_forward(15_000)
    expect(page.locator("#connection-status")).to_have_text("Live")
    create(api, job_id="a")
    expect(page.locator("tbody tr")).to_contain_text("pending")


def test_a_hidden_page_closes_its_stream_and_catches_up(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view("#/jobs")
    hide = """(state) => {
      Object.defineProperty(document, "hidden", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    create(api, job_id="a")

    page.evaluate(hide, False)

    expect(page.locator("tbody tr")).to_have_count(1)
