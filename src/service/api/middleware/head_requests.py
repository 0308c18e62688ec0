"""HEAD for every path that allows GET: the same status and headers without the body (RFC 9110, section 9.3.2)."""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send, WebSocketReceiveMessage


def answer_head(app: ASGIApp) -> ASGIApp:
    """Return `app` such that it gets HEAD as GET, and its response ends after the headers; Litestar routes no HEAD."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        # A copy: the server and the access log must still see HEAD.
        as_get: Scope = {**scope, "method": "GET"}
        is_complete = False

        async def receive_wrapper() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            # Ends a stream, which runs until its client disconnects.
            return {"type": "http.disconnect"} if is_complete else await receive()

        async def send_wrapper(message: Message) -> None:
            nonlocal is_complete
            if message["type"] != "http.response.start":
                return
            if "path_template" in as_get:
                scope["path_template"] = as_get["path_template"]
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            is_complete = True

        await app(as_get, receive_wrapper, send_wrapper)

    return handle


def allow(methods: Iterable[str]) -> str:
    """Return the `Allow` header of a path with these methods; HEAD comes with GET."""
    names = set(methods)
    return ", ".join(sorted(names | {"HEAD"} if "GET" in names else names))
