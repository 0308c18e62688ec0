"""The files that the dashboard loads: when, how large, and from which cache."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import LoadUrl, create
from tests.helpers.service_process import Service

MAX_FIRST_PAINT_BYTES = 100_000


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
def test_the_first_paint_takes_less_than_100_kb(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client, encoding: str
) -> None:
    create(api)
    page = new_page(extra_http_headers={"Accept-Encoding": encoding})
    load(page, service.url)
    expect(page.locator(".tile.pending .count")).to_have_text("1")
    expect(page.locator("canvas")).to_have_count(2)

    loaded = page.evaluate(
        """() => {
          const painted = performance.getEntriesByName("first-contentful-paint")[0].startTime;
          const files = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/assets/"));
          const [page] = performance.getEntriesByType("navigation");
          return { painted, page: page.transferSize, files: files.map((entry) => ({
            name: entry.name.split("/").at(-1), size: entry.transferSize, start: entry.startTime })) };
        }"""
    )
    first = [file for file in loaded["files"] if file["start"] <= loaded["painted"]]
    later = {file["name"] for file in loaded["files"]} - {file["name"] for file in first}
    assert {"charts.js", "uPlot.iife.min.js", "uPlot.min.css"} <= later
    assert loaded["page"] + sum(file["size"] for file in first) < MAX_FIRST_PAINT_BYTES
    assert len(first) == len({file["name"] for file in first})


def test_the_path_of_a_view_without_hash_is_redirected(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client
) -> None:
    job_id = create(api, queue="lineups")
    page = new_page()
    for address in ("jobs?queue=lineups", f"jobs/{job_id}"):
        load(page, f"{service.url}/{address}")
        expect(page).to_have_url(f"{service.url}/#/{address}")
        expect(page.locator("main")).to_contain_text(job_id)


def test_all_modules_of_the_first_view_are_preloaded(service: Service) -> None:
    """The page lists each module that the first view imports, so that no request waits for another module."""
    page = httpx.get(service.url).text
    preloaded = set(re.findall(r'"assets/\w+/(\w[\w-]*\.js)"', page))
    assets = re.search(r'"(assets/\w+)/app\.js"', page)
    assert assets
    imported, pending = set(), {"app.js"}
    while pending:
        name = pending.pop()
        imported.add(name)
        text = httpx.get(f"{service.url}/{assets[1]}/{name}").text
        pending |= set(re.findall(r'^import .*? from "\./([\w-]+\.js)";', text, re.MULTILINE | re.DOTALL)) - imported
    assert imported == preloaded


TRANSFER_SIZES = """() => Object.fromEntries(performance.getEntriesByType("resource")
  .filter((entry) => entry.name.includes("/assets/") && entry.responseEnd > 0)
  .map((entry) => [entry.name, entry.transferSize]))"""


def test_the_browser_caches_assets(
    new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client
) -> None:
    page = new_page()
    load(page, service.url)
    expect(page.locator("#connection-status")).to_have_text("Live")
    before = page.evaluate(TRANSFER_SIZES)
    page.goto("about:blank")
    load(page, service.url)
    expect(page.locator("#connection-status")).to_have_text("Live")

    after = {name: size for name, size in page.evaluate(TRANSFER_SIZES).items() if name in before}
    assert len(after) > 10
    assert set(after.values()) == {0}
