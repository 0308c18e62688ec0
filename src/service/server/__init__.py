"""The HTTP server: uvicorn adapted to this service, in one process or several."""

from service import libraries  # noqa: F401
