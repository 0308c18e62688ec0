"""Polling with a deadline, and ports."""

import socket
import time
from collections.abc import Callable
from typing import Any, Final

#: Seconds that a test waits for a condition.
TIMEOUT = 30.0

#: Sockets that are bound and do not listen.
_reserved: Final = list[socket.socket]()


def wait_until(condition: Callable[[], Any], description: str, timeout: float = TIMEOUT) -> Any:
    """Return the first true result of `condition`; fail the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"timed out after {timeout} s waiting for {description}"
        time.sleep(0.02)
    return result


def free_port() -> int:
    """Return a free TCP port on loopback, like `free_ports`."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return different free TCP ports on loopback, which no other program gets until this process exits.

    A server that is restarted finds its port free: the kernel gives a bound port to no one who asks for any port. With
    SO_REUSEADDR, as servers have it, a program can listen on the port all the same.
    """
    reserved = [socket.socket() for _ in range(count)]
    for bound in reserved:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
    _reserved.extend(reserved)
    return [int(bound.getsockname()[1]) for bound in reserved]
