"""Environment variables as options of a command: `JOBSTATE_PORT` is `--port`, `LOG_LEVEL` is `--log-level`."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from service.settings import SettingsError
from service.settings.variables import Variable

C = TypeVar("C", bound=Callable[..., Any])

#: The variable that an option overrides in addition to its own, because it would take precedence.
_OVERRIDES: Final = {"REDIS_HOST": "REDIS_URL", "REDIS_PORT": "REDIS_URL", "JOB_TTL_DAYS": "JOB_TTL_SECONDS"}


def options(*variables: Variable) -> Callable[[C], C]:
    """Return a decorator that adds an option for each variable to a command."""

    def decorator(command: C) -> C:
        for variable in reversed(variables):
            default = f"[{variable.name}; default: {variable.default or 'none'}]"
            text = f"{variable.description}. Allowed: {variable.allowed}  {default}"
            option = click.option(f"--{option_name(variable.name)}", variable.name, metavar="VALUE", help=text)
            command = option(command)
        return command

    return decorator


def merge_environment(environ: Mapping[str, str], options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with the options of the command line, which take precedence."""
    given = {name: value for name, value in options.items() if value}
    overridden = {_OVERRIDES[name] for name in given if name in _OVERRIDES}
    return {name: value for name, value in environ.items() if name not in overridden} | given


def describe(error: SettingsError, options: Mapping[str, str | None]) -> str:
    """Return the text of an error for people; it names the option if the value comes from the command line."""
    if not options.get(error.name):
        return str(error)
    return f"`--{option_name(error.name)}` (`{error.name}`): {str(error).removeprefix(error.name + '=')}"


def option_name(variable: str) -> str:
    """Return the name of the option for a variable, without the dashes in front."""
    return variable.removeprefix("JOBSTATE_").lower().replace("_", "-")
