"""The command `jobstate key`."""

import re
from typing import Any

import click

from service.domain.api_keys import Scope, generate_key, hash_key
from service.settings.formats import API_KEY_NAME


class ScopeList(click.ParamType[str]):
    """A list of scopes, separated by commas."""

    name = "scopes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the scopes separated by `+`, as `API_KEYS` has them."""
        scopes = [item.strip() for item in re.split(r"[,+]", str(value))]
        if not set(scopes) <= set(Scope):
            self.fail(f"allowed: one or more of {', '.join(Scope)}, separated by commas", param, ctx)
        return "+".join(scope for scope in Scope if scope in scopes)


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(API_KEY_NAME, value):
        raise click.BadParameter("allowed: 1 to 64 letters, digits and . _ -, starting with a letter or digit")
    return value


@click.command(short_help="Generate an API key.")
@click.argument("name", callback=_name)
@click.option(
    "--scopes", required=True, type=ScopeList(), help=f"Scopes of the key: {', '.join(Scope)}, separated by commas."
)
def key(name: str, scopes: str) -> None:
    """Generate an API key, and print it once together with its entry for `API_KEYS`.

    NAME identifies the holder of the key in logs and rate limits.
    """
    api_key = generate_key()
    click.echo("For the holder of the key only. It cannot be shown again:", err=True)
    click.echo(f"JOBSTATE_API_KEY={api_key}")
    click.echo("For the service, which stores only the hash. Separate several entries by commas:", err=True)
    click.echo(f"API_KEYS={name}:{scopes}:{hash_key(api_key.encode()).hex()}")
