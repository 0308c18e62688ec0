"""Runs the jobs of a jobstate service in Python: claims them under leases, and reports what their function returns."""

from jobstate.worker.context import JobContext
from jobstate.worker.outcomes import PermanentFailure
from jobstate.worker.worker import Worker

__all__ = ["JobContext", "PermanentFailure", "Worker"]
