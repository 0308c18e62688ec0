import itertools
from collections.abc import Callable

import pytest

from jobstate import RetryPolicy
from jobstate._retry import Deadline, Retry
from jobstate.errors import ConnectionFailed, Overloaded, Redirected, ServiceUnavailable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def retry(clock: Clock, seconds: float | None, policy: RetryPolicy | None = None, persistent: bool = False) -> Retry:
    return Retry(policy or RetryPolicy(), Deadline(seconds, clock), persistent=persistent, jitter=lambda low, high: low)


def test_the_delay_doubles_up_to_its_maximum(clock: Clock) -> None:
    lasting = retry(clock, None)
    assert [lasting.delay_after(ConnectionFailed("")) for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_success_starts_the_delays_again(clock: Clock) -> None:
    lasting = retry(clock, None)
    lasting.delay_after(ConnectionFailed(""))
    lasting.reset()
    assert lasting.delay_after(ConnectionFailed("")) == 0.25


def test_the_delay_is_at_least_what_the_service_asks_for(clock: Clock) -> None:
    assert retry(clock, None).delay_after(Overloaded("", retry_after=7)) == 7


def test_the_delay_gets_jitter_upwards_only() -> None:
    delays = {Retry(RetryPolicy(), Deadline(None)).delay_after(Overloaded("", retry_after=8)) for _ in range(50)}
    assert len(delays) > 25
    assert all(delay is not None and 8 <= delay <= 10 for delay in delays)


GIVES_UP: list[tuple[str, Callable[[Clock], Retry], ServiceUnavailable]] = [
    ("the next attempt would come after the deadline", lambda clock: retry(clock, 5), Overloaded("", retry_after=5)),
    ("it was redirected", lambda clock: retry(clock, 5), Redirected("")),
    ("all attempts are used", lambda clock: retry(clock, 5, RetryPolicy(max_attempts=1)), ConnectionFailed("")),
]


@pytest.mark.parametrize(("reason", "build", "error"), GIVES_UP, ids=[reason for reason, *_ in GIVES_UP])
def test_a_call_gives_up_if(
    reason: str, build: Callable[[Clock], Retry], error: ServiceUnavailable, clock: Clock
) -> None:
    assert build(clock).delay_after(error) is None


def test_a_persistent_call_goes_on_until_its_deadline(clock: Clock) -> None:
    lasting = retry(clock, 3, RetryPolicy(max_attempts=1), persistent=True)
    assert lasting.delay_after(Redirected("")) == 0.25
    assert lasting.delay_after(Overloaded("", retry_after=60)) == 3
    clock.now += 3
    assert lasting.delay_after(Overloaded("")) is None


def test_a_persistent_call_waits_a_minute_at_most_for_what_a_proxy_asks_for(clock: Clock) -> None:
    asked = Overloaded("", retry_after=86_400)
    assert retry(clock, None, persistent=True).delay_after(asked) == 60
    assert retry(clock, None).delay_after(asked) == 86_400


def test_a_persistent_call_without_a_deadline_never_gives_up(clock: Clock) -> None:
    lasting = retry(clock, None, persistent=True)
    assert all(lasting.delay_after(ConnectionFailed("")) is not None for _ in itertools.repeat(None, 5_000))


def test_what_remains_is_never_negative(clock: Clock) -> None:
    deadline = Deadline(1, clock)
    clock.now += 2
    assert deadline.remaining == 0
