from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.background.reaper import END_DELAYS_FAILED, REAP_FAILED, REAP_GRACE_PERIOD, TIME_OUT_FAILED, Reaper
from service.domain.errors import StoreCorrupt, StoreTimeout
from service.domain.states import Status
from service.store.delays import DelaysEnded
from service.store.leases import ReapedJob

GRACE = REAP_GRACE_PERIOD.total_seconds()


class Leases:
    """Leases, delays and time-outs of a Redis whose clock a test sets; each call counts, and fails as a test says."""

    def __init__(
        self,
        *,
        next_delay: float | None = None,
        next_expiry: float | None = None,
        next_timeout: float | None = None,
        following_timeout: float | None = None,
    ) -> None:
        self.now = 1000.0
        self.next_delay = next_delay
        self.next_expiry = next_expiry
        self.next_timeout = next_timeout
        #: The first time-out that is left once those that are over are ended.
        self.following_timeout = following_timeout
        self.timed_out: list[ReapedJob] = []
        self.failures: Mapping[str, Exception] = {}
        self.calls: list[str] = []

    async def end_delays(self, _: object) -> DelaysEnded:
        self._call("end_delays")
        return DelaysEnded(self.now, self.next_delay, self.next_timeout)

    async def time_out(self, _: object) -> tuple[list[ReapedJob], float | None]:
        self._call("time_out")
        return self.timed_out, self.following_timeout

    async def reap(self, _: object) -> tuple[list[ReapedJob], float | None]:
        self._call("reap")
        return [], self.next_expiry

    async def get_time(self, _: object) -> float:
        self._call("get_time")
        return self.now

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]


def reaper_of(leases: Leases) -> Reaper:
    untyped: Any = leases
    return Reaper(untyped)


async def run_at(reaper: Reaper, leases: Leases, times: Iterable[float]) -> list[list[str]]:
    """Run at each of these times of Redis, in seconds since the first one, and return the calls of each run."""
    calls = []
    for time in times:
        leases.now, leases.calls = 1000 + time, []
        await reaper.run_once()
        calls.append(leases.calls)
    return calls


@pytest.mark.parametrize(("next_delay", "pause"), [(None, 1.0), (60.0, 1.0), (0.3, 0.3), (0.0, 0.1)])
async def test_it_waits_until_the_next_delay_is_over_but_at_most_a_second(
    next_delay: float | None, pause: float
) -> None:
    assert await reaper_of(Leases(next_delay=next_delay)).run_once() == pause


@pytest.mark.parametrize(("next_expiry", "pause"), [(None, 1.0), (60.0, 1.0), (0.3, 0.3), (0.0, 0.1)])
async def test_it_waits_until_the_next_lease_expires_but_at_most_a_second(
    next_expiry: float | None, pause: float
) -> None:
    leases = Leases(next_expiry=next_expiry)
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5])
    leases.now += GRACE - 5
    assert await reaper.run_once() == pytest.approx(pause)


async def test_delays_end_at_once_and_leases_after_the_grace_period() -> None:
    leases = Leases()
    *graced, first = await run_at(reaper_of(leases), leases, range(int(GRACE) + 1))

    assert graced == [["end_delays"]] * int(GRACE)
    assert first == ["end_delays", "reap"]


async def test_an_idle_service_makes_one_call_a_run_and_looks_at_the_leases_every_five_seconds() -> None:
    leases = Leases()
    reaper = reaper_of(leases)
    await run_at(reaper, leases, range(int(GRACE)))

    calls = await run_at(reaper, leases, range(int(GRACE), int(GRACE) + 10))

    assert [len(names) for names in calls] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1]


async def test_leases_are_reaped_again_as_soon_as_the_next_one_expires() -> None:
    leases = Leases(next_expiry=2.5)
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5])

    assert await run_at(reaper, leases, [GRACE, GRACE + 2.4, GRACE + 2.5]) == [
        ["end_delays", "reap"],
        ["end_delays"],
        ["end_delays", "reap"],
    ]


