"""The error of the embedded server."""


class EmbeddedServerError(Exception):
    """The embedded server cannot run. The message says why and what to do."""
