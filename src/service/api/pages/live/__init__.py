"""The live page: counts, queues and jobs as they change. Its modules ask the API alone, as any client does."""

from importlib.resources import files
from pathlib import PurePath
from typing import Final

from litestar import MediaType, Response, Router, get

from service.api.pages.assets import ASKED_ANEW, Assets
from service.api.requests import ANSWERS

_ROOM: Final = files(__package__)
_ASSETS: Final = Assets(
    file
    for room in (_ROOM, _ROOM / "uplot")
    for file in sorted(room.iterdir(), key=lambda one: one.name)
    if PurePath(file.name).suffix in {".js", ".css", ".svg"}
)
_HTML: Final = _ASSETS.sealed((_ROOM / "index.html").read_text(encoding="utf-8"))


@get("/", media_type=MediaType.HTML, opt={ANSWERS: (MediaType.HTML.value,)}, sync_to_thread=False)
def live_page() -> Response[bytes]:
    """Return the page; the part of its address after `#` is the view, which the server never sees."""
    return Response(_HTML, media_type=MediaType.HTML)


def router() -> Router:
    """Return where the page and what it loads are served."""
    return Router(
        "/",
        route_handlers=[live_page, _ASSETS.handler("/assets")],
        cache_control=ASKED_ANEW,
        include_in_schema=False,
    )
