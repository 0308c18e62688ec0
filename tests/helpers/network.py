"""A network of this process's own (a network namespace of Linux): each server has an address, and links can be cut.

The host's network is never touched. The kernel removes the namespace, with all rules in it, with its last process.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

#: Where links are cut: packets are dropped when they arrive.
_CHAIN: Final = "INPUT"
#: The address of what is no server: the service and the tests.
LOCALHOST: Final = "127.0.0.1"
#: The upper half of the ports that the kernel gives to connections.
UPPER_PORTS: Final = "46884:60999"
_CLONE_NEWNET: Final = 0x40000000
#: The namespace of a thread.
_NAMESPACE: Final = Path("/proc/thread-self/ns/net")

#: The namespaces that this process has entered.
_own: Final = set[str]()


def is_own() -> bool:
    """Whether this thread runs in a network of its own."""
    return bool(_own) and os.readlink(_NAMESPACE) in _own


@functools.cache
def why_not() -> str | None:
    """Return why this machine has no network of one's own with rules for packets, if it has none."""
    for program in ("unshare", "ip", "iptables-restore"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed"
    command = "ip link set lo up && iptables -w -A INPUT -s 127.1.0.1 -p tcp --dport 46884:60999 -j DROP"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"it takes root and Linux: {tried.stderr.strip()}"


@contextlib.contextmanager
def own() -> Iterator[None]:
    """Put this thread, and threads and processes that it starts, in a new network inside the `with` block.

    Those that it starts stay there.
    """
    libc, before = ctypes.CDLL(None, use_errno=True), os.open(_NAMESPACE, os.O_RDONLY)
    try:
        _check(libc.unshare(_CLONE_NEWNET))
        try:
            _own.add(os.readlink(_NAMESPACE))
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


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
