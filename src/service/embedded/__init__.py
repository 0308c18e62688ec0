"""The embedded server: a durable Redis or Valkey that the service starts when no Redis is configured."""

from service.embedded.attach import attach_or_start
from service.embedded.errors import EmbeddedServerError
from service.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServerError", "attach_or_start"]
