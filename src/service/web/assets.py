"""The static files that a page loads."""

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

#: For a page itself, because it names the assets of one release.
NO_CACHE: Final = CacheControlHeader(no_cache=True)

_IMMUTABLE: Final = CacheControlHeader(public=True, max_age=31536000, immutable=True)
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Assets:
    """Files whose URLs contain a digest of their content, so that they can be cached without a limit."""

    def __init__(self, assets: Iterable[Traversable]) -> None:
        """Read the files. Their names must differ, because their URLs have no folders."""
        self._files = {file.name: file.read_bytes() for file in assets}
        self.digest: Final = sha256(b"".join(self._files.values())).hexdigest()[:12]

    def render(self, html: str) -> bytes:
        """Return a page's HTML with the digest in place of `{digest}`."""
        return html.replace("{digest}", self.digest).encode()

    def handler(self, path: str) -> HTTPRouteHandler:
        """Return the handler that serves the files under `path`, with gzip where the client accepts it."""
        files = self._files

        @cache
        def compressed(name: str) -> bytes:
            return gzip.compress(files[name], mtime=0)

        @get(
            f"{path}/{self.digest}/{{name:str}}",
            cache_control=_IMMUTABLE,
            response_headers=[ResponseHeader(name="Vary", value="Accept-Encoding")],
            opt={PRODUCES: tuple(_MEDIA_TYPES.values())},
            sync_to_thread=True,
        )
        def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
            """Return a file, or 404."""
            if name not in files:
                raise NotFoundException
            media_type = _MEDIA_TYPES[PurePath(name).suffix]
            if accepts_gzip(request.headers.get("accept-encoding", "")):
                return Response(compressed(name), media_type=media_type, headers={"Content-Encoding": "gzip"})
            return Response(files[name], media_type=media_type)

        return asset


def accepts_gzip(header: str) -> bool:
    """Return whether an `Accept-Encoding` header lists gzip with a quality above 0."""
    for entry in header.lower().split(","):
        coding, _, quality = entry.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return quality.strip("0.") != "" or quality == ""
    return False
