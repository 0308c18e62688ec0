"""The parameter types and options that commands share."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import click

from jobstate.cli.output import STYLES
from jobstate.config import configure
from jobstate.connections import authorization
from jobstate.errors import ConfigurationError

C = TypeVar("C", bound=Callable[..., Any])


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
        """Return the URL; reject what the client does not accept."""
        try:
            return configure(str(value), api_key="").url
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class ApiKey(click.ParamType[str]):
    """An API key. Error messages never contain it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the key; reject characters that are not valid in a header."""
        try:
            authorization(str(value), "http://host")
        except ValueError:
            self.fail("allowed: visible ASCII characters", param, ctx)
        return str(value)


TEXT: Final = Text()
JOB_ID: Final = JobId()
KEY: Final = Key()


def label_option(text: str) -> Callable[[C], C]:
    """Return the option `--label KEY:VALUE`, which may be repeated, passed as `labels`: a mapping, or `None`."""
    return click.option("--label", "labels", type=TEXT, multiple=True, metavar="KEY:VALUE", help=text, callback=_labels)


def _labels(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str] | None:
    labels: dict[str, str] = {}
    for label in values:
        key, colon, value = label.partition(":")
        if not colon:
            raise click.BadParameter(f"{label!r} is not KEY:VALUE, such as tenant:acme", ctx, param)
        if labels.get(key, value) != value:
            raise click.BadParameter(f"{key!r} has two values, which no job has", ctx, param)
        labels[key] = value
    return labels or None


def filter_options(command: C) -> C:
    """Add the filters of lists and bulk actions, passed by the names of `JobFilter`."""
    options = (
        click.option("--status", type=click.Choice(list(STYLES)), help="Only jobs in this status."),
        click.option("--queue", type=TEXT, help="Only jobs of this queue."),
        click.option("--slate-id", type=TEXT, help="Only jobs of this slate."),
        click.option("--correlation-id", type=TEXT, help="Only jobs with this correlation id."),
        label_option("Only jobs with this label, such as tenant:acme; may be repeated."),
        click.option("--created-after", type=TEXT, metavar="TIME", help="Only jobs created after this time."),
        click.option("--created-before", type=TEXT, metavar="TIME", help="Only jobs created before this time."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def service_options(command: C) -> C:
    """Add the options `--url` and `--api-key`, passed as `config`, and `--json`."""

    @functools.wraps(command)
    def with_config(*args: Any, url: str | None, api_key: str | None, **options: Any) -> Any:
        return command(*args, config=configure(url, api_key), **options)

    url = click.option(
        "--url",
        type=Url(),
        envvar="JOBSTATE_URL",
        show_envvar=True,
        show_default="the address of `serve`, http://127.0.0.1:8000",
        help="URL of the service.",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
    api_key = click.option(
        "--api-key",
        type=ApiKey(),
        envvar="JOBSTATE_API_KEY",
        show_envvar=True,
        help="API key. Prefer JOBSTATE_API_KEY: other users can see command lines.",
    )
    return cast(C, url(api_key(as_json(with_config))))


def timeout_option(text: str) -> Callable[[C], C]:
    """Return the option `--timeout` for a command that follows a job; `text` is its help."""
    limit = click.FloatRange(min=0, min_open=True)
    return click.option("--timeout", "seconds", type=limit, metavar="SECONDS", help=text)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
