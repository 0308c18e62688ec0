"""The doctor: what in Redis does not fit together, and putting it right. It works beside a live service."""

from service.store.doctor.checker import RATE, examine
from service.store.doctor.issues import Drift, Finding, Tally

__all__ = ["RATE", "Drift", "Finding", "Tally", "examine"]
