"""Environment variables as options of a command: `JOBSTATE_PORT` is `--port`, `LOG_LEVEL` is `--log-level`."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from service.settings import Variable

C = TypeVar("C", bound=Callable[..., Any])

#: The variable that an option overrides in addition to its own, because it would take precedence.
_OVERRIDES: Final = {"REDIS_HOST": "REDIS_URL", "REDIS_PORT": "REDIS_URL", "JOB_TTL_DAYS": "JOB_TTL_SECONDS"}


def options(*variables: Variable) -> Callable[[C], C]:
    """Return a decorator that adds an option for each variable to a command."""

    def decorator(command: C) -> C:
        for variable in reversed(variables):
            name = variable.field.replace("_", "-")
            default = f"[{variable.name}; default: {variable.default or 'none'}]"
            text = f"{variable.description}. Allowed: {variable.allowed}  {default}"
            command = click.option(f"--{name}", variable.name, metavar="VALUE", help=text)(command)
        return command

    return decorator


def merge_environment(environ: Mapping[str, str], options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with the options of the command line, which take precedence."""
    given = {name: value for name, value in options.items() if value}
    overridden = {_OVERRIDES[name] for name in given if name in _OVERRIDES}
    return {name: value for name, value in environ.items() if name not in overridden} | given
