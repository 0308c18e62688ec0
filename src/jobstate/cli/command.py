"""A command with exit codes, and how it runs a coroutine."""

import contextlib
import sys
from collections.abc import Collection, Coroutine, Iterator
from typing import Any, TypeVar

import click

from jobstate.cli.exit_codes import Exit, error_text, exit_code, help_text
from jobstate.cli.output import escape_unencodable_output, print_stderr
from jobstate.errors import JobstateError

T = TypeVar("T")


class Command(click.Command):
    """A command whose exit code tells how it ended."""

    def __init__(self, *args: Any, exit_codes: Collection[Exit] = (), **kwargs: Any) -> None:
        """Create a command; `exit_codes` are those that not every command has."""
        super().__init__(*args, **{"epilog": help_text(exit_codes), **kwargs})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and read the files that they name."""
        with _handle_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _handle_errors(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _handle_errors(ctx: click.Context) -> Iterator[None]:
    """Turn expected errors into a message on standard error and an exit code."""
    escape_unencodable_output()
    try:
        yield
    except click.ClickException as error:
        error.show(sys.stderr)
        ctx.exit(error.exit_code)
    except JobstateError as error:
        print_stderr(f"Error: {error_text(error)}")
        ctx.exit(exit_code(error))
    except KeyboardInterrupt:
        ctx.exit(Exit.INTERRUPTED)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop. SIGTERM cancels it, as Ctrl-C does, and exits with its code."""
    import asyncio  # takes long, and only commands that follow something need it
    import signal

    async def until_terminated() -> T:
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(until_terminated())
    except asyncio.CancelledError:
        sys.exit(Exit.TERMINATED)
