"""Where a command finds the service."""

from typing import NamedTuple


class ClientConfig(NamedTuple):
    """Where the service is, and the API key that it is shown."""

    url: str
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
