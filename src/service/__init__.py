"""The jobstate service, which stores the state of background jobs in Redis."""

from importlib.metadata import version

__version__ = version("jobstate-server")
