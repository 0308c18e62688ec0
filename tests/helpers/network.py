"""A network of this process's own (a network namespace of Linux): each server has an address, and links can be cut.

The host's network is never touched. The kernel removes the namespace, with all rules in it, with its last process.
"""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import Final

#: Set inside: the namespace of the process that has entered it.
_OUTSIDE: Final = "TEST_NETWORK_OUTSIDE"
#: Where links are cut: packets are dropped when they arrive.
_CHAIN: Final = "INPUT"
#: The address of what is no server: the service and the tests.
LOCALHOST: Final = "127.0.0.1"
#: The upper half of the ports that the kernel gives to connections.
UPPER_PORTS: Final = "46884:60999"


def is_own() -> bool:
    """Whether this process runs in a network of its own."""
    return os.environ.get(_OUTSIDE, _namespace()) != _namespace()


@functools.cache
def why_not() -> str | None:
    """Return why this machine has no network of one's own with rules for packets, if it has none."""
    if is_own():
        return None
    for program in ("unshare", "ip", "iptables"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed"
    command = "ip link set lo up && iptables -w -A INPUT -s 127.1.0.1 -p tcp --dport 46884:60999 -j DROP"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"it takes root and Linux: {tried.stderr.strip()}"


def command_inside(*command: str) -> list[str]:
    """Return the command that runs `command` in a network of its own."""
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


def environment_inside() -> dict[str, str]:
    """Return the environment variables of `command_inside`."""
    return {**os.environ, _OUTSIDE: _namespace()}


def enter(module: str) -> None:
    """Run this program, `python -m module`, again in a network of its own."""
    command = command_inside(sys.executable, "-m", module, *sys.argv[1:])
    os.execvpe(command[0], command, environment_inside())


def address(group: int, number: int) -> str:
    """Return the address of a server: in a network of one's own, one of its own."""
    return f"127.1.{group}.{number + 1}" if is_own() else LOCALHOST


@contextlib.contextmanager
def cut(side: Collection[str], other: Collection[str], upper_ports: Collection[str] = ()) -> Iterator[None]:
    """Drop all packets between the addresses of two sides inside the `with` block.

    From LOCALHOST to the addresses in `upper_ports`, only those of connections from the upper half of all ports are
    dropped.
    """
    assert is_own(), "the host's network is not touched"
    rules = [["-s", one, "-d", another] for a, b in itertools.product(side, other) for one, another in ((a, b), (b, a))]
    rules += [["-s", LOCALHOST, "-d", one, "-p", "tcp", "--sport", UPPER_PORTS] for one in upper_ports]
    rules += [["-s", one, "-d", LOCALHOST, "-p", "tcp", "--dport", UPPER_PORTS] for one in upper_ports]
    lines = [f"-A {_CHAIN} {' '.join(rule)} -j DROP" for rule in rules]
    _iptables(lines)  # all at once
    try:
        yield
    finally:
        _iptables([line.replace("-A", "-D", 1) for line in lines])


def _iptables(lines: list[str]) -> None:
    text = "\n".join(["*filter", *lines, "COMMIT", ""])
    subprocess.run(["iptables-restore", "--noflush", "-w"], input=text, text=True, check=True)


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:  # not Linux
        return ""
