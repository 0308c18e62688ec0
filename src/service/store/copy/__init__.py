"""The copy of all jobs into an empty database, which may have another number of partitions."""

from service.store.copy.copier import Progress, copy_database
from service.store.copy.errors import CopyRefused

__all__ = ["CopyRefused", "Progress", "copy_database"]
