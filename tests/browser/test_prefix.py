"""Behind a proxy that removes a path prefix, and of which the service knows nothing: both pages work all the same."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Load, Open, change, create
from tests.browser.test_job import CLIPBOARD, copied
from tests.helpers.nginx import BLOCKS, documented_block, nginx
from tests.helpers.service_process import Service

PREFIXED = "nginx under a prefix"


@pytest.fixture(scope="module")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Where the pages are: all that `open_view`, `api` and `complaints` need of a service."""
    with (
        Service(tmp_path_factory.mktemp("service"), REDIS_URL=redis_url, SHUTDOWN_DRAIN_SECONDS="0") as service,
        nginx(tmp_path_factory.mktemp("nginx"), documented_block(PREFIXED), service.url) as origin,
    ):
        yield SimpleNamespace(url=origin + BLOCKS[PREFIXED])


def test_the_live_page_shows_changes_makes_changes_and_gives_addresses(
    open_view: Open, api: httpx.Client, service: SimpleNamespace
) -> None:
    page = open_view("#/jobs", **CLIPBOARD)
    create(api, job_id="behind", queue="lineups")
    page.get_by_role("link", name="behind").click()
    expect(page.locator(".facts")).to_contain_text("lineups")
    change(api, "behind", status="running")
    expect(page.locator(".badges")).to_contain_text("running")

    assert copied(page, "Copy curl to read") == f"curl '{service.url}/v1/jobs/behind'"
    page.get_by_role("button", name="Submit again").click()
    expect(page.locator("#notice")).to_contain_text("Submitted again as")
    expect(page.locator(".badges")).to_contain_text("pending")

    page.evaluate("sessionStorage.setItem('jobstate-api-key /other/', 'key-of-another-service')")
    with page.expect_request(f"{service.url}/v1/**") as asked:
        page.reload()
    assert "authorization" not in asked.value.headers, "other services of the same host have keys of their own"

    page.get_by_role("link", name="API", exact=True).click()
    expect(page).to_have_url(f"{service.url}/schema")


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
def test_the_api_documents_page_shows_the_document_and_tries_it_at_the_right_address(
    new_page: Callable[..., Page], load: Load, api: httpx.Client, service: SimpleNamespace, path: str
) -> None:
    page = new_page()
    load(page, f"{service.url}{path}")
    expect(page.locator(".servers option")).to_have_text(service.url)
    page.locator("#operations-jobs-listJobs").click()
    with page.expect_response(f"{service.url}/v1/jobs*") as answered:
        page.get_by_role("button", name="Execute").click()
    assert answered.value.json() == {"items": []}
