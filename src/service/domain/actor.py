"""Who makes the changes of a request."""

from contextvars import ContextVar
from typing import Final

#: The name of the API key of the current request; empty without one. The history of a job shows it.
actor: Final[ContextVar[str]] = ContextVar("actor", default="")
