"""The command `jobstate`, also as `python -m service`."""

from importlib import import_module
from typing import Final

import click

from service import __version__

#: The commands and their locations. Each is imported on use, so that `serve` does not load the client, nor the reverse.
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
    """A group that imports a command on use; the default command is `serve`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or return `None` for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `serve` where no command is given, and before options that are not of the group."""
        is_empty = not args and not ctx.resilient_parsing  # shell completion lists the commands instead
        if is_empty or (args and args[0].startswith("-") and args[0] not in {"--help", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="jobstate")
def main() -> None:
    """Store the state of background jobs in Redis and serve it over REST. The default command is `serve`."""


if __name__ == "__main__":
    main(prog_name="jobstate")
