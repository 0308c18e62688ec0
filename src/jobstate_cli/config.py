"""The service that a command connects to."""

from typing import NamedTuple


class ClientConfig(NamedTuple):
    """The URL of the service, and the API key to send."""

    url: str
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
