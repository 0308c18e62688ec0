"""HEAD for every address that takes GET: the same status and headers, without the body (RFC 9110, section 9.3.2)."""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send, WebSocketReceiveMessage


class HeadRequests:
    """An ASGI application around another that knows no HEAD: it passes HEAD on as GET and drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        """Answer HEAD with the head of what `app` answers to GET."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; end a HEAD request once its status and headers are known."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy: the server and the access log must still see HEAD.
        as_get: Scope = {**scope, "method": "GET"}
        is_answered = False

        async def receive_until_answered() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            # A stream stops when its client disconnects.
            return {"type": "http.disconnect"} if is_answered else await receive()

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] != "http.response.start":
                return
            if "path_template" in as_get:
                scope["path_template"] = as_get["path_template"]
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            is_answered = True

        await self._app(as_get, receive_until_answered, send_head)


def allow(methods: Iterable[str]) -> str:
    """Return the `Allow` header of an address that takes these methods, with HEAD where it takes GET."""
    found = set(methods)
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))
