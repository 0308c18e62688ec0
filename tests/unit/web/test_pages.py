"""The dashboard and the API reference: both load only the package's own files."""

import re
from importlib.resources import files

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.app import create_app
from service.server.security_headers import CONTENT_SECURITY_POLICY
from service.settings import Settings
from service.web.assets import accepts_gzip

IMMUTABLE = "max-age=31536000, public, immutable"
#: The `Accept` header that Chrome sends for a page.
BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
MEDIA_TYPES = {"text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"}

every_page = pytest.mark.parametrize("path", ["/", "/schema"])


@pytest.fixture(scope="module")
def client() -> TestClient[Litestar]:
    """A client of the app without its lifespan, and so without Redis."""
    return TestClient(create_app(Settings.from_environment({}), "redis://nowhere"))


def assets(client: TestClient[Litestar], path: str) -> list[str]:
    """Return the paths of the files that a page loads."""
    urls = re.findall(r'(?:src|href)="(/?(?:schema/)?assets/[^"]+)"', client.get(path).text)
    return [f"/{url.removeprefix('/')}" for url in urls]


@every_page
def test_a_page_loads_only_files_of_the_package(client: TestClient[Litestar], path: str) -> None:
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml"})

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in page.text
    assert not re.search(r"<script>|<style|style=|\son\w+=", page.text)
    assert len(assets(client, path)) >= 4
    for asset in assets(client, path):
        response = client.get(asset)
        assert (response.status_code, response.headers["cache-control"]) == (200, IMMUTABLE), asset
        assert response.headers["content-type"] in MEDIA_TYPES, asset
        assert len(response.content) > 10


def test_the_content_security_policy_allows_only_the_service_itself() -> None:
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert set(re.findall(r"(?:script|style|connect)-src ([^;]+)", CONTENT_SECURITY_POLICY)) == {"'self'"}
    assert set(re.findall(r"(?:base-uri|form-action|frame-ancestors) ([^;]+)", CONTENT_SECURITY_POLICY)) == {"'none'"}


@every_page
def test_assets_are_compressed_if_the_client_accepts_gzip(client: TestClient[Litestar], path: str) -> None:
    asset = next(url for url in assets(client, path) if url.endswith(".css"))
    plain = client.get(asset, headers={"Accept-Encoding": "identity"})
    compressed = client.get(asset, headers={"Accept-Encoding": "br, gzip;q=0.5"})

    assert ("content-encoding" in plain.headers, compressed.headers["content-encoding"]) == (False, "gzip")
    assert plain.content == compressed.content
    assert plain.headers["vary"] == compressed.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("gzip", True),
        ("br, GZIP ; q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_accept_encoding_is_parsed(header: str, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts


def test_pages_and_the_api_document_are_revalidated(client: TestClient[Litestar]) -> None:
    for path in ("/", "/schema", "/schema/openapi.json"):
        assert client.get(path).headers["cache-control"] == "no-cache"
    document = client.get("/schema/openapi.json", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert document.json()["info"]["title"] == "jobstate"


def test_an_unknown_path_is_a_problem(client: TestClient[Litestar]) -> None:
    api_docs = assets(client, "/schema")[0].rsplit("/", 1)[0]
    dashboard = assets(client, "/")[0].rsplit("/", 1)[0]
    missing = (
        *("/schema/redoc", "/schema/nothing.json", "/schema/assets/0/page.js", f"{api_docs}/LICENSE", f"{api_docs}/.."),
        *(
            "/jobs",
            "/assets",
            "/assets/0/app.js",
            f"{dashboard}/index.html",
            f"{dashboard}/__init__.py",
            f"{dashboard}/LICENSE",
        ),
    )
    for path in missing:
        response = client.get(path)
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json"), path


def test_requests_for_the_dashboard_are_validated(client: TestClient[Litestar]) -> None:
    assert client.post("/").json()["type"].endswith("method-not-allowed")
    assert client.get("/", headers={"Accept": "application/json"}).json()["type"].endswith("not-acceptable")
    assert client.options("/").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/", "/health", "/schema", "/schema/openapi.json"])
@pytest.mark.parametrize("query", ["utm_source=mail", "a=1&a=2", "a=%ff", "a"])
def test_unknown_query_parameters_are_ignored_outside_the_api(
    client: TestClient[Litestar], path: str, query: str
) -> None:
    assert client.get(f"{path}?{query}").content == client.get(path).content
    assert client.get(f"{assets(client, '/')[0]}?{query}").status_code == 200


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/jobs", "./#/jobs"),
        ("/jobs/", "../#/jobs"),
        ("/jobs/sunday", "../#/jobs/sunday"),
        ("/jobs/sunday/", "../../#/jobs/sunday"),
        ("/jobs/a%20b%0d%0aX:1%23", "../#/jobs/a%20b%0D%0AX%3A1%23"),
        ("/jobs?status=failed&slate_id=a%26b", "./#/jobs?status=failed&slate_id=a%26b"),
        ("/queues", "./#/"),
        ("/bulk-actions", "./#/bulk-actions"),
        ("/overview?range=1h", "./#/?range=1h"),
    ],
)
def test_a_browser_is_redirected_from_the_path_of_a_view(
    client: TestClient[Litestar], path: str, location: str
) -> None:
    response = client.get(path, headers={"Accept": BROWSER_ACCEPT}, follow_redirects=False)
    assert (response.status_code, response.headers["location"], response.content) == (302, location, b"")
    assert response.headers["cache-control"] == "no-store"
    assert client.get(path, headers={"Accept": BROWSER_ACCEPT}).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/plain, */*", "text/html;q=0, */*", ""])
def test_other_clients_get_a_problem_at_the_path_of_a_view(client: TestClient[Litestar], accept: str) -> None:
    for path in ("/jobs", "/jobs/sunday", "/queues"):
        response = client.get(path, headers={"Accept": accept}, follow_redirects=False)
        assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (404, "unknown-route")


def test_browsers_get_a_problem_for_other_paths(client: TestClient[Litestar]) -> None:
    for path in ("/job", "/jobs/a/b", "/queues/a", "/v1/nothing", "/schema/jobs"):
        assert client.get(path, headers={"Accept": BROWSER_ACCEPT}, follow_redirects=False).status_code == 404, path
    assert client.post("/jobs", headers={"Accept": BROWSER_ACCEPT}, follow_redirects=False).status_code == 404


def test_the_dashboard_is_not_in_the_api_document(client: TestClient[Litestar]) -> None:
    assert not {"/", "/assets"} & set(client.get("/schema/openapi.json").json()["paths"])


def test_vendored_files_have_their_licence() -> None:
    web = files("service.web")
    assert "Apache License" in (web / "api_docs" / "swagger_ui" / "LICENSE").read_text()
    assert "SmartBear" in (web / "api_docs" / "swagger_ui" / "NOTICE").read_text()
    assert "MIT License" in (web / "dashboard" / "uplot" / "LICENSE").read_text()
