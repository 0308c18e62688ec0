"""The page that shows the API document: Swagger UI, all of it from this package."""

from importlib.resources import files
from typing import Any, Final

from litestar import MediaType, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin

from service.api.request_checks import validate_request
from service.web.assets import NO_CACHE, Assets

_DIR: Final = files(__package__)
_VENDORED: Final = _DIR / "swagger_ui"
_ASSETS: Final = Assets(
    (_DIR / "page.js", _DIR / "page.css", _VENDORED / "swagger-ui-bundle.js", _VENDORED / "swagger-ui.css")
)
_HTML: Final = (_DIR / "page.html").read_text(encoding="utf-8")
#: Its addresses are relative, so that they hold behind a path prefix: one for `/schema`, one for `/schema/`.
_BESIDE: Final = _ASSETS.render(_HTML.replace("{schema}", "schema/"))
_INSIDE: Final = _ASSETS.render(_HTML.replace("{schema}", ""))


class Page(OpenAPIRenderPlugin):
    """The page itself; what it loads is beside it under `assets/`."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the HTML."""
        return _INSIDE if request.scope["raw_path"].endswith(b"/") else _BESIDE


async def check_page(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Check as everywhere; Litestar's own answer to an unknown address here would be HTML."""
    if "path" in request.path_params:
        raise NotFoundException
    return await validate_request(request)


def router() -> Router:
    """Return where the document and its page are served."""
    return Router(
        "/schema",
        route_handlers=[_ASSETS.handler("/assets")],
        before_request=check_page,
        cache_control=NO_CACHE,
        include_in_schema=False,
    )
