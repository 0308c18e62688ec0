"""The options, parameter types and error handling that all commands share."""

import asyncio
import contextlib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import click

from jobstate_cli.config import ClientConfig
from jobstate_cli.errors import ClientError
from jobstate_cli.exit_codes import Exit, help_text
from jobstate_cli.output import escape_unencodable_output, print_stderr

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")

#: Wildcard addresses of a service, and the loopback address to connect to instead.
_LOCAL_HOSTS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_INVALID_PORT: Final = (
    "JOBSTATE_PORT={port!r} is not allowed; allowed: an integer from 1 to 65535. Set `JOBSTATE_URL` or `--url` to the "
    "URL of the service."
)
_KUBERNETES_HINT: Final = (
    " Kubernetes injects `JOBSTATE_PORT` for a Service named `jobstate`, unless a pod has `enableServiceLinks: false`."
)


class Command(click.Command):
    """A command whose exit code tells how it ended."""

    def __init__(self, *args: Any, exit_codes: Collection[Exit] = (), **kwargs: Any) -> None:
        """Create a command; `exit_codes` are those that not every command has."""
        super().__init__(*args, **{"epilog": help_text(exit_codes), **kwargs})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and read the files that they name."""
        with _handle_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _handle_errors(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _handle_errors(ctx: click.Context) -> Iterator[None]:
    """Turn expected errors into a message on standard error and an exit code."""
    escape_unencodable_output()
    try:
        yield
    except click.ClickException as error:
        error.show(sys.stderr)
        ctx.exit(error.exit_code)
    except ClientError as error:
        print_stderr(f"Error: {error}")
        ctx.exit(error.exit_code)
    except KeyboardInterrupt:
        ctx.exit(Exit.INTERRUPTED)
    except asyncio.CancelledError:
        ctx.exit(Exit.TERMINATED)


class Text(click.ParamType[str]):
    """A parameter with text that is valid UTF-8 and not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; reject empty text and bytes that are not UTF-8."""
        text = str(value)
        if not text or not _is_utf8(text):
            self.fail("must not be empty" if not text else "must be valid UTF-8", param, ctx)
        return text


class JobId(Text):
    """A job id. The service validates it, too."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id; reject `.` and `..`, which would change the URL path."""
        job_id = super().convert(value, param, ctx)
        if job_id in {".", ".."}:
            self.fail(f"{job_id!r} is not a job id", param, ctx)
        return job_id


class Key(click.ParamType[str]):
    """An idempotency key."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the key; reject characters that are not valid in a header."""
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", str(value)):
            self.fail("allowed: 1 to 255 visible ASCII characters", param, ctx)
        return str(value)


class Url(click.ParamType[str]):
    """The URL of a service."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL; reject anything but http and https."""
        try:
            parts = urlsplit(str(value))
            is_valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid or not _is_utf8(str(value)):
            self.fail(f"{value!r} is not allowed; allowed: http://HOST:PORT or https://HOST:PORT", param, ctx)
        return str(value)


class ApiKey(click.ParamType[str]):
    """An API key. Error messages never contain it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the key; reject characters that are not valid in a header."""
        key = str(value).strip()
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            self.fail("allowed: visible ASCII characters", param, ctx)
        return key


TEXT: Final = Text()
JOB_ID: Final = JobId()
KEY: Final = Key()
URL: Final = Url()
API_KEY: Final = ApiKey()


def default_url(environ: Mapping[str, str] | None = None) -> str:
    """Return the URL at which `jobstate serve` listens in the same environment. Raises `click.UsageError`."""
    environ = os.environ if environ is None else environ
    host = environ.get("JOBSTATE_HOST") or "127.0.0.1"
    host = _LOCAL_HOSTS.get(host, host)
    port = environ.get("JOBSTATE_PORT", "").strip() or "8000"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise click.UsageError(_INVALID_PORT.format(port=port) + (_KUBERNETES_HINT if "://" in port else ""))
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def service_options(command: C) -> C:
    """Add the options `--url` and `--api-key`, passed as `config`, and `--json`."""

    @functools.wraps(command)
    def with_config(*args: Any, url: str, api_key: str | None, **options: Any) -> Any:
        if api_key and "@" in urlsplit(url).netloc:
            raise click.UsageError("Credentials in the URL and an API key exclude each other: remove one of them.")
        return command(*args, config=ClientConfig(url, api_key), **options)

    url = click.option(
        "--url",
        type=URL,
        envvar="JOBSTATE_URL",
        show_envvar=True,
        default=default_url,
        show_default="the address of `serve`, http://127.0.0.1:8000",
        help="URL of the service.",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
    api_key = click.option(
        "--api-key",
        type=API_KEY,
        envvar="JOBSTATE_API_KEY",
        show_envvar=True,
        help="API key. Prefer JOBSTATE_API_KEY: other users can see command lines.",
    )
    return cast(C, url(api_key(as_json(with_config))))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop. SIGTERM cancels it, as Ctrl-C does."""
    return asyncio.run(_until_terminated(work))


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
