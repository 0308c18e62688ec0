"""How pytest-xdist distributes the tests over processes."""

import os

import pytest
from xdist.scheduler import LoadFileScheduling

#: Files that run one after another, in one process: Chromium drops its connections when a network appears.
CHROMIUM_OR_NETWORKS = ("tests/browser/", "tests/integration/deploy/test_compose.py")
#: What takes longest starts first: else one process would still run it when the others have nothing left. Each file
#: takes 40 s or more on two processors.
LONGEST = (
    *CHROMIUM_OR_NETWORKS,
    "tests/integration/worker/test_job_worker.py",
    "tests/integration/store/test_copy.py",
    "tests/integration/api/test_schemathesis.py",
    "tests/chaos/",
    "tests/integration/api/test_watching.py",
    "tests/integration/server/test_supervisor.py",
    "tests/integration/server/test_signals.py",
    "tests/integration/clients/test_java.py",
    "tests/integration/server/test_limits.py",
    "tests/integration/client/test_pytest_plugin.py",
    "tests/integration/terminal/test_cli.py",
)


class FileScheduling(LoadFileScheduling):
    """Gives each file to one process, in the order of `start_longest_first`: unit tests fill the gaps at the end."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return "browser" if nodeid.startswith(CHROMIUM_OR_NETWORKS) else super()._split_scope(nodeid)


def start_longest_first(items: list[pytest.Item]) -> None:
    """Sort the tests by the time that their files take, roughly."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: next((places[name] for name in LONGEST if item.nodeid.startswith(name)), len(LONGEST)))


def processes(config: pytest.Config) -> int:
    """Return for `-n auto` how many processes run the tests; 0 for pytest's own, if the tests are of one file.

    There are more processes than processors, because tests mostly wait: five for two. 8,517 tests took 472 s with five
    on two processors, 486 s with four.
    """
    if len({argument.partition("::")[0] for argument in config.args}) == 1 and ".py" in config.args[0]:
        return 0
    return 5 * len(os.sched_getaffinity(0)) // 2
