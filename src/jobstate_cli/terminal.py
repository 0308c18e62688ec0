"""What the commands write: text that does no harm to a terminal and fits its encoding, and JSON as it came."""

import codecs
import io
import os
import re
import sys
from typing import Final, TextIO

import click
from rich.console import Console
from rich.text import Text

#: Control characters, what ends a line, half surrogates, and what turns the direction of writing round: an escape
#: sequence in a job's text could clear the screen, or show another job's state than there is.
_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: The same, but for the line breaks and tabs that JSON has between its values.
_HARMFUL_IN_JSON: Final = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_BREAK: Final = re.compile(r" *[\r\n\t][\r\n\t ]*")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")
_WIDTH_OF_A_PIPE: Final = 160
#: The name of the error handler of the output streams.
_ERRORS: Final = "jobstate-escape"
#: Characters that the commands draw themselves, and ASCII of the same width; and the first and last frame of spinners.
_DRAWN: Final = {"…": "~", "✓": "+", "✗": "x", "■": "#", "━": "-", "╸": "-", "╺": "-"}
_SPINNER, _END_OF_SPINNER = "\u2800", "\u2900"
STYLES: Final = {
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
}


def escape_unencodable_output() -> None:
    """Make standard output and standard error escape characters that their encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def escape_control_chars(text: str, stream: TextIO | None = None) -> str:
    """Return text for a terminal: `\\u001b` for what could steer it, and for what the encoding of the stream lacks."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return _NOT_ASCII.sub(lambda match: _encodable(match, encoding), _HARMFUL.sub(_escaped, text))


def escape_json_control_chars(json: bytes) -> bytes:
    """Return the same JSON for a terminal: `\\u009b` means in a string what the character itself would."""
    return _HARMFUL_IN_JSON.sub(_escaped, json.decode()).encode()


def encodable_json(json: bytes) -> str:
    """Return the same JSON, in ASCII where the encoding of standard output is not UTF-8."""
    text = json.decode()
    return text if _is_utf8(sys.stdout) else _NOT_ASCII.sub(_escaped, text)


def on_one_line(json: str) -> str:
    """Return the same JSON without line breaks: it can have them between its values only."""
    return _BREAK.sub(" ", json)


def _escaped(match: re.Match[str]) -> str:
    """Return a character as JSON escapes it: one beyond the first 65,536 as a surrogate pair."""
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _encodable(match: re.Match[str], encoding: str) -> str:
    try:
        match[0].encode(encoding)
    except UnicodeEncodeError:
        return _escaped(match)
    return match[0]


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what a command draws by ASCII of the same width, and escape any other character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if character in _DRAWN:
        return _DRAWN[character], error.start + 1
    if _SPINNER <= character < _END_OF_SPINNER:
        return "*", error.start + 1
    return _NOT_ASCII.sub(_escaped, character), error.start + 1


codecs.register_error(_ERRORS, _replaced)


def _is_utf8(stream: TextIO) -> bool:
    return codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name == "utf-8"


def console() -> Console:
    """Return a console on standard output that takes no text for markup, and only a terminal for a terminal."""
    terminal = sys.stdout.isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDTH_OF_A_PIPE
    return Console(force_terminal=terminal, width=width, markup=False, emoji=False, highlight=False)


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(escape_control_chars(status), STYLES.get(status, ""))


def print_json(json: bytes, *, end: bool = True) -> None:
    """Write JSON, byte for byte unless a person reads it or the output is not UTF-8; with `end` the line ends after it.

    JSON is UTF-8: where the output has another encoding, it is written in ASCII, with `\\u2603` for other characters.
    """
    if sys.stdout.isatty():
        json = escape_json_control_chars(json)
    if _is_utf8(sys.stdout):
        click.echo(json, nl=end)
    else:
        click.echo(encodable_json(json), file=sys.stdout, nl=end)


def print_line(*columns: str) -> None:
    """Write one line, of one column or several with tabs in between."""
    click.echo("\t".join(map(escape_control_chars, columns)), file=sys.stdout)


def print_stderr(text: str) -> None:
    """Tell people something that is no output."""
    click.echo(escape_control_chars(text, sys.stderr), err=True, file=sys.stderr)
