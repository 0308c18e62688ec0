"""The live page: counts, queues and jobs as they change. Its modules ask the API alone, as any client does."""

import re
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures.headers import Accept
from litestar.exceptions import NotFoundException
from litestar.types import HTTPScope

from service.api import problems
from service.api.request_checks import JSON, PRODUCES
from service.web.assets import NO_CACHE, Assets

_DIR: Final = files(__package__)
_ASSETS: Final = Assets(
    file
    for room in (_DIR, _DIR / "uplot")
    for file in sorted(room.iterdir(), key=lambda one: one.name)
    if PurePath(file.name).suffix in {".js", ".css", ".svg"}
)
#: The page's views as addresses without `#`: the overview, which has the queues, the list of jobs, and a job.
_VIEW: Final = re.compile(r"/(?:overview|queues|jobs(?:/(?P<job_id>[^/]+))?)/?")
_HTML: Final = _ASSETS.render((_DIR / "index.html").read_text(encoding="utf-8"))


@get("/", media_type=MediaType.HTML, opt={PRODUCES: (MediaType.HTML.value,)}, sync_to_thread=False)
def dashboard_page() -> Response[bytes]:
    """Return the page; the part of its address after `#` is the view, which the server never sees."""
    return Response(_HTML, media_type=MediaType.HTML)


def router() -> Router:
    """Return where the page and what it loads are served."""
    return Router(
        "/",
        route_handlers=[dashboard_page, _ASSETS.handler("/assets")],
        cache_control=NO_CACHE,
        include_in_schema=False,
    )


def answer_unknown_route(request: Request[Any, Any, Any], error: NotFoundException) -> Response[Any]:
    """Redirect a browser that asks for a view of the page without its `#`; answer all others with the problem."""
    view = _VIEW.fullmatch(_path(request.scope))
    if view is None or request.method != "GET" or not _prefers_html(request.headers.get("accept", "")):
        return problems.handle_http_exception(request, error)
    headers = {"Location": _location(request.scope, view["job_id"]), "Cache-Control": "no-store"}
    request.scope["path_template"] = "/"
    return Response(b"", status_code=302, media_type=MediaType.TEXT, headers=headers)


EXCEPTION_HANDLERS: Final = {**problems.EXCEPTION_HANDLERS, NotFoundException: answer_unknown_route}


def _path(scope: HTTPScope) -> str:
    return scope["path"].removeprefix(scope.get("root_path", ""))


def _prefers_html(accepted: str) -> bool:
    """Say whether a client names HTML before JSON; `*/*` names neither."""
    return Accept(accepted).best_match([problems.MEDIA_TYPE, JSON, MediaType.HTML]) == MediaType.HTML


def _location(scope: HTTPScope, job_id: str | None) -> str:
    """Return the address of a view, relative to the one asked for, since a proxy may have taken a prefix away."""
    path = _path(scope)
    root = "../" * (path.count("/") - 1) or "./"
    view = "/jobs" if path.startswith("/jobs") else "/"
    if job_id is not None:
        view += f"/{quote(job_id, safe='')}"
    query = quote(scope["query_string"], safe="!$&'()*+,-./:;=?@_~%")
    return f"{root}#{view}?{query}" if query else f"{root}#{view}"
