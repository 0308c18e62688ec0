"""The doctor: what in Redis does not fit together, and putting it right. It works beside a live service."""

from service.store.doctor.findings import Drift, Finding, Tally
from service.store.doctor.walk import RATE, examine

__all__ = ["RATE", "Drift", "Finding", "Tally", "examine"]
