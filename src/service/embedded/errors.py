"""Why the embedded server cannot run."""


class EmbeddedServerError(Exception):
    """The embedded server cannot run; the message says why and what to do."""
