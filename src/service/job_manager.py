"""The import path that backends know: `from service.job_manager import JobStateManager`."""

from service.store.jobs import JobStateManager

__all__ = ["JobStateManager"]
