"""The script in docs/terminal.md works as written."""

import re
import subprocess
import sys

import httpx

from tests.helpers.cli_process import environment
from tests.helpers.paths import ROOT
from tests.helpers.polling import wait_until
from tests.integration.terminal.test_cli import move

TEXT = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")


def test_the_script_prints_the_result_or_the_exit_code(api: httpx.Client) -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for status, ending, output in [
        ("completed", {"result": "Hello, Ann"}, ('"Hello, Ann"\n', "")),
        ("failed", {}, ("", "no greeting: exit code 3\n")),
    ]:
        with subprocess.Popen(
            ["bash", "-c", f'jobstate() {{ {sys.executable} -m service "$@"; }}\n{script}'],
            env=environment(str(api.base_url)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            items = wait_until(lambda: api.get("/v1/jobs?queue=greetings&status=pending").json()["items"], "the job")
            move(api, items[0]["job_id"], "running")
            move(api, items[0]["job_id"], status, **ending)
            assert running.communicate(timeout=30) == output
