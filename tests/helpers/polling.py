"""Polling with a deadline, and free ports."""

import socket
import time
from collections.abc import Callable
from typing import Any

TIMEOUT = 30.0


def wait_until(condition: Callable[[], Any], description: str, timeout: float = TIMEOUT) -> Any:
    """Return what `condition` returns once it is true; fail the test after `patience` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{description} did not come about within {timeout} s"
        time.sleep(0.02)
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
