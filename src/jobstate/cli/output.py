"""The output of the commands: escaped text for terminals, and JSON byte for byte."""

import codecs
import io
import re
import sys
from datetime import datetime
from typing import Final, TextIO

import click

from jobstate.models import Progress

#: Control characters, line separators, lone surrogates and bidirectional controls. In a job's text they could clear the
#: screen or fake output.
_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: The same without the line breaks and tabs that JSON may have between its values.
_HARMFUL_IN_JSON: Final = re.compile(_HARMFUL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_BREAK: Final = re.compile(r" *[\r\n\t][\r\n\t ]*")
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")
#: The name of the output streams' encoding error handler.
_ERRORS: Final = "jobstate-escape"
#: ASCII replacements, of the same width, for characters that the commands draw.
_DRAWN: Final = {"…": "~", "✓": "+", "✗": "x", "■": "#", "━": "-", "╸": "-", "╺": "-"}
#: The Braille patterns, which spinners consist of.
_SPINNER, _END_OF_SPINNER = "\u2800", "\u2900"
#: The statuses of a job, and the colour of each.
STYLES: Final = {
    "pending": "yellow",
    "running": "cyan",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
}


def escape_unencodable_output() -> None:
    """Make standard output and standard error escape characters that they cannot encode, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def escape_control_chars(text: str, stream: TextIO | None = None) -> str:
    """Return `text` with control characters, and characters that `stream` cannot encode, escaped as `\\u001b`."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return _NOT_ASCII.sub(lambda match: _encodable(match, encoding), _HARMFUL.sub(_escaped, text))


def escape_json_control_chars(json: bytes) -> bytes:
    """Return equivalent JSON in which control characters in strings are escaped, such as `\\u009b`."""
    return _HARMFUL_IN_JSON.sub(_escaped, json.decode()).encode()


def encodable_json(json: bytes) -> str:
    """Return equivalent JSON, in ASCII if the encoding of standard output is not UTF-8."""
    text = json.decode()
    return text if _is_utf8(sys.stdout) else _NOT_ASCII.sub(_escaped, text)


def capitalized(text: str) -> str:
    """Return `text` with a capital first letter, unless it begins with a URL."""
    return text if "://" in text.partition(" ")[0] else f"{text[:1].upper()}{text[1:]}"


def on_one_line(json: str) -> str:
    """Return equivalent JSON without line breaks, which can only be between values."""
    return _BREAK.sub(" ", json)


def _escaped(match: re.Match[str]) -> str:
    """Return the JSON escape of a character: a surrogate pair above U+FFFF."""
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _encodable(match: re.Match[str], encoding: str) -> str:
    try:
        match[0].encode(encoding)
    except UnicodeEncodeError:
        return _escaped(match)
    return match[0]


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle an encoding error: replace drawn characters by ASCII, and escape any other character."""
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


def print_json(json: bytes, *, end: bool = True) -> None:
    """Write JSON, and a line break if `end`.

    A UTF-8 pipe or file gets it byte for byte. On a terminal, control characters are escaped. An output that is not
    UTF-8 gets ASCII with escapes such as `\\u2603`.
    """
    if sys.stdout.isatty():
        json = escape_json_control_chars(json)
    if _is_utf8(sys.stdout):
        click.echo(json, nl=end)
    else:
        click.echo(encodable_json(json), file=sys.stdout, nl=end)


def print_line(*columns: str) -> None:
    """Write one line of tab-separated columns."""
    click.echo("\t".join(map(escape_control_chars, columns)), file=sys.stdout)


def print_stderr(text: str) -> None:
    """Write a message to standard error."""
    click.echo(escape_control_chars(text, sys.stderr), err=True, file=sys.stderr)


def format_time(at: datetime) -> str:
    """Return a time in ISO 8601 to the second."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def format_progress(progress: Progress | None) -> str:
    """Return the current and the total of a progress, such as `3/4`; empty for `None`."""
    if progress is None:
        return ""
    return f"{progress.current}" if progress.total is None else f"{progress.current}/{progress.total}"
