"""Turns of several processes: here each is played by locks of its own."""

import threading
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

import pytest

from tests.helpers.locks import FairLock
from tests.helpers.polling import wait_until


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("room", "door"):
        (tmp_path / name).touch()
    return tmp_path / "room", tmp_path / "door"


def is_free(room: Path, kind: int) -> bool:
    with room.open() as another:
        try:
            flock(another, kind | LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_tests_run_beside_others_unless_one_is_alone(files: tuple[Path, Path]) -> None:
    turns, room = FairLock(*files), files[0]
    with turns.shared():
        assert (is_free(room, LOCK_SH), is_free(room, LOCK_EX)) == (True, False)
        with turns.exclusive():
            assert not is_free(room, LOCK_SH)
        assert (is_free(room, LOCK_SH), is_free(room, LOCK_EX)) == (True, False)
    assert is_free(room, LOCK_EX)


def test_two_who_both_want_to_be_alone_are_so_one_after_the_other(files: tuple[Path, Path]) -> None:
    both_run, crowd, most = threading.Barrier(2), [0], [0]

    def run(turns: FairLock) -> None:
        with turns.shared():
            both_run.wait(10)
            with turns.exclusive():
                crowd[0] += 1
                most[0] = max(most[0], crowd[0])
                crowd[0] -= 1

    threads = [threading.Thread(target=run, args=[FairLock(*files)], daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


def test_who_waits_to_be_alone_is_not_passed_by_those_who_come_later(files: tuple[Path, Path]) -> None:
    first, waiting, late = FairLock(*files), FairLock(*files), FairLock(*files)
    order: list[str] = []
    is_in = threading.Event()

    def be_alone() -> None:
        with waiting.shared():
            is_in.set()
            with waiting.exclusive():
                order.append("alone")

    def come() -> None:
        with late.shared():
            order.append("late")

    threads = [threading.Thread(target=target, daemon=True) for target in (be_alone, come)]
    with first.shared():
        threads[0].start()
        assert is_in.wait(10)
        wait_until(lambda: not is_free(files[1], LOCK_EX), "the wait in the door")
        threads[1].start()
    for thread in threads:
        thread.join(10)
    assert order == ["alone", "late"]
