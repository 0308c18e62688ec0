"""`jobstate submit`: create a job from a file."""

import json
import re
import sys
from typing import Any, BinaryIO, Final, NoReturn
from uuid import uuid4

import click

from jobstate_cli.command import JOB_ID, KEY, TEXT, Command, run, service_options
from jobstate_cli.errors import ServiceUnavailable
from jobstate_cli.exits import Exit
from jobstate_cli.follow import follow
from jobstate_cli.records import Record
from jobstate_cli.service import Service, open_client
from jobstate_cli.target import ClientConfig
from jobstate_cli.terminal import console, print_json, print_line
from jobstate_cli.views import view_on
from jobstate_cli.watch import timeout_option

#: What JSON takes for space.
_SPACE: Final = b" \t\r\n"
_STRING_OR_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[A-Za-z]+')


class JsonFile(click.File):
    """A file of JSON, whose text is passed on as it stands there."""

    name = "file"

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text without the space around it; name the place where it is not JSON."""
        if isinstance(value, bytes):
            return value
        file: BinaryIO = super().convert(value, param, ctx)  # type: ignore[assignment]
        text = file.read()
        if error := json_error(text):
            self.fail(f"{file.name}: {error}", param, ctx)
        return text.strip(_SPACE)


def json_error(text: bytes) -> str | None:
    """Say why a text is not JSON in UTF-8, and where; `None` if it is. Numbers are looked at, not read."""
    try:
        json.loads(text.decode(), parse_int=str, parse_float=str, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} is not UTF-8"
    except json.JSONDecodeError as error:
        return f"line {error.lineno} column {error.colno}: {error.msg}"
    except _InvalidConstant as error:
        return f"{_position(text.decode(), str(error))}: {error} is not JSON"
    except RecursionError:
        return "it is nested too deep"
    return None


class _InvalidConstant(ValueError):
    """A word that Python takes for a number, and JSON does not."""


def _position(text: str, word: str) -> str:
    """Return where a word stands for the first time outside of strings."""
    at = next(match.start() for match in _STRING_OR_WORD.finditer(text) if match[0] == word)
    return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _reject_constant(word: str) -> NoReturn:
    raise _InvalidConstant(word)


def body_of(input_params: bytes, fields: dict[str, Any]) -> bytes:
    """Return the request for a job: `input_params` byte for byte, and the fields that were given."""
    rest = json.dumps({name: value for name, value in fields.items() if value is not None})
    return b'{"input_params":' + input_params + (b"," + rest[1:].encode() if rest != "{}" else b"}")


@click.command(cls=Command, short_help="Create a job from a file of JSON, and print its id.")
@click.argument("input_params", metavar="FILE", type=JsonFile())
@click.option("--id", "job_id", metavar="ID", type=JOB_ID, help="The job's id; the service makes one otherwise.")
@click.option("--queue", type=TEXT, help="The queue that workers take it from.")
@click.option("--slate-id", type=TEXT, help="The slate that it belongs to.")
@click.option("--scenario-count", type=int, help="How many scenarios it is about.")
@click.option("--correlation-id", type=TEXT, help="What ties it to the work that caused it.")
@click.option("--max-attempts", type=int, help="How often it may fail before it has failed.")
@click.option(
    "--retry-delay",
    "retry_delay_seconds",
    type=int,
    metavar="SECONDS",
    help="Before the first retry; doubled for each further one, up to an hour.",
)
@click.option("--delay", "delay_seconds", type=int, metavar="SECONDS", help="Before it may be taken.")
@click.option("--key", type=KEY, help="Idempotency key: the same one again creates nothing twice.")
@click.option("--watch", "watched", is_flag=True, help="Follow it to its end, as `watch` does.")
@timeout_option
@service_options
def submit(
    target: ClientConfig,
    as_json: bool,
    input_params: bytes,
    key: str | None,
    watched: bool,
    seconds: float | None,
    **fields: Any,
) -> None:
    """Create a job whose input_params are the JSON in FILE (- for standard input), and print its id.

    The JSON reaches the worker byte for byte. A reply that is lost leads to no second job.
    """
    if seconds is not None and not watched:
        raise click.UsageError("--timeout goes with --watch.")
    if fields["job_id"] is None and key is None:
        key = str(uuid4())
    sys.exit(run(_submit(target, as_json, body_of(input_params, fields), key, watched, seconds)))


async def _submit(
    target: ClientConfig, as_json: bool, body: bytes, key: str | None, watched: bool, seconds: float | None
) -> Exit:
    async with open_client(target) as service:
        record = await _create(service, body, key)
        if as_json and not watched:
            print_json(record.json)
        elif not as_json:
            print_line(record.job.job_id)
        if not watched:
            return Exit.OK
        with view_on(console(), lambda: service.now, as_json=as_json) as view:
            return await follow(service, record.job.job_id, view, seconds, already_exists=True)


async def _create(service: Service, body: bytes, key: str | None) -> Record:
    try:
        return await service.create(body, key)
    except ServiceUnavailable as error:
        if not error.outcome_unknown:
            raise
        instruction = f"with --key {key}" if key else "under the same --id"
        unknown = f"whether the job was created is unknown; submit it again {instruction}, and it is created once"
        raise ServiceUnavailable(f"{error}; {unknown}") from error
