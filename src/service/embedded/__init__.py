"""The durable server that the service brings along and starts where no Redis is named."""

from service.embedded.attach import attach_or_start
from service.embedded.errors import EmbeddedServerError
from service.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServerError", "attach_or_start"]
