"""The ceiling of the framework: uvicorn with a handler that returns a constant response.

`python -m benchmarks.framework_ceiling litestar|asgi BYTES --port PORT` serves it.
"""

import sys
from typing import Any

import uvicorn
from litestar import Litestar, Response, get, patch, post


def litestar(body: bytes) -> Litestar:
    """Return a Litestar application that answers every request with `body`."""

    @get("/v1/jobs/{job_id:str}", sync_to_thread=False)
    def read(job_id: str) -> Response[bytes]:
        return Response(body, media_type="application/json")

    @patch("/v1/jobs/{job_id:str}", sync_to_thread=False)
    def change(job_id: str, data: dict[str, Any]) -> Response[bytes]:
        return Response(body, media_type="application/json")

    @post("/v1/jobs", sync_to_thread=False)
    def create(data: dict[str, Any]) -> Response[bytes]:
        return Response(body, media_type="application/json")

    return Litestar([read, change, create], logging_config=None, openapi_config=None)


def asgi(body: bytes) -> Any:
    """Return an ASGI application that answers every request with `body`."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


if __name__ == "__main__":
    _, kind, size, _, port = sys.argv
    uvicorn.run(
        {"litestar": litestar, "asgi": asgi}[kind](b"x" * int(size)),
        host="127.0.0.1",
        port=int(port),
        log_level="error",
        access_log=False,
        lifespan="off",
    )
