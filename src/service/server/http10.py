"""Responses to HTTP/1.0 clients, which cannot read chunks (RFC 9112, section 6.1)."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send


def unchunked(app: ASGIApp, cycle: Any) -> ASGIApp:
    """Return `app` wrapped for the request of `cycle`: closing the connection ends a body of unknown length."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = True

        async def send_unchunked(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if not has_length:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and not has_length:
                cycle.expected_content_length = len(message.get("body", b""))  # else uvicorn rejects the part
            await send(message)

        await app(scope, receive, send_unchunked)

    return respond