@pytest.mark.parametrize("time", [GRACE + 7, GRACE - 1], ids=["a suspension", "a clock that went back"])
async def test_the_grace_period_begins_again_after(time: float) -> None:
    leases = Leases(next_expiry=0.0)
    reaper = reaper_of(leases)
    assert await run_at(reaper, leases, [0, 5, GRACE]) == [["end_delays"], ["end_delays"], ["end_delays", "reap"]]

    assert await run_at(reaper, leases, [time, time + 5, time + GRACE]) == [
        ["end_delays"],
        ["end_delays"],
        ["end_delays", "reap"],
    ]


@pytest.mark.parametrize("call", ["end_delays", "reap"])
async def test_the_grace_period_begins_again_after_an_outage(call: str) -> None:
    leases = Leases()
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5])
    leases.failures = {call: StoreTimeout()}
    await run_at(reaper, leases, [GRACE])
    leases.failures = {}

    assert await run_at(reaper, leases, [GRACE + 1, GRACE + 6, GRACE + 11]) == [
        ["end_delays"],
        ["end_delays"],
        ["end_delays", "reap"],
    ]


@pytest.mark.parametrize(
    ("next_timeout", "following", "pause"),
    [(60.0, None, 1.0), (0.3, None, 0.3), (0.0, None, 1.0), (0.0, 60.0, 1.0), (0.0, 0.3, 0.3), (0.0, 0.0, 0.1)],
)
async def test_it_waits_until_the_next_timeout_is_over_but_at_most_a_second(
    next_timeout: float, following: float | None, pause: float
) -> None:
    leases = Leases(next_timeout=next_timeout, following_timeout=following)
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5])
    leases.now += GRACE - 5
    assert await reaper.run_once() == pytest.approx(pause)


async def test_timeouts_end_when_they_are_over_and_after_the_grace_period() -> None:
    leases = Leases(next_timeout=0.0)
    reaper = reaper_of(leases)
    *graced, first = await run_at(reaper, leases, range(int(GRACE) + 1))
    assert ["time_out" in calls for calls in graced] == [False] * int(GRACE)
    assert first == ["end_delays", "time_out", "reap"]

    leases.next_timeout = 0.1
    assert await run_at(reaper, leases, [GRACE + 1]) == [["end_delays"]]


async def test_what_times_out_is_logged_by_its_reason() -> None:
    leases = Leases(next_timeout=0.0)
    leases.timed_out = [
        ReapedJob("long", "run-timeout", Status.PENDING),
        ReapedJob("late", "start-timeout", Status.FAILED),
    ]
    with capture_logs() as logs:
        await run_at(reaper_of(leases), leases, [0, 5, GRACE])
    assert [(entry["event"], entry["job_id"], entry["status"]) for entry in logs] == [
        ("run timed out", "long", "pending"),
        ("start timed out", "late", "failed"),
    ]


async def test_leases_are_reaped_while_delays_cannot_be_ended() -> None:
    leases = Leases()
    leases.failures = {"end_delays": StoreCorrupt("unexpected type")}
    *_, last = await run_at(reaper_of(leases), leases, [0, 5, GRACE])
    assert last == ["end_delays", "get_time", "time_out", "reap"]


async def test_delays_are_ended_while_leases_cannot_be_reaped() -> None:
    leases = Leases(next_delay=0.3)
    leases.failures = {"reap": StoreCorrupt("unexpected type")}
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5, GRACE])
    assert await reaper.run_once() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("call", "event"),
    [("end_delays", END_DELAYS_FAILED), ("reap", REAP_FAILED), ("time_out", TIME_OUT_FAILED)],
)
async def test_a_failure_that_lasts_is_logged_once_and_again_after_a_success(call: str, event: str) -> None:
    leases = Leases(next_expiry=0.0, next_timeout=0.0)
    reaper = reaper_of(leases)
    await run_at(reaper, leases, [0, 5])

    with capture_logs() as logs:
        for failures in ({call: StoreCorrupt("unexpected type")}, {}, {call: StoreCorrupt("unexpected type")}):
            leases.failures = failures
            await run_at(reaper, leases, range(10, 30, 5))

    assert [entry["event"] for entry in logs] == [event, event]
