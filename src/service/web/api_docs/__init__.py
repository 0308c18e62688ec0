"""The API reference: Swagger UI with the API document, served from this package."""

from importlib.resources import files
from typing import Any, Final

from litestar import MediaType, Request, Router
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin

from service.api.auth import PUBLIC
from service.web.assets import NO_CACHE, Assets

_DIR: Final = files(__package__)
_VENDORED: Final = _DIR / "swagger_ui"
_ASSETS: Final = Assets(
    (_DIR / "page.js", _DIR / "page.css", _VENDORED / "swagger-ui-bundle.js", _VENDORED / "swagger-ui.css")
)
_HTML: Final = (_DIR / "page.html").read_text(encoding="utf-8")
#: One page for `/schema` and one for `/schema/`: relative URLs work behind a path prefix.
_WITHOUT_SLASH: Final = _ASSETS.render(_HTML.replace("{schema}", "schema/"))
_WITH_SLASH: Final = _ASSETS.render(_HTML.replace("{schema}", ""))


class Page(OpenAPIRenderPlugin):
    """The HTML page. Its files are served under `assets/`."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the HTML."""
        return _WITH_SLASH if request.scope["raw_path"].endswith(b"/") else _WITHOUT_SLASH


async def reject_unknown_path(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Raise `NotFoundException` for an unknown path: a problem, where Litestar's own 404 page would be HTML."""
    if "path" in connection.path_params:
        raise NotFoundException


def router() -> Router:
    """Return the routes of the API document and its page."""
    return Router(
        "/schema",
        route_handlers=[_ASSETS.handler("/assets")],
        guards=[reject_unknown_path],
        cache_control=NO_CACHE,
        include_in_schema=False,
        **PUBLIC,
    )
