"""The doctor: what in Redis does not fit together, and putting it right. It works beside a live service."""

from service.store.doctor.checker import RATE, check
from service.store.doctor.issues import CheckStats, Issue, IssueType

__all__ = ["RATE", "CheckStats", "Issue", "IssueType", "check"]
