"""The files that a page loads."""

import gzip
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Any, Final

from litestar import Request, Response, get
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from service.api.request_checks import PRODUCES

#: Of a page itself: it names the assets of one release.
NO_CACHE: Final = CacheControlHeader(no_cache=True)

_IMMUTABLE: Final = CacheControlHeader(public=True, max_age=31536000, immutable=True)
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Assets:
    """Files under addresses that have a digest of them all, the seal: so they may be cached for ever."""

    def __init__(self, found: Iterable[Traversable]) -> None:
        """Read the files; their names are what tells them apart."""
        self._files = {file.name: file.read_bytes() for file in found}
        self.seal: Final = sha256(b"".join(self._files.values())).hexdigest()[:12]

    def render(self, html: str) -> bytes:
        """Return a page whose `{seal}` stands for the seal."""
        return html.replace("{seal}", self.seal).encode()

    def handler(self, path: str) -> HTTPRouteHandler:
        """Return what serves the files under `path`, compressed for whom that suits."""
        files = self._files

        @cache
        def compressed(name: str) -> bytes:
            return gzip.compress(files[name], mtime=0)

        @get(
            f"{path}/{self.seal}/{{name:str}}",
            cache_control=_IMMUTABLE,
            response_headers=[ResponseHeader(name="Vary", value="Accept-Encoding")],
            opt={PRODUCES: tuple(_MEDIA_TYPES.values())},
            sync_to_thread=True,
        )
        def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
            """Return a file that the page loads."""
            if name not in files:
                raise NotFoundException
            media_type = _MEDIA_TYPES[PurePath(name).suffix]
            if accepts_gzip(request.headers.get("accept-encoding", "")):
                return Response(compressed(name), media_type=media_type, headers={"Content-Encoding": "gzip"})
            return Response(files[name], media_type=media_type)

        return asset


def accepts_gzip(accepted: str) -> bool:
    """Say whether an `Accept-Encoding` names gzip, and does not refuse it."""
    for one in accepted.lower().split(","):
        coding, _, quality = one.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return quality.strip("0.") != "" or quality == ""
    return False
