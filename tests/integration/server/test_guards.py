"""The processes of tests end with the tests."""

import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.polling import wait_until
from tests.integration.server.test_supervisor import is_alive

PROGRAM = """
import os, signal, sys
from pathlib import Path
from tests.helpers.service_process import Service

print("pid", Service(Path(sys.argv[1])).process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_service_ends_with_the_killed_tests_that_started_it(tmp_path: Path) -> None:
    tests = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    found = re.search(r"pid (\d+)", tests.stdout)
    assert found, tests.stderr

    wait_until(lambda: not is_alive(int(found[1])), "the end of the service")
