"""The exchange's clock as we know it: the best sample wins, and its error is bounded."""

import runpy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import clock as clock_module
from utils.clock import ServerClock, SystemClock

NOW_MS = 1_790_000_000_000


class SetClock:
    """A clock that shows what it was set to."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def time_ms(self) -> int:
        """The time that was set."""
        return self.now_ms

    def monotonic_ns(self) -> int:
        """The same, in ns."""
        return self.now_ms * 1_000_000


def test_clock_of_this_machine_tells_its_time() -> None:
    """Wall time in ms, and a monotonic time in ns that does not step back."""
    clock = SystemClock()
    before_ms, before_ns = time.time_ns() // 1_000_000, clock.monotonic_ns()
    now_ms, now_ns = clock.time_ms(), clock.monotonic_ns()
    assert before_ms <= now_ms <= time.time_ns() // 1_000_000
    assert before_ns <= now_ns <= clock.monotonic_ns()


@pytest.mark.parametrize("has_such_a_clock", [True, False])
def test_monotonic_time_goes_on_while_the_machine_is_suspended(
    monkeypatch: pytest.MonkeyPatch, has_such_a_clock: bool
) -> None:
    """Where the system has a clock that does; elsewhere it is the ordinary one."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
        patch.setattr(time, "clock_gettime_ns", {7: 90_000_000_000}.__getitem__)
        patch.setattr(time, "monotonic_ns", lambda: 30_000_000_000)
        if not has_such_a_clock:
            patch.delattr(time, "CLOCK_BOOTTIME")
        found = runpy.run_path(clock_module.__file__)["SystemClock"]().monotonic_ns()
    assert found == (90_000_000_000 if has_such_a_clock else 30_000_000_000)


def test_unmeasured_clock_is_the_local_one() -> None:
    """No offset is assumed."""
    clock = ServerClock(SetClock())
    assert (clock.time_ms(), clock.offset_ms, clock.round_trip_ms) == (NOW_MS, 0, None)


@given(
    offset_ms=st.integers(-10_000_000, 10_000_000),
    there_ms=st.integers(0, 5000),
    back_ms=st.integers(0, 5000),
)
def test_error_of_a_sample_is_at_most_half_its_round_trip(
    offset_ms: int, there_ms: int, back_ms: int
) -> None:
    """However uneven the ways there and back are."""
    clock = ServerClock(SetClock())
    clock.learn(
        sent_ms=NOW_MS,
        received_ms=NOW_MS + there_ms + back_ms,
        server_ms=NOW_MS + there_ms + offset_ms,
    )
    assert abs(clock.offset_ms - offset_ms) <= (there_ms + back_ms + 1) // 2


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8))
def test_sample_with_the_shortest_round_trip_wins(ways_ms: list[tuple[int, int]]) -> None:
    """Whatever comes after it."""
    clock = ServerClock(SetClock())
    for there_ms, back_ms in ways_ms:
        clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS + there_ms + back_ms, server_ms=NOW_MS + 7 + there_ms)
    best = min(there_ms + back_ms for there_ms, back_ms in ways_ms)
    assert clock.round_trip_ms == best
    assert abs(clock.offset_ms - 7) <= (best + 1) // 2


def test_new_measurement_forgets_how_good_the_old_one_was() -> None:
    """A machine that slept has a new offset, though the way is longer now."""
    clock = ServerClock(SetClock())
    clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS + 2, server_ms=NOW_MS + 1)
    clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS + 10, server_ms=NOW_MS + 905)
    assert clock.offset_ms == 0
    clock.restart()
    clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS + 10, server_ms=NOW_MS + 905)
    assert (clock.offset_ms, clock.round_trip_ms) == (900, 10)


@pytest.mark.parametrize("step_ms", [1, 500, 3_600_000])
def test_sample_during_which_the_local_clock_stepped_back_is_none(step_ms: int) -> None:
    """It would pass for a perfect one, and shut out every true sample after it."""
    clock = ServerClock(SetClock())
    clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS - step_ms, server_ms=NOW_MS)
    assert clock.round_trip_ms is None
    clock.learn(sent_ms=NOW_MS - step_ms, received_ms=NOW_MS - step_ms + 4, server_ms=NOW_MS + 2)
    assert (clock.offset_ms, clock.round_trip_ms) == (step_ms, 4)


def test_time_of_the_exchange_moves_with_the_local_clock() -> None:
    """The offset is on top of whatever the local clock shows."""
    local = SetClock()
    clock = ServerClock(local)
    clock.learn(sent_ms=NOW_MS, received_ms=NOW_MS, server_ms=NOW_MS - 250)
    local.now_ms += 1000
    assert clock.time_ms() == NOW_MS + 750
