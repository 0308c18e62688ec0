"""The durable server that the service brings along and starts where no Redis is named."""

from service.embedded.errors import EmbeddedServerError
from service.embedded.server import EmbeddedServer
from service.embedded.visit import visit

__all__ = ["EmbeddedServer", "EmbeddedServerError", "visit"]
