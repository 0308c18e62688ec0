"""The doctor: finds, and optionally repairs, inconsistent keys in Redis while services are running."""

from service.store.doctor.checker import RATE, build_indexes, check
from service.store.doctor.issues import CheckStats, Issue, IssueType

__all__ = ["RATE", "CheckStats", "Issue", "IssueType", "build_indexes", "check"]
