"""The command `jobstate`: the commands of the client, and those that other packages add by entry points."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The commands of the client and their locations. Each is imported on use.
COMMANDS: Final = {
    "submit": "jobstate.cli.commands.submit:submit",
    "watch": "jobstate.cli.commands.watch:watch",
    "top": "jobstate.cli.commands.top:top",
    "list": "jobstate.cli.commands.list:list_jobs",
    "get": "jobstate.cli.commands.get:get",
    "cancel": "jobstate.cli.commands.cancel:cancel",
    "retry": "jobstate.cli.commands.retry:retry",
    "bulk": "jobstate.cli.commands.bulk:bulk",
}
#: The group of entry points by which a package adds commands.
ENTRY_POINTS: Final = "jobstate.commands"
#: The command that runs if none is given, and the other commands of the server, which may not be installed.
DEFAULT: Final = "serve"
SERVER_COMMANDS: Final = (DEFAULT, "doctor", "copy", "key")
_NO_SERVER: Final = "`jobstate {}` requires the server: install it with `pip install jobstate-server`."

# httpx imports its own command, with pygments, if it can. Nobody runs it in this process.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]


class Commands(click.Group):
    """A group that imports a command on use; the default command is `serve` where the server is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help text."""
        added = set(_added_commands()).difference(COMMANDS)
        server = [name for name in SERVER_COMMANDS if name in added]
        return [*server, *COMMANDS, *sorted(added.difference(server))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or return `None` for an unknown name."""
        command: click.Command
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name].partition(":")
            command = getattr(import_module(module), name)
            return command
        if entry_point := _added_commands().get(cmd_name):
            command = entry_point.load()
            return command
        if cmd_name in SERVER_COMMANDS:
            raise click.UsageError(_NO_SERVER.format(cmd_name), ctx)
        return None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command where no command is given, and before options that are not of the group."""
        is_empty = not args and not ctx.resilient_parsing  # shell completion lists the commands instead
        is_option = bool(args) and args[0].startswith("-") and args[0] not in {"--help", "--version"}
        if (is_empty or is_option) and DEFAULT in _added_commands():
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def _added_commands() -> Mapping[str, "EntryPoint"]:
    """Return the commands of other packages. Reading them takes long, so no command of the client needs it."""
    from importlib.metadata import entry_points

    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINTS)}


@click.group(cls=Commands)
@click.version_option(package_name="jobstate-client", prog_name="jobstate")
def main() -> None:
    """Store the state of background jobs in Redis and serve it over REST.

    The default command is `serve` where the server is installed.
    """
