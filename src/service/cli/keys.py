"""The command `jobstate key`."""

import re
from typing import Any

import click

from service.domain.api_keys import Scope, generate_key, hash_key
from service.settings.parsers import API_KEY_NAME


class ScopeList(click.ParamType[str]):
    """Scopes, separated by commas."""

    name = "scopes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return them as an entry has them."""
        named = [one.strip() for one in re.split(r"[,+]", str(value))]
        if not set(named) <= set(Scope):
            self.fail(f"allowed: one or more of {', '.join(Scope)}, separated by commas", param, ctx)
        return "+".join(scope for scope in Scope if scope in named)


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(API_KEY_NAME, value):
        raise click.BadParameter("allowed: 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit")
    return value


@click.command(short_help="Make an API key.")
@click.argument("name", callback=_name)
@click.option(
    "--scopes", required=True, type=ScopeList(), help=f"What it is for: {', '.join(Scope)}, separated by commas."
)
def key(name: str, scopes: str) -> None:
    """Make an API key, and print it once, with the entry by which the service knows it.

    NAME is what the log and the limits call its holder.
    """
    made = generate_key()
    click.echo("For its holder, and nobody else; it cannot be shown again:", err=True)
    click.echo(f"JOBSTATE_API_KEY={made}")
    click.echo("For the service, which keeps its hash (API_KEYS takes several, separated by commas):", err=True)
    click.echo(f"API_KEYS={name}:{scopes}:{hash_key(made.encode()).hex()}")
