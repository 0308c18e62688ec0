"""Answers to HTTP/1.0 clients, which cannot read chunks (RFC 9112, section 6.1)."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send


def unchunked(app: ASGIApp, cycle: Any) -> ASGIApp:
    """Return `app` for the one request of `cycle`: a body of unknown length ends with the connection."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        has_length = True

        async def send_unchunked(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if not has_length:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and not has_length:
                cycle.expected_content_length = len(message.get("body", b""))  # uvicorn refuses a part that is longer
            await send(message)

        await app(scope, receive, send_unchunked)

    return answer
