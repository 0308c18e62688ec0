"""Accessibility: axe on each view in light and dark, keyboard navigation, phones, reduced motion."""

import json
from importlib.resources import files
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, OpenView, change, claim, create, run

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
VIEWS = ("#/", "#/jobs", "#/jobs?status=cancelled", "#/jobs/runs", "#/jobs/fails", "#/bulk-actions", "#/nothing")


def create_jobs(api: httpx.Client) -> None:
    long = "a-very-long-name-that-has-no-place-for-a-line-break-x"
    create(
        api, job_id="fails", queue=long, slate_id=f"{long} {long}", input_params={long * 3: long * 9}, max_attempts=2
    )
    run(api, "fails", status="failed", error_message={"detail": long * 4, "lines": "one\ntwo", "none": None})
    create(api, job_id="runs", queue="lineups", correlation_id=long, input_params={"list": [1, True, "text", {}]})
    lease = claim(api, "lineups", worker=long)
    progress = {"progress": {"current": 1, "total": 3, "message": long * 3}}
    api.post("/v1/jobs/runs/heartbeat", json=progress, headers=lease).raise_for_status()
    create(api, job_id="x" * 128, queue="lineups")
    run(api, create(api), status="completed", result=[1])
    api.put("/v1/queues/lineups", json={"paused": True, "max_running": 1_000_000}).raise_for_status()


def go_to(page: Page, view: str) -> None:
    page.goto(f"{page.url.split('#')[0]}{view}")
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator("main :is(.tile, tbody tr, .details > div, .empty)").first).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    if view == "#/":
        expect(page.locator("canvas")).to_have_count(2)


def violations(page: Page) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    results: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {json.dumps([node['target'] for node in violation['nodes']])}: {violation['help']}"
        for violation in results["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_violates_an_accessibility_rule(open_view: OpenView, api: httpx.Client, scheme: str) -> None:
    page = open_view(color_scheme=scheme)
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    assert violations(page) == []

    create_jobs(api)
    for view in VIEWS:
        go_to(page, view)
        assert violations(page) == [], view
    go_to(page, "#/")
    page.get_by_role("button", name="Limit… lineups").click()
    assert violations(page) == []


def test_no_view_violates_an_accessibility_rule_on_a_phone(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view(viewport=PHONE)
    create_jobs(api)
    for view in VIEWS:
        go_to(page, view)
        assert violations(page) == [], view


def test_no_view_scrolls_horizontally_on_a_phone(open_view: OpenView, api: httpx.Client) -> None:
    page = open_view(viewport=PHONE, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]

    create_jobs(api)
    for view in VIEWS:
        go_to(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view


def test_the_dashboard_works_with_the_keyboard_only(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a", queue="lineups")
    page = open_view()
    expect(page.get_by_role("button", name="Pause lineups")).to_be_visible()
    focused = page.locator(":focus")

    page.keyboard.press("Tab")
    expect(focused).to_have_text("Skip to content")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    names: list[str] = []
    while not names or names[-1] != "Pause lineups":
        page.keyboard.press("Tab")
        names.append(focused.inner_text().replace("\n", " "))
        assert len(names) < 30, names
    assert names[:2] == ["1", "a"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(focused).to_have_text("Resume lineups")

    page.keyboard.press("/")
    page.keyboard.type("a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="a", level=1)).to_be_focused()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Cancel")
    page.keyboard.press("Space")
    expect(page.locator(".badges")).to_have_text("cancelled")

    page.go_back()
    expect(page.get_by_role("heading", name="Overview")).to_be_focused()


def test_a_dialog_keeps_the_focus_until_it_is_closed(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    change(api, "a", status="running")
    page = open_view("#/jobs/a")
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.press("Enter")

    dialog = page.get_by_role("dialog", name="Cancel a?")
    expect(dialog.get_by_role("button", name="Go back")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    expect(cancel).to_be_focused()


def test_animations_follow_the_reduced_motion_preference(open_view: OpenView, api: httpx.Client) -> None:
    create(api, job_id="a")
    change(api, "a", status="running")

    for preference, animations in (("reduce", 0), ("no-preference", 1)):
        page = open_view("#/jobs/a", reduced_motion=preference)
        expect(page.locator(".badge.running")).to_be_visible()
        assert page.evaluate("document.getAnimations().length") == animations
