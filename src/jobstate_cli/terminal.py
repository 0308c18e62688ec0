"""What the commands write: text that does no harm to a terminal, and JSON as it came."""

import os
import re
import sys
from typing import Final

import click
from rich.console import Console
from rich.text import Text

#: Control characters, what ends a line, half surrogates, and what turns the direction of writing round: an escape
#: sequence in a job's text could clear the screen, or show another job's state than there is.
_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: The same, but for the line breaks and tabs that JSON has between its values.
_HARMFUL_IN_JSON: Final = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_BREAK: Final = re.compile(r" *[\r\n\t][\r\n\t ]*")
_WIDTH_OF_A_PIPE: Final = 160
STYLES: Final = {
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
}


def harmless(text: str) -> str:
    """Return text for a terminal, with what could steer it written as `\\u001b`."""
    return _HARMFUL.sub(_escaped, text)


def harmless_json(json: bytes) -> bytes:
    """Return the same JSON for a terminal: `\\u009b` means in a string what the character itself would."""
    return _HARMFUL_IN_JSON.sub(_escaped, json.decode()).encode()


def on_one_line(json: str) -> str:
    """Return the same JSON without line breaks: it can have them between its values only."""
    return _BREAK.sub(" ", json)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def console() -> Console:
    """Return a console on standard output that takes no text for markup, and only a terminal for a terminal."""
    terminal = sys.stdout.isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDTH_OF_A_PIPE
    return Console(force_terminal=terminal, width=width, markup=False, emoji=False, highlight=False)


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(harmless(status), STYLES.get(status, ""))


def print_json(json: bytes, *, end: bool = True) -> None:
    """Write JSON, byte for byte unless a person reads it; with `end` the line ends after it."""
    click.echo(harmless_json(json) if sys.stdout.isatty() else json, nl=end)


def print_line(*columns: str) -> None:
    """Write one line, of one column or several with tabs in between."""
    click.echo("\t".join(map(harmless, columns)))


def say(text: str) -> None:
    """Tell people something that is no output."""
    click.echo(harmless(text), err=True)
