"""Messages about lost and recovered connections."""

from typing import Final

from jobstate.cli.output import capitalized, print_stderr

RECONNECTED: Final = "Reconnected."


def disconnected_text(reason: str, pause: float) -> str:
    """Return the message about a lost connection."""
    return f"{capitalized(reason)}; retrying in {pause:.1f} s."


class ConnectionMessages:
    """Reports lost and recovered connections on standard error."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Report a lost connection."""
        print_stderr(disconnected_text(reason, pause))

    def on_reconnect(self) -> None:
        """Report a recovered connection."""
        print_stderr(RECONNECTED)
