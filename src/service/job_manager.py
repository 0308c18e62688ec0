"""The stable import path for backends: `from service.job_manager import JobStateManager`."""

from service.store.jobs import JobStateManager

__all__ = ["JobStateManager"]
