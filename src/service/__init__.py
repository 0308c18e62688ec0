"""The job-state service: the durable memory of background jobs."""

from importlib.metadata import version

__version__ = version("jobstate")
