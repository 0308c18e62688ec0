"""The dashboard: job counts, queues and jobs, updated live. It uses the public API only."""

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
from service.api.auth import PUBLIC
from service.api.request_checks import JSON, PRODUCES
from service.domain.jobs import Job, NewJob
from service.web.assets import NO_CACHE, Assets

_DIR: Final = files(__package__)
_ASSETS: Final = Assets(
    file
    for directory in (_DIR, _DIR / "uplot")
    for file in sorted(directory.iterdir(), key=lambda entry: entry.name)
    if PurePath(file.name).suffix in {".js", ".css", ".svg"}
)
#: Paths of views without `#`. The queues are part of the overview.
_VIEW: Final = re.compile(r"/(?:overview|queues|bulk-actions|jobs(?:/(?P<job_id>[^/]+))?)/?")
_CREATION_FIELDS: Final = " ".join(name for name in NewJob.__struct_fields__ if name in Job.__struct_fields__)
_HTML: Final = _ASSETS.render(
    (_DIR / "index.html").read_text(encoding="utf-8").replace("{creation_fields}", _CREATION_FIELDS)
)


@get("/", media_type=MediaType.HTML, opt={PRODUCES: (MediaType.HTML.value,)}, sync_to_thread=False)
def dashboard_page() -> Response[bytes]:
    """Return the page. Its view is the part of the address after `#`, which browsers do not send."""
    return Response(_HTML, media_type=MediaType.HTML)


def router() -> Router:
    """Return the routes of the page and its files."""
    return Router(
        "/",
        route_handlers=[dashboard_page, _ASSETS.handler("/assets")],
        cache_control=NO_CACHE,
        include_in_schema=False,
        **PUBLIC,
    )


def handle_not_found(request: Request[Any, Any, Any], error: NotFoundException) -> Response[Any]:
    """Redirect a browser from the path of a view to the page. Other clients get the problem."""
    view = _VIEW.fullmatch(_path(request.scope))
    if view is None or request.method != "GET" or not _prefers_html(request.headers.get("accept", "")):
        return problems.handle_http_exception(request, error)
    headers = {"Location": _location(request.scope, view["job_id"]), "Cache-Control": "no-store"}
    request.scope["path_template"] = "/"
    return Response(b"", status_code=302, media_type=MediaType.TEXT, headers=headers)


EXCEPTION_HANDLERS: Final = {**problems.EXCEPTION_HANDLERS, NotFoundException: handle_not_found}


def _path(scope: HTTPScope) -> str:
    return scope["path"].removeprefix(scope.get("root_path", ""))


def _prefers_html(accept: str) -> bool:
    """Return whether an `Accept` header prefers HTML to JSON. `*/*` does not."""
    return Accept(accept).best_match([problems.MEDIA_TYPE, JSON, MediaType.HTML]) == MediaType.HTML


def _location(scope: HTTPScope, job_id: str | None) -> str:
    """Return the URL of a view, relative to the request's, because a proxy may have removed a path prefix."""
    path = _path(scope)
    root = "../" * (path.count("/") - 1) or "./"
    view = next((view for view in ("/jobs", "/bulk-actions") if path.startswith(view)), "/")
    if job_id is not None:
        view += f"/{quote(job_id, safe='')}"
    query = quote(scope["query_string"], safe="!$&'()*+,-./:;=?@_~%")
    return f"{root}#{view}?{query}" if query else f"{root}#{view}"
