"""The console on which the commands draw."""

import os
import sys
from typing import Final

from rich.console import Console
from rich.text import Text

from jobstate.cli.output import STYLES, escape_control_chars

_WIDTH_OF_A_PIPE: Final = 160


def console() -> Console:
    """Return a console on standard output that does not interpret markup in text."""
    terminal = sys.stdout.isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDTH_OF_A_PIPE
    return Console(force_terminal=terminal, width=width, markup=False, emoji=False, highlight=False)


def status_text(status: str) -> Text:
    """Return a status with its colour."""
    return Text(escape_control_chars(status), STYLES.get(status, ""))
