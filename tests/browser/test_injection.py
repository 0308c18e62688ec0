"""Whatever a client may say, it stays text: in every view, in titles and attributes, in what is copied."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, change, claim, create

#: Each would run, open a tag or leave an attribute if it were taken for markup.
PAYLOADS = (
    "</script><script>document.documentElement.dataset.hacked=1</script>\u2028\u202e*",
    "<img src=x onerror=document.documentElement.dataset.hacked=1>",
    "\"'><svg onload=document.documentElement.dataset.hacked=1>",
    "javascript:document.documentElement.dataset.hacked=1",
    "</title><b>&lt;i&gt;${1+1}{{1+1}}'; touch hacked; '",
)


def fill(api: httpx.Client, payload: str) -> str:
    """Put the payload into every field that takes it: of a job that runs, and of one that has failed."""
    texts: dict[str, Any] = {"slate_id": payload[:128], "correlation_id": payload[:128]}
    value = {payload: [payload, {payload: payload}], "lines": f"{payload}\n{payload}"}
    create(api, job_id="runs", input_params=value, **texts)
    lease = claim(api, worker=payload[:128])
    said = {"progress": {"current": 1, "total": 2, "message": payload}}
    api.post("/v1/jobs/runs/heartbeat", json=said, headers=lease).raise_for_status()
    create(api, job_id="fails", input_params=value, **texts)
    change(api, "fails", claim(api), status="failed", error_message={"detail": payload, "more": value})
    create(api, job_id="works", input_params=value, **texts)
    change(api, "works", claim(api), status="completed", result=value)
    return payload


def harm(page: Page) -> list[str]:
    """Name what a payload has brought about: a mark, an element of its own, a handler, an address that runs."""
    return list(
        page.evaluate(
            """() => [
              document.documentElement.dataset.hacked && "a script ran",
              ...Array.from(document.querySelectorAll("script:not([src]), img, b, iframe"), (one) => one.outerHTML),
              ...Array.from(document.querySelectorAll("*"))
                .filter((one) => one.getAttributeNames().some((name) => name.startsWith("on")))
                .map((one) => one.outerHTML),
              ...Array.from(document.querySelectorAll("[href]"))
                .filter((one) => one.href.startsWith("javascript")).map((one) => one.outerHTML),
            ].filter(Boolean)"""
        )
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_clients_say_is_shown_as_text_everywhere(open_view: Open, api: httpx.Client, payload: str) -> None:
    fill(api, payload)
    page = open_view()
    expect(page.locator(".tile.running .count")).to_have_text("1")
    assert harm(page) == []

    origin = page.url.split("#")[0]
    page.goto(f"{origin}#/jobs")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_role("row", name="runs")).to_contain_text(payload[:128])
    expect(page.get_by_role("row", name="fails")).to_contain_text(payload[:60])
    page.get_by_role("row", name="works").get_by_role("link", name=payload[:128], exact=True).click()
    expect(page.get_by_label("Slate")).to_have_value(payload[:128])
    expect(page.locator("tbody tr")).to_have_count(3)
    assert harm(page) == []

    for job_id in ("runs", "fails", "works"):
        page.goto(f"{origin}#/jobs/{job_id}")
        expect(page.get_by_role("region", name="Input")).to_contain_text(payload)
        expect(page.locator("dl")).to_contain_text(payload[:128])
        expect(page.locator(".timeline li").first).to_be_visible()
        assert harm(page) == []


def test_what_clients_say_does_not_leave_the_quotes_of_a_command(
    open_view: Open, api: httpx.Client, tmp_path: Path
) -> None:
    create(api, job_id="works", slate_id=PAYLOADS[-1], input_params=PAYLOADS)
    page = open_view("#/jobs/works", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#notice")).to_contain_text("copied")

    command = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=10)

    assert list(tmp_path.iterdir()) == []
    again = json.loads(done.stdout)
    assert (again["slate_id"], again["input_params"]) == (PAYLOADS[-1], list(PAYLOADS))


def test_an_address_runs_nothing(open_view: Open, api: httpx.Client) -> None:
    for payload in PAYLOADS:
        page = open_view(f"#/jobs?slate_id={payload.replace('&', '%26')}")
        expect(page.get_by_role("heading", name="No job matches")).to_be_visible()
        page.goto(f"{page.url.split('#')[0]}#/{payload}")
        assert harm(page) == []
