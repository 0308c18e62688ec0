"""Paths of this service as its clients see them, also behind a proxy that removes a path prefix."""

from typing import Final

from litestar.types import Scope

#: Key in a request's state: the path prefix that a trusted proxy removed.
PATH_PREFIX: Final = "path_prefix"


def path_prefix(scope: Scope) -> str:
    """Return the path prefix that a trusted proxy removed, such as `/sub`; empty without one."""
    prefix: str = scope["state"].get(PATH_PREFIX, "")
    return prefix


def address(scope: Scope, path: str) -> str:
    """Return the path under which the client of a request reaches `path` of this service."""
    return path_prefix(scope) + path
