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
    """Return a free TCP port on 127.0.0.1, like `free_ports`."""
    [port] = free_ports("127.0.0.1")
    return port


def free_ports(*hosts: str) -> list[int]:
    """Return a free TCP port of each host, which no other program gets until this process exits. They are different.

    A server that is restarted finds its port free: the kernel gives a bound port to no one who asks for any port. With
    SO_REUSEADDR, as servers have it, a program can listen on the port all the same.
    """
    ports: list[int] = []
    for host in hosts:
        while (port := _reserve_port(host)) in ports:
            pass
        ports.append(port)
    return ports


def _reserve_port(host: str) -> int:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, 0))
    _reserved.append(bound)
    return int(bound.getsockname()[1])
