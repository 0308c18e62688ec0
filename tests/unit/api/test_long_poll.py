import time

import pytest

from service.api.long_poll import parse_prefer_wait


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=5", 5),
        ("WAIT = 5", 5),
        ('wait="5"', 5),
        ("respond-async, wait=5", 5),
        ("wait=5; foo=bar, respond-async", 5),
        (',, foo; bar="x, y";baz , wait=5,', 5),
        ("wait=005", 5),
        ("wait=0", 0),
        ("wait=31", 30),
        ("wait=" + "9" * 5000, 30),
        ('foo="a, wait=2"', None),
        ('foo="a\\", wait=2"', None),
        ('foo; bar="a, wait=2"', None),
        ('foo="a, wait=2", wait=3', 3),
        ('foo="\\\\", wait=3', 3),
        ('foo="a, wait=2', None),
        ('foo="a, wait=2\\', None),
        ("foo; wait=2", None),
        ("foo=wait=2", None),
        ("await=2", None),
        ("wait", None),
        ("wait=", None),
        ("wait=x", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ('wait="5', None),
        ('wait=5"', None),
        ("wait=\u0662", None),
        ("wait=2, wait=3", 2),
        ("wait=x, wait=3", None),
    ],
)
def test_only_a_valid_wait_preference_counts(prefer: str | None, seconds: int | None) -> None:
    assert parse_prefer_wait(prefer) == seconds


@pytest.mark.parametrize(
    "prefer", ['"' * 60_000, "wait=" + "0" * 60_000 + "x", "\\" * 60_000, '"\\' * 30_000, "," * 60_000]
)
def test_a_long_prefer_header_is_parsed_in_linear_time(prefer: str) -> None:
    started = time.process_time()
    assert parse_prefer_wait(prefer) is None
    assert time.process_time() - started < 1
