"""One Chromium and one service for all browser tests. Each test has an empty database and its own browser context."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.helpers import chromium
from tests.helpers.deployments import sync_client
from tests.helpers.redis_servers import Backend, RedisServer
from tests.helpers.service_process import Service

#: Viewports.
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
TIMEOUT_MS = 10_000

expect.set_options(timeout=TIMEOUT_MS)

OpenView = Callable[..., Page]
LoadUrl = Callable[[Page, str], None]


@dataclass
class PageErrors:
    """Collects what pages must not cause: script errors, requests to other hosts, unexpected error responses."""

    origin: str
    #: Error statuses that the test provokes.
    expected: set[int] = field(default_factory=set)
    #: Whether Chromium aborted a request because a network interface of this machine appeared or disappeared.
    network_changed: bool = False
    errors: list[str] = field(default_factory=list)
    responses: list[tuple[int, str]] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("requestfailed", lambda request: self._on_request_failed(request.failure))
        page.on("request", lambda request: self._on_request(request.url))
        page.on("response", lambda response: self.responses.append((response.status, response.url)))

    def _on_console(self, kind: str, text: str) -> None:
        # Failed requests are checked as responses.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.errors.append(f"{kind}: {text}")

    def _on_request_failed(self, failure: str | None) -> None:
        self.network_changed |= failure == "net::ERR_NETWORK_CHANGED"

    def _on_request(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.errors.append(f"request to another host: {url}")

    def all(self) -> list[str]:
        failed = [f"{status} {url}" for status, url in self.responses if status >= 400 and status not in self.expected]
        return self.errors + failed


# Playwright's event loop must end before other folders' tests run theirs. So no fixture here has the session's scope.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A container has no sandbox and little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium.program(), args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def redis_server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = backend.redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.remove()


@pytest.fixture(scope="package")
def redis_url(redis_server: RedisServer) -> str:
    return f"redis://127.0.0.1:{redis_server.port}/0"


@pytest.fixture(scope="package")
def service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, REDIS_URL=redis_url, SHUTDOWN_DRAIN_SECONDS="0", LOG_LEVEL="warning") as service:
        yield service


@pytest.fixture
def api(service: Service, redis_url: str) -> Iterator[httpx.Client]:
    """Return a client of the service. The database is empty."""
    with sync_client(redis_url) as client:
        client.flushdb()
    with httpx.Client(base_url=service.url, timeout=10) as http:
        yield http


@pytest.fixture
def page_errors(service: Service) -> Iterator[PageErrors]:
    page_errors = PageErrors(service.url)
    yield page_errors
    assert page_errors.all() == []


@pytest.fixture
def new_page(browser: Browser, page_errors: PageErrors) -> Iterator[Callable[..., Page]]:
    """Return a function that makes a page in its own context. Its options are those of the context."""
    contexts: list[BrowserContext] = []

    def make_page(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        page_errors.listen(page)
        return page

    yield make_page
    for context in contexts:
        context.close()


@pytest.fixture
def load(page_errors: PageErrors) -> LoadUrl:
    """Return a function that loads a URL. It repeats a load that a change of network interfaces has aborted."""

    def load_url(page: Page, url: str) -> None:
        for _ in range(3):
            page_errors.network_changed = False
            page.goto(url)
            if not page_errors.network_changed:
                return
            page.goto("about:blank")
        pytest.fail("the machine's network interfaces keep changing")

    return load_url


@pytest.fixture
def open_view(new_page: Callable[..., Page], load: LoadUrl, service: Service, api: httpx.Client) -> OpenView:
    """Return a function that opens a view such as `#/jobs` and waits until it receives events."""

    def open_page(view: str = "#/", **options: Any) -> Page:
        page = new_page(**options)
        # The list is current from this response on. The status "Live" depends on `/ready` alone.
        with page.expect_response("**/v1/events?*") if view == "#/jobs" else nullcontext():
            load(page, f"{service.url}/{view}")
        expect(page.locator("#connection-status")).to_have_text("Live")
        expect(page.locator("main h1")).to_be_visible()
        return page

    return open_page


def create(api: httpx.Client, **fields: Any) -> str:
    """Create a job and return its id."""
    response = api.post("/v1/jobs", json={"input_params": {}, **fields})
    response.raise_for_status()
    return str(response.json()["job_id"])


def claim(api: httpx.Client, queue: str = "default", worker: str = "worker-1", seconds: int = 300) -> dict[str, str]:
    """Claim the oldest job of a queue and return its `Lease-Token` header."""
    response = api.post("/v1/claims", json={"queues": [queue], "worker": worker, "lease_seconds": seconds})
    assert response.status_code == 200
    return {"Lease-Token": response.json()["lease"]["token"]}


def change(api: httpx.Client, job_id: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
    api.patch(f"/v1/jobs/{job_id}", json=fields, headers=headers).raise_for_status()


def run(api: httpx.Client, job_id: str, **fields: Any) -> None:
    """Set a job to running, then change these fields."""
    change(api, job_id, status="running")
    change(api, job_id, **fields)
