"""The command `jobstate`; `python -m service` is the same."""

from importlib import import_module
from typing import Final

import click

from service import __version__

#: Where each command is found once it is asked for: the service needs nothing of the terminal's side, nor the reverse.
COMMANDS: Final = {
    "serve": "service.cli.serve:serve",
    "doctor": "service.cli.doctor:doctor",
    "submit": "jobstate_cli.submit:submit",
    "watch": "jobstate_cli.watch:watch",
    "top": "jobstate_cli.top:top",
    "list": "jobstate_cli.listing:list_jobs",
    "get": "jobstate_cli.jobs:get",
    "cancel": "jobstate_cli.jobs:cancel",
    "key": "service.cli.keys:key",
}


class Commands(click.Group):
    """A group that imports its commands when they are used; where none is named it is `serve`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of a job's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` in front of options that are not the group's own, and where a person has typed nothing more."""
        bare = not args and not ctx.resilient_parsing  # the shell asks what could follow
        if bare or (args and args[0].startswith("-") and args[0] not in {"--help", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="jobstate")
def main() -> None:
    """Keep the state of background jobs: a REST service over Redis. Without a command it serves."""


if __name__ == "__main__":
    main(prog_name="jobstate")
