"""When a request is sent again. No I/O: the caller sleeps."""

import math
import random
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from jobstate.errors import Redirected, ServiceUnavailable

#: A delay is multiplied by a random factor in this range, so that many clients do not come back at the same time.
_JITTER: Final = (1.0, 1.25)
#: The most seconds of `Retry-After` that a persistent call waits: a proxy may ask for a day, and a drain may end early.
_MAX_RETRY_AFTER: Final = 60.0


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How requests are retried after lost connections, 429 and 5xx.

    The delay doubles from `first_delay` to `max_delay` seconds, and is at least the service's `Retry-After`.
    `max_attempts` limits the attempts of one call, but not those of a `wait`; `None` means that only time is limited.
    """

    first_delay: float = 0.25
    max_delay: float = 5.0
    max_attempts: int | None = None


class Deadline:
    """A moment after which nothing more is sent; `None` seconds: never."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = math.inf if seconds is None else clock() + seconds

    @property
    def remaining(self) -> float:
        """The seconds that are left, at least 0; infinite without a limit."""
        return max(0.0, self._at - self._clock())


class Retry:
    """The retries of one call: they end at `deadline`.

    A `persistent` call retries until the deadline whatever happens. Others give up after `max_attempts`, on a redirect,
    and if the next attempt would come after the deadline.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        deadline: Deadline,
        *,
        persistent: bool = False,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.deadline = deadline
        self._policy = policy
        self._persistent = persistent
        self._jitter = jitter
        self._failures = 0

    @property
    def failures(self) -> int:
        """The number of failures since the last success."""
        return self._failures

    def delay_after(self, error: ServiceUnavailable) -> float | None:
        """Return the seconds before the next attempt; `None` if the call must give up and raise `error`."""
        backoff = min(self._policy.first_delay * 2 ** min(self._failures, 30), self._policy.max_delay)
        retry_after = min(error.retry_after, _MAX_RETRY_AFTER) if self._persistent else error.retry_after
        delay = max(backoff, retry_after) * self._jitter(*_JITTER)
        self._failures += 1
        remaining = self.deadline.remaining
        if self._persistent:
            return min(delay, remaining) if remaining > 0 else None
        exhausted = self._policy.max_attempts is not None and self._failures >= self._policy.max_attempts
        return None if exhausted or delay >= remaining or isinstance(error, Redirected) else delay

    def reset(self) -> None:
        """Start again with the shortest delay, after a success."""
        self._failures = 0
