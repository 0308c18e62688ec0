"""Variables of the environment as options of a command: JOBSTATE_PORT is --port, LOG_LEVEL is --log-level."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from service.settings import Variable

C = TypeVar("C", bound=Callable[..., Any])

#: An option beats the variable that would win over its own.
_OVERRIDES: Final = {"REDIS_HOST": "REDIS_URL", "REDIS_PORT": "REDIS_URL", "JOB_TTL_DAYS": "JOB_TTL_SECONDS"}


def options(*variables: Variable) -> Callable[[C], C]:
    """Add an option for each of the variables."""

    def added(command: C) -> C:
        for variable in reversed(variables):
            name = variable.name.removeprefix("JOBSTATE_").lower().replace("_", "-")
            text = (
                f"{variable.description}; {variable.allowed}  [{variable.name}; default: {variable.default or 'none'}]"
            )
            command = click.option(f"--{name}", variable.name, metavar="VALUE", help=text)(command)
        return command

    return added


def merge_environment(environ: Mapping[str, str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with the options of the command line in it."""
    options = {name: value for name, value in given.items() if value}
    beaten = {_OVERRIDES[name] for name in options if name in _OVERRIDES}
    return {name: value for name, value in environ.items() if name not in beaten} | options
