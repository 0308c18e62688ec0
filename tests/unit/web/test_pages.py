"""The live page and the API document's: all of them from here, and nothing let in from elsewhere."""

import re
from importlib.resources import files

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.app import create_app
from service.server.security_headers import CONTENT_SECURITY_POLICY
from service.settings import Settings
from service.web.assets import accepts_gzip

FOREVER = "max-age=31536000, public, immutable"
#: What Chrome sends when it opens an address.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
TYPES = {"text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"}

every_page = pytest.mark.parametrize("path", ["/", "/schema"])


@pytest.fixture(scope="module")
def client() -> TestClient[Litestar]:
    """The app without its lifespan: nothing here needs the store."""
    return TestClient(create_app(Settings.from_environment({}), "redis://nowhere"))


def assets(client: TestClient[Litestar], path: str) -> list[str]:
    """The addresses of what a page loads."""
    found = re.findall(r'(?:src|href)="(/?(?:schema/)?assets/[^"]+)"', client.get(path).text)
    return [f"/{one.removeprefix('/')}" for one in found]


@every_page
def test_a_page_loads_only_what_comes_with_the_package(client: TestClient[Litestar], path: str) -> None:
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml"})

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in page.text
    assert not re.search(r"<script>|<style|style=|\son\w+=", page.text)
    assert len(assets(client, path)) >= 4
    for asset in assets(client, path):
        found = client.get(asset)
        assert (found.status_code, found.headers["cache-control"]) == (200, FOREVER), asset
        assert found.headers["content-type"] in TYPES, asset
        assert len(found.content) > 10


def test_the_policy_lets_nothing_else_in() -> None:
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert set(re.findall(r"(?:script|style|connect)-src ([^;]+)", CONTENT_SECURITY_POLICY)) == {"'self'"}
    assert set(re.findall(r"(?:base-uri|form-action|frame-ancestors) ([^;]+)", CONTENT_SECURITY_POLICY)) == {"'none'"}


@every_page
def test_assets_are_compressed_for_whom_that_suits(client: TestClient[Litestar], path: str) -> None:
    asset = next(one for one in assets(client, path) if one.endswith(".css"))
    plain = client.get(asset, headers={"Accept-Encoding": "identity"})
    small = client.get(asset, headers={"Accept-Encoding": "br, gzip;q=0.5"})

    assert ("content-encoding" in plain.headers, small.headers["content-encoding"]) == (False, "gzip")
    assert plain.content == small.content
    assert plain.headers["vary"] == small.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("br, GZIP ; q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_whom_it_is_welcome(accepted: str, takes: bool) -> None:
    assert accepts_gzip(accepted) is takes


def test_the_page_and_the_document_are_asked_for_anew(client: TestClient[Litestar]) -> None:
    for path in ("/", "/schema", "/schema/openapi.json"):
        assert client.get(path).headers["cache-control"] == "no-cache"
    document = client.get("/schema/openapi.json", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert document.json()["info"]["title"] == "jobstate"


def test_what_is_not_there_is_a_problem_here_too(client: TestClient[Litestar]) -> None:
    seal = assets(client, "/schema")[0].rsplit("/", 1)[0]
    live = assets(client, "/")[0].rsplit("/", 1)[0]
    missing = (
        *("/schema/redoc", "/schema/nothing.json", "/schema/assets/0/page.js", f"{seal}/LICENSE", f"{seal}/.."),
        *("/jobs", "/assets", "/assets/0/app.js", f"{live}/index.html", f"{live}/__init__.py", f"{live}/LICENSE"),
    )
    for path in missing:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path


def test_the_live_page_takes_requests_as_the_api_does(client: TestClient[Litestar]) -> None:
    assert client.post("/").json()["type"].endswith("method-not-allowed")
    assert client.get("/", headers={"Accept": "application/json"}).json()["type"].endswith("not-acceptable")
    assert client.options("/").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/", "/health", "/schema", "/schema/openapi.json"])
@pytest.mark.parametrize("query", ["utm_source=mail", "a=1&a=2", "a=%ff", "a"])
def test_outside_of_the_api_unknown_query_parameters_are_ignored(
    client: TestClient[Litestar], path: str, query: str
) -> None:
    assert client.get(f"{path}?{query}").content == client.get(path).content
    assert client.get(f"{assets(client, '/')[0]}?{query}").status_code == 200


@pytest.mark.parametrize(
    ("address", "view"),
    [
        ("/jobs", "./#/jobs"),
        ("/jobs/", "../#/jobs"),
        ("/jobs/sunday", "../#/jobs/sunday"),
        ("/jobs/sunday/", "../../#/jobs/sunday"),
        ("/jobs/a%20b%0d%0aX:1%23", "../#/jobs/a%20b%0D%0AX%3A1%23"),
        ("/jobs?status=failed&slate_id=a%26b", "./#/jobs?status=failed&slate_id=a%26b"),
        ("/queues", "./#/"),
        ("/overview?stretch=1h", "./#/?stretch=1h"),
    ],
)
def test_a_browser_is_redirected_from_a_view_to_the_page(client: TestClient[Litestar], address: str, view: str) -> None:
    answer = client.get(address, headers={"Accept": BROWSER}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, view, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(address, headers={"Accept": BROWSER}).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/plain, */*", "text/html;q=0, */*", ""])
def test_other_clients_get_a_problem_at_the_address_of_a_view(client: TestClient[Litestar], accept: str) -> None:
    for path in ("/jobs", "/jobs/sunday", "/queues"):
        answer = client.get(path, headers={"Accept": accept}, follow_redirects=False)
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, "unknown-route")


def test_what_is_no_view_is_a_problem_for_browsers_too(client: TestClient[Litestar]) -> None:
    for path in ("/job", "/jobs/a/b", "/queues/a", "/v1/nothing", "/schema/jobs"):
        assert client.get(path, headers={"Accept": BROWSER}, follow_redirects=False).status_code == 404, path
    assert client.post("/jobs", headers={"Accept": BROWSER}, follow_redirects=False).status_code == 404


def test_the_live_page_is_no_part_of_the_document(client: TestClient[Litestar]) -> None:
    assert not {"/", "/assets"} & set(client.get("/schema/openapi.json").json()["paths"])


def test_the_files_of_others_come_with_their_licence() -> None:
    pages = files("service.web")
    assert "Apache License" in (pages / "api_docs" / "swagger_ui" / "LICENSE").read_text()
    assert "SmartBear" in (pages / "api_docs" / "swagger_ui" / "NOTICE").read_text()
    assert "MIT License" in (pages / "dashboard" / "uplot" / "LICENSE").read_text()
