"""The page that shows the API document: Swagger UI, all of it from this package."""

from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final

from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath

from service.api.requests import check

#: What the page may load and do: nothing from elsewhere, no script or style but those of its own files.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_ROOM: Final = files(__package__)
_ASSETS: Final = {
    "page.js": (_ROOM / "page.js").read_bytes(),
    "page.css": (_ROOM / "page.css").read_bytes(),
    "swagger-ui-bundle.js": (_ROOM / "swagger_ui" / "swagger-ui-bundle.js").read_bytes(),
    "swagger-ui.css": (_ROOM / "swagger_ui" / "swagger-ui.css").read_bytes(),
}
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
#: It is in the addresses of the assets, so that they may be cached for ever.
_SEAL: Final = sha256(b"".join(_ASSETS.values())).hexdigest()[:12]
_HTML: Final = (_ROOM / "page.html").read_text().replace("{seal}", _SEAL).encode()


class Page(OpenAPIRenderPlugin):
    """The page itself; what it loads is beside it under `assets/`."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the HTML."""
        return _HTML


@get(
    f"/assets/{_SEAL}/{{name:str}}",
    cache_control=CacheControlHeader(public=True, max_age=31536000, immutable=True),
    sync_to_thread=False,
)
def asset(name: FromPath[str]) -> Response[bytes]:
    """Return a file that the page loads."""
    if name not in _ASSETS:
        raise NotFoundException
    return Response(_ASSETS[name], media_type=_MEDIA_TYPES[PurePath(name).suffix])


async def check_page(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Check as everywhere; Litestar's own answer to an unknown address here would be HTML."""
    if "path" in request.path_params:
        raise NotFoundException
    return await check(request)


def router() -> Router:
    """Return where the document and its page are served."""
    return Router(
        "/schema",
        route_handlers=[asset],
        before_request=check_page,
        cache_control=CacheControlHeader(no_cache=True),
        response_headers=[
            ResponseHeader(name="Content-Security-Policy", value=POLICY),
            ResponseHeader(name="X-Content-Type-Options", value="nosniff"),
            ResponseHeader(name="Referrer-Policy", value="no-referrer"),
        ],
        include_in_schema=False,
    )
