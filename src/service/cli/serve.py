"""The command `jobstate serve`."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import click

from service import __version__, libraries
from service.cli.options import describe, merge_environment, options
from service.embedded import EmbeddedServer, EmbeddedServerError
from service.observability import logs, metrics
from service.server.listener import ListenError, bind, url_of
from service.server.signals import deferred_signals, exit_on_signals
from service.server.supervisor import Supervisor, SupervisorError
from service.settings import VARIABLES, Settings, SettingsError, redact_url

STARTUP_BANNER: Final = """\
jobstate {version} listens on {url}
  jobs      {location}
  dashboard {url}
  API       {url}/schema (OpenAPI document: /schema/openapi.json)
  try       curl {url}/v1/jobs{key} -H 'Content-Type: application/json' -d '{{"input_params": {{"hello": "world"}}}}'
            curl {url}/v1/jobs{key}
"""

#: The header of the example commands, which takes the API key from the environment.
AUTH_HEADER_EXAMPLE: Final = ' -H "Authorization: Bearer $JOBSTATE_API_KEY"'


@click.command(short_help="Serve the REST API.")
@options(*VARIABLES)
def serve(**given: str | None) -> None:
    """Serve the REST API. Without REDIS_URL and REDIS_HOST it starts an embedded, durable Redis server."""
    exit_on_signals()
    try:
        settings = Settings.from_environment(merge_environment(os.environ, given))
        logs.configure(settings.log_level, settings.log_format)
        with bind(settings.host, settings.port) as listener, _redis(settings) as (redis_url, location):
            started = partial(_print_banner, settings, url_of(listener), location)
            if settings.workers == 1:
                with deferred_signals(), libraries.uncollected():  # only here: a supervisor needs no application
                    from service.server.server import Server

                metrics.configure()
                Server(settings, redis_url, started=started).run([listener])
            else:
                Supervisor(settings, redis_url, started=started).run([listener])
    except SettingsError as error:
        raise click.ClickException(describe(error, given)) from error
    except (ListenError, SupervisorError, EmbeddedServerError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the URL of Redis, and its location for people to read."""
    if settings.redis_url is not None:
        yield settings.redis_url, redact_url(settings.redis_url)
    else:
        with EmbeddedServer(settings.data) as redis:
            yield redis.url, str(redis)


def _print_banner(settings: Settings, url: str, location: str) -> None:
    key = AUTH_HEADER_EXAMPLE if settings.api_keys else ""
    click.echo(STARTUP_BANNER.format(version=__version__, url=url, location=location, key=key), nl=False)
