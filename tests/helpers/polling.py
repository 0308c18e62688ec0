"""Polling with a deadline, and free ports."""

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

#: Seconds that a test waits for a condition.
TIMEOUT = 30.0


def wait_until(condition: Callable[[], Any], description: str, timeout: float = TIMEOUT) -> Any:
    """Return the first true result of `condition`; fail the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"timed out after {timeout} s waiting for {description}"
        time.sleep(0.02)
    return result


def free_port() -> int:
    """Return a free TCP port on loopback."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return different free TCP ports on loopback."""
    with contextlib.ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
