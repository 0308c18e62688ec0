"""The group `jobstate`: its own commands, and those that the server adds by entry points."""

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points

import click
import pytest
from click.testing import CliRunner, Result

from jobstate.cli import COMMANDS, ENTRY_POINTS, SERVER_COMMANDS, main

SERVER_HINT = "requires the server: install it with `pip install jobstate-server`"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args, prog_name="jobstate")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points of other packages: none, as without the server."""
    found: list[EntryPoint] = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: found)
    return found


@click.command()
@click.option("--port")
def other(port: str | None) -> None:
    """Do something else."""
    click.echo(f"other {port}")


def test_the_server_adds_its_commands_by_entry_points() -> None:
    found = entry_points(group=ENTRY_POINTS)
    assert {entry_point.name for entry_point in found} == set(SERVER_COMMANDS)
    for entry_point in found:
        assert entry_point.load() is main.get_command(click.Context(main), entry_point.name)


@pytest.mark.usefixtures("added")
class TestWithoutTheServer:
    def test_the_command_alone_prints_its_help(self) -> None:
        result = run()
        assert result.output.startswith("Usage: jobstate [OPTIONS] COMMAND")
        assert [line.split()[0] for line in result.output.partition("Commands:\n")[2].splitlines()] == list(COMMANDS)

    @pytest.mark.parametrize("name", SERVER_COMMANDS)
    def test_a_command_of_the_server_says_how_to_install_it(self, name: str) -> None:
        result = run(name, "--port", "9000")
        assert result.exit_code == 2
        assert f"`jobstate {name}` {SERVER_HINT}" in result.stderr

    def test_options_of_serve_are_unknown(self) -> None:
        result = run("--port", "9000")
        assert (result.exit_code, "No such option" in result.stderr) == (2, True)

    def test_the_commands_of_the_client_exist(self) -> None:
        for name in COMMANDS:
            assert run(name, "--help").exit_code == 0


def test_serve_is_the_default_command_where_it_is_installed(added: list[EntryPoint]) -> None:
    added.append(EntryPoint("serve", f"{__name__}:other", ENTRY_POINTS))
    assert run().output == "other None\n"
    assert run("--port", "9000").output == "other 9000\n"


def test_another_package_adds_a_command_but_replaces_none(added: list[EntryPoint]) -> None:
    added += [EntryPoint(name, f"{__name__}:other", ENTRY_POINTS) for name in ("archive", "list")]
    assert run("archive").output == "other None\n"
    assert "List jobs" in run("list", "--help").output
    assert run("--help").output.splitlines()[-1].split()[:2] == ["archive", "Do"]


@pytest.mark.parametrize("module", ["jobstate", "service"])
def test_the_command_is_also_a_module(module: str) -> None:
    result = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "jobstate, version 0.3.0\n")
