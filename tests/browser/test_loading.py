"""What the page loads: little before it is seen, nothing from elsewhere, nothing twice."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Load, create
from tests.helpers.servers import Service

FIRST_PAINT = 100_000


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
def test_the_first_paint_takes_less_than_100_kb(
    new_page: Callable[..., Page], load: Load, service: Service, api: httpx.Client, encoding: str
) -> None:
    create(api)
    page = new_page(extra_http_headers={"Accept-Encoding": encoding})
    load(page, service.url)
    expect(page.locator(".tile.pending .count")).to_have_text("1")
    expect(page.locator("canvas")).to_have_count(2)

    loaded = page.evaluate(
        """() => {
          const painted = performance.getEntriesByName("first-contentful-paint")[0].startTime;
          const files = performance.getEntriesByType("resource").filter((one) => one.name.includes("/assets/"));
          const [page] = performance.getEntriesByType("navigation");
          return { painted, page: page.transferSize, files: files.map((one) => ({
            name: one.name.split("/").at(-1), size: one.transferSize, start: one.startTime })) };
        }"""
    )
    first = [file for file in loaded["files"] if file["start"] <= loaded["painted"]]
    later = {file["name"] for file in loaded["files"]} - {file["name"] for file in first}
    assert {"charts.js", "uPlot.iife.min.js", "uPlot.min.css"} <= later
    assert loaded["page"] + sum(file["size"] for file in first) < FIRST_PAINT
    assert len(first) == len({file["name"] for file in first})


def test_a_view_without_its_hash_leads_to_the_page(
    new_page: Callable[..., Page], load: Load, service: Service, api: httpx.Client
) -> None:
    job_id = create(api, queue="lineups")
    page = new_page()
    for address in ("jobs?queue=lineups", f"jobs/{job_id}"):
        load(page, f"{service.url}/{address}")
        expect(page).to_have_url(f"{service.url}/#/{address}")
        expect(page.locator("main")).to_contain_text(job_id)


def test_no_module_of_the_first_view_is_found_late(service: Service) -> None:
    """What the page names in its head is all that the first view's modules import: no chain of requests."""
    page = httpx.get(service.url).text
    named = set(re.findall(r'"assets/\w+/(\w[\w-]*\.js)"', page))
    room = re.search(r'"(assets/\w+)/app\.js"', page)
    assert room
    reached, ahead = set(), {"app.js"}
    while ahead:
        name = ahead.pop()
        reached.add(name)
        text = httpx.get(f"{service.url}/{room[1]}/{name}").text
        ahead |= set(re.findall(r'^import .*? from "\./([\w-]+\.js)";', text, re.MULTILINE | re.DOTALL)) - reached
    assert reached == named


LOADED = """() => Object.fromEntries(performance.getEntriesByType("resource")
  .filter((one) => one.name.includes("/assets/") && one.responseEnd > 0).map((one) => [one.name, one.transferSize]))"""


def test_assets_are_kept_by_the_browser(
    new_page: Callable[..., Page], load: Load, service: Service, api: httpx.Client
) -> None:
    page = new_page()
    load(page, service.url)
    expect(page.locator("#pulse")).to_have_text("Live")
    before = page.evaluate(LOADED)
    page.goto("about:blank")
    load(page, service.url)
    expect(page.locator("#pulse")).to_have_text("Live")

    again = {name: size for name, size in page.evaluate(LOADED).items() if name in before}
    assert len(again) > 10
    assert set(again.values()) == {0}
