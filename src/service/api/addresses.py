"""Addresses of this service as its clients see them, also behind a proxy that removes a path prefix."""

from typing import Final

from litestar.types import Scope

#: Where a request's state has the path prefix that a trusted proxy has removed.
PATH_PREFIX: Final = "path_prefix"


def path_prefix(scope: Scope) -> str:
    """Return the path prefix that a trusted proxy has removed, such as `/sub`; without one an empty string."""
    prefix: str = scope["state"].get(PATH_PREFIX, "")
    return prefix


def address(scope: Scope, path: str) -> str:
    """Return the path by which the client of a request reaches `path` of this service."""
    return path_prefix(scope) + path
