"""The size of a request's head."""

from typing import Final

#: Maximum bytes of a request's line, headers and trailers, without the separators.
MAX_HEADER_BYTES: Final = 64 * 1024


class HeadersTooLargeError(Exception):
    """Stops the parser. A request's line, headers and trailers exceed `MAX_HEADER_BYTES`."""


class HeaderSize:
    """Counts the bytes of a request's line, headers and trailers, before and after the parser recognizes them."""

    def __init__(self) -> None:
        #: Bytes of the current request's line, headers and trailers.
        self.parsed_bytes = 0
        #: Bytes received since the parser last recognized something.
        self.unparsed_bytes = 0

    def reset(self) -> None:
        """Start counting for a new request."""
        self.parsed_bytes = self.unparsed_bytes = 0

    def add(self, size: int) -> None:
        """Count a part that the parser has recognized. Raises `HeadersTooLargeError`."""
        self.unparsed_bytes = 0
        self.parsed_bytes += size
        if self.parsed_bytes > MAX_HEADER_BYTES:
            raise HeadersTooLargeError
