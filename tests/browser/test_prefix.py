"""Both pages work behind a proxy that removes a path prefix without telling the service."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import LoadUrl, OpenView, change, create
from tests.browser.test_job import CLIPBOARD, copied
from tests.helpers.nginx import BLOCKS, documented_block, nginx
from tests.helpers.service_process import Service

PREFIXED = "nginx under a prefix"


@pytest.fixture(scope="module")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Return the proxied URL, as the only attribute of a service that the other fixtures use."""
    with (
        Service(tmp_path_factory.mktemp("service"), REDIS_URL=redis_url, SHUTDOWN_DRAIN_SECONDS="0") as service,
        nginx(tmp_path_factory.mktemp("nginx"), documented_block(PREFIXED), service.url) as origin,
    ):
        yield SimpleNamespace(url=origin + BLOCKS[PREFIXED])


def test_the_dashboard_follows_and_changes_jobs_and_copies_the_right_urls(
    open_view: OpenView, api: httpx.Client, service: SimpleNamespace
) -> None:
    page = open_view("#/jobs", **CLIPBOARD)
    create(api, job_id="behind", queue="lineups")
    page.get_by_role("link", name="behind").click()
    expect(page.locator(".details")).to_contain_text("lineups")
    change(api, "behind", status="running")
    expect(page.locator(".badges")).to_contain_text("running")

    assert copied(page, "Copy curl to read") == f"curl '{service.url}/v1/jobs/behind'"
    page.get_by_role("button", name="Submit again").click()
    expect(page.locator("#toast")).to_contain_text("Submitted again as")
    expect(page.locator(".badges")).to_contain_text("pending")

    page.evaluate("sessionStorage.setItem('jobstate-api-key /other/', 'key-of-another-service')")
    with page.expect_request(f"{service.url}/v1/**") as request:
        page.reload()
    assert "authorization" not in request.value.headers, "a key of another service of the host was sent"

    page.get_by_role("link", name="API", exact=True).click()
    expect(page).to_have_url(f"{service.url}/schema")


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
def test_the_api_reference_shows_the_document_and_sends_requests_to_the_right_url(
    new_page: Callable[..., Page], load: LoadUrl, api: httpx.Client, service: SimpleNamespace, path: str
) -> None:
    page = new_page()
    load(page, f"{service.url}{path}")
    expect(page.locator(".servers option")).to_have_text(service.url)
    page.locator("#operations-jobs-listJobs").click()
    with page.expect_response(f"{service.url}/v1/jobs*") as response:
        page.get_by_role("button", name="Execute").click()
    assert response.value.json() == {"items": []}
