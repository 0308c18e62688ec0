"""One Chromium and one service for all tests of the page; each on an empty database, in a context of its own."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.helpers.redis_servers import Backend, RedisServer
from tests.helpers.service_process import Service

#: As a phone, or a desk's screen.
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
PATIENCE = 10_000

expect.set_options(timeout=PATIENCE)

Open = Callable[..., Page]
Load = Callable[[Page, str], None]


@dataclass
class Complaints:
    """What a page should never give cause for; a test that provokes a refusal says so in `foreseen`."""

    origin: str
    foreseen: set[int] = field(default_factory=set)
    #: Whether Chromium dropped what it was loading because a network interface came or went on this machine.
    network_changed: bool = False
    found: list[str] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("requestfailed", lambda request: self._failed(request.failure))
        page.on("request", lambda request: self._asked(request.url))
        page.on("response", lambda response: self.answers.append((response.status, response.url)))

    def _said(self, kind: str, text: str) -> None:
        # What the network says in the console is looked at as answers.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.found.append(f"{kind}: {text}")

    def _failed(self, why: str | None) -> None:
        self.network_changed |= why == "net::ERR_NETWORK_CHANGED"

    def _asked(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.found.append(f"a request elsewhere: {url}")

    def all(self) -> list[str]:
        refused = [f"{status} {url}" for status, url in self.answers if status >= 400 and status not in self.foreseen]
        return self.found + refused


# Playwright's loop must be gone before tests of other folders run theirs, so nothing here lives for the whole session.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # In a container there is neither a sandbox nor much shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
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
    """A client of the service, on an empty database."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with httpx.Client(base_url=service.url, timeout=10) as http:
        yield http


@pytest.fixture
def complaints(service: Service) -> Iterator[Complaints]:
    complaints = Complaints(service.url)
    yield complaints
    assert complaints.all() == []


@pytest.fixture
def new_page(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """Make pages, each in a context with options of its own, such as a colour scheme."""
    contexts: list[BrowserContext] = []

    def make(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        complaints.listen(page)
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def load(complaints: Complaints) -> Load:
    """Load an address in a page; again, where containers that others start have kept Chromium from it."""

    def load_it(page: Page, address: str) -> None:
        for _ in range(3):
            complaints.network_changed = False
            page.goto(address)
            if not complaints.network_changed:
                return
            page.goto("about:blank")
        pytest.fail("the machine's network does not keep still")

    return load_it


@pytest.fixture
def open_view(new_page: Callable[..., Page], load: Load, service: Service, api: httpx.Client) -> Open:
    """Open a view such as `#/jobs`, and wait until it hears of what happens."""

    def open_it(view: str = "#/", **options: Any) -> Page:
        page = new_page(**options)
        # The list says what happens from this answer on; `/ready` alone makes it "Live".
        with page.expect_response("**/v1/events?*") if view == "#/jobs" else nullcontext():
            load(page, f"{service.url}/{view}")
        expect(page.locator("#pulse")).to_have_text("Live")
        expect(page.locator("main h1")).to_be_visible()
        return page

    return open_it


def create(api: httpx.Client, **fields: Any) -> str:
    """Create a job and return its id."""
    created = api.post("/v1/jobs", json={"input_params": {}, **fields})
    created.raise_for_status()
    return str(created.json()["job_id"])


def claim(api: httpx.Client, queue: str = "default", worker: str = "worker-1", seconds: int = 300) -> dict[str, str]:
    """Claim the oldest job of a queue and return the header that its worker sends."""
    taken = api.post("/v1/claims", json={"queues": [queue], "worker": worker, "lease_seconds": seconds})
    assert taken.status_code == 200
    return {"Lease-Token": taken.json()["lease"]["token"]}


def change(api: httpx.Client, job_id: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
    api.patch(f"/v1/jobs/{job_id}", json=fields, headers=headers).raise_for_status()


def run(api: httpx.Client, job_id: str, **fields: Any) -> None:
    """Take a job through its life: running, then what the fields say."""
    change(api, job_id, status="running")
    change(api, job_id, **fields)
