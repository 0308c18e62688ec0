"""Text from clients stays text: in each view, in titles and attributes, and in copied commands."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenView, change, claim, create

#: Each would run, open a tag or end an attribute if the page took it as markup.
PAYLOADS = (
    "</script><script>document.documentElement.dataset.hacked=1</script>\u2028\u202e*",
    "<img src=x onerror=document.documentElement.dataset.hacked=1>",
    "\"'><svg onload=document.documentElement.dataset.hacked=1>",
    "javascript:document.documentElement.dataset.hacked=1",
    "</title><b>&lt;i&gt;${1+1}{{1+1}}'; touch hacked; '",
)


def create_jobs(api: httpx.Client, payload: str) -> str:
    """Create a running, a failed and a completed job with the payload in each field that accepts it."""
    texts: dict[str, Any] = {"slate_id": payload[:128], "correlation_id": payload[:128]}
    value = {payload: [payload, {payload: payload}], "lines": f"{payload}\n{payload}"}
    create(api, job_id="runs", input_params=value, **texts)
    lease = claim(api, worker=payload[:128])
    progress = {"progress": {"current": 1, "total": 2, "message": payload}}
    api.post("/v1/jobs/runs/heartbeat", json=progress, headers=lease).raise_for_status()
    create(api, job_id="fails", input_params=value, **texts)
    change(api, "fails", claim(api), status="failed", error_message={"detail": payload, "more": value})
    create(api, job_id="works", input_params=value, **texts)
    change(api, "works", claim(api), status="completed", result=value)
    return payload


def effects(page: Page) -> list[str]:
    """Return the effects of a payload: a script that ran, an element, an event handler, a `javascript:` link."""
    return list(
        page.evaluate(
            """() => [
              document.documentElement.dataset.hacked && "a script ran",
              ...Array.from(document.querySelectorAll("script:not([src]), img, b, iframe"), (node) => node.outerHTML),
              ...Array.from(document.querySelectorAll("*"))
                .filter((node) => node.getAttributeNames().some((name) => name.startsWith("on")))
                .map((node) => node.outerHTML),
              ...Array.from(document.querySelectorAll("[href]"))
                .filter((node) => node.href.startsWith("javascript")).map((node) => node.outerHTML),
            ].filter(Boolean)"""
        )
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_from_clients_is_shown_as_text(open_view: OpenView, api: httpx.Client, payload: str) -> None:
    create_jobs(api, payload)
    page = open_view()
    expect(page.locator(".tile.running .count")).to_have_text("1")
    assert effects(page) == []

    origin = page.url.split("#")[0]
    page.goto(f"{origin}#/jobs")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_role("row", name="runs")).to_contain_text(payload[:128])
    expect(page.get_by_role("row", name="fails")).to_contain_text(payload[:60])
    page.get_by_role("row", name="works").get_by_role("link", name=payload[:128], exact=True).click()
    expect(page.get_by_label("Slate")).to_have_value(payload[:128])
    expect(page.locator("tbody tr")).to_have_count(3)
    assert effects(page) == []

    for job_id in ("runs", "fails", "works"):
        page.goto(f"{origin}#/jobs/{job_id}")
        expect(page.get_by_role("region", name="Input")).to_contain_text(payload)
        expect(page.locator("dl")).to_contain_text(payload[:128])
        expect(page.locator(".timeline li").first).to_be_visible()
        assert effects(page) == []


def test_text_from_clients_stays_quoted_in_a_command(open_view: OpenView, api: httpx.Client, tmp_path: Path) -> None:
    create(api, job_id="works", slate_id=PAYLOADS[-1], input_params=PAYLOADS)
    page = open_view("#/jobs/works", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#toast")).to_contain_text("copied")

    command = page.evaluate("navigator.clipboard.readText()")
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=10
    )

    assert list(tmp_path.iterdir()) == []
    created = json.loads(result.stdout)
    assert (created["slate_id"], created["input_params"]) == (PAYLOADS[-1], list(PAYLOADS))


def test_an_address_runs_no_script(open_view: OpenView, api: httpx.Client) -> None:
    for payload in PAYLOADS:
        page = open_view(f"#/jobs?slate_id={payload.replace('&', '%26')}")
        expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()
        page.goto(f"{page.url.split('#')[0]}#/{payload}")
        assert effects(page) == []
