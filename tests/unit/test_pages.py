"""The page that shows the API document: all of it from here, and nothing let in from elsewhere."""

import re
from importlib.resources import files

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.app import create_app
from service.settings import Settings

FOREVER = "max-age=31536000, public, immutable"


@pytest.fixture(scope="module")
def client() -> TestClient[Litestar]:
    """The app without its lifespan: nothing here needs the store."""
    return TestClient(create_app(Settings.from_environment({}), "redis://nowhere"))


def assets(client: TestClient[Litestar]) -> list[str]:
    return re.findall(r'(?:src|href)="(/schema/assets/[^"]+)"', client.get("/schema").text)


def test_the_page_loads_only_what_comes_with_the_package(client: TestClient[Litestar]) -> None:
    page = client.get("/schema", headers={"Accept": "text/html,application/xhtml+xml"})

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in page.text
    assert not re.search(r"<script>|<style|style=|\son\w+=", page.text)
    assert len(assets(client)) == 4
    for asset in assets(client):
        found = client.get(asset)
        assert (found.status_code, found.headers["cache-control"]) == (200, FOREVER), asset
        assert found.headers["content-type"] in {"text/css; charset=utf-8", "text/javascript; charset=utf-8"}
        assert len(found.content) > 10


def test_the_policy_lets_nothing_else_in(client: TestClient[Litestar]) -> None:
    policy = client.get("/schema").headers["content-security-policy"]

    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert set(re.findall(r"(?:script|style|connect)-src ([^;]+)", policy)) == {"'self'"}


def test_the_page_and_the_document_are_asked_for_anew(client: TestClient[Litestar]) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        assert client.get(path).headers["cache-control"] == "no-cache"
    document = client.get("/schema/openapi.json", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert document.json()["info"]["title"] == "jobstate"


def test_what_is_not_there_is_a_problem_here_too(client: TestClient[Litestar]) -> None:
    seal = assets(client)[0].rsplit("/", 1)[0]
    for path in ("/schema/redoc", "/schema/nothing.json", "/schema/assets/0/page.js", f"{seal}/LICENSE", f"{seal}/.."):
        missing = client.get(path)
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json"), path


def test_the_files_of_others_come_with_their_licence() -> None:
    room = files("service.api.page") / "swagger_ui"
    assert "Apache License" in (room / "LICENSE").read_text()
    assert "SmartBear" in (room / "NOTICE").read_text()
