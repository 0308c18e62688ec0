"""The lock between processes; here each process is played by a thread with a `FairLock` of its own."""

import threading
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

import pytest

from tests.helpers.locks import FairLock
from tests.helpers.polling import wait_until


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("lock", "entry"):
        (tmp_path / name).touch()
    return tmp_path / "lock", tmp_path / "entry"


def is_free(path: Path, kind: int) -> bool:
    with path.open() as file:
        try:
            flock(file, kind | LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_shared_use_excludes_only_exclusive_use(files: tuple[Path, Path]) -> None:
    lock, lock_file = FairLock(*files), files[0]
    with lock.shared():
        assert (is_free(lock_file, LOCK_SH), is_free(lock_file, LOCK_EX)) == (True, False)
        with lock.exclusive():
            assert not is_free(lock_file, LOCK_SH)
        assert (is_free(lock_file, LOCK_SH), is_free(lock_file, LOCK_EX)) == (True, False)
    assert is_free(lock_file, LOCK_EX)


def test_two_exclusive_users_run_one_after_the_other(files: tuple[Path, Path]) -> None:
    both_run, active, max_active = threading.Barrier(2), [0], [0]

    def run(lock: FairLock) -> None:
        with lock.shared():
            both_run.wait(10)
            with lock.exclusive():
                active[0] += 1
                max_active[0] = max(max_active[0], active[0])
                active[0] -= 1

    threads = [threading.Thread(target=run, args=[FairLock(*files)], daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert max_active == [1]


def test_a_waiting_exclusive_user_is_not_overtaken(files: tuple[Path, Path]) -> None:
    first, waiting, late = FairLock(*files), FairLock(*files), FairLock(*files)
    order: list[str] = []
    is_shared = threading.Event()

    def run_exclusively() -> None:
        with waiting.shared():
            is_shared.set()
            with waiting.exclusive():
                order.append("exclusive")

    def run_late() -> None:
        with late.shared():
            order.append("late")

    threads = [threading.Thread(target=target, daemon=True) for target in (run_exclusively, run_late)]
    with first.shared():
        threads[0].start()
        assert is_shared.wait(10)
        wait_until(lambda: not is_free(files[1], LOCK_EX), "process that waits for exclusive use")
        threads[1].start()
    for thread in threads:
        thread.join(10)
    assert order == ["exclusive", "late"]
