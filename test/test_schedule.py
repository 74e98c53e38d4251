"""When a symbol's orders are looked at: at the interval, on a move, for a reset."""

from dataclasses import replace

from core.decision import QuietBand
from core.schedule import Schedule

from .examples import QUOTES

SECOND = 1_000_000_000
BAND = QuietBand(1_000, 2_000)
AMENDING = replace(QUOTES, refresh_mode="amend", min_requote_interval_ms=250)


def refreshed(now_ns: int = 7 * SECOND, reset_interval_s: float = 300) -> Schedule:
    """A schedule of amendments every 5 s whose orders are quiet from 1000 to 2000."""
    schedule = Schedule(AMENDING, reset_interval_s)
    schedule.refreshed(now_ns, BAND)
    return schedule


def test_first_refresh_is_due_at_once() -> None:
    """Nothing rests yet."""
    schedule = Schedule(AMENDING, 300)
    assert schedule.refresh_is_due(7 * SECOND)
    assert schedule.wait_ns(7 * SECOND) == 0


def test_refreshes_keep_the_rhythm_of_the_interval() -> None:
    """A refresh that began 0.3 s late does not shift the ones after it; one that was missed altogether does."""
    schedule = refreshed()
    assert schedule.wait_ns(7 * SECOND) == 5 * SECOND
    schedule.refreshed(12 * SECOND + 300_000_000, BAND)
    assert schedule.wait_ns(16 * SECOND) == SECOND
    schedule.refreshed(40 * SECOND, BAND)
    assert schedule.wait_ns(40 * SECOND) == 5 * SECOND


def test_move_out_of_the_band_is_a_reason_once() -> None:
    """The first book beyond tells; the ones after it have nothing to add until the orders were looked at."""
    schedule = refreshed()
    assert not schedule.moved_to(1_000)
    assert not schedule.moved_to(2_000)
    assert schedule.moved_to(2_001)
    assert not schedule.moved_to(2_002)
    schedule.refreshed(8 * SECOND, BAND)
    assert schedule.moved_to(999)


def test_move_is_followed_no_sooner_than_the_shortest_interval() -> None:
    """A quarter of a second after the refresh before it."""
    schedule = refreshed()
    schedule.moved_to(2_001)
    assert not schedule.refresh_is_due(7 * SECOND + 249_000_000)
    assert schedule.wait_ns(7 * SECOND) == 250_000_000
    assert schedule.refresh_is_due(7 * SECOND + 250_000_000)


def test_refresh_on_a_move_leaves_the_interval_as_it_is() -> None:
    """It comes besides the timer."""
    schedule = refreshed()
    schedule.moved_to(2_001)
    schedule.refreshed(9 * SECOND, BAND)
    assert schedule.wait_ns(9 * SECOND) == 3 * SECOND


def test_moves_are_not_followed_where_that_is_off() -> None:
    """Replacing on every move would lose every queue place; and the user may say no."""
    for settings in (replace(AMENDING, on_move=False), replace(AMENDING, refresh_mode="replace")):
        schedule = Schedule(settings, 300)
        schedule.refreshed(7 * SECOND, BAND)
        assert not schedule.moved_to(5_000)
        assert schedule.wait_ns(7 * SECOND) == 5 * SECOND


def test_reset_is_due_an_interval_after_quoting_began() -> None:
    """Counted from the first refresh, not put off by later ones."""
    schedule = refreshed()
    schedule.refreshed(306 * SECOND, BAND)
    assert not schedule.reset_is_due(306 * SECOND)
    assert schedule.wait_ns(306 * SECOND) == SECOND
    assert schedule.reset_is_due(307 * SECOND)


def test_everything_comes_back_right_after_a_reset() -> None:
    """The refresh is due at once, the next reset an interval later."""
    schedule = refreshed()
    schedule.was_reset(308 * SECOND)
    assert schedule.refresh_is_due(308 * SECOND)
    assert not schedule.reset_is_due(607 * SECOND)
    assert schedule.reset_is_due(608 * SECOND)


def test_reset_interval_of_0_means_never() -> None:
    """Not at once."""
    schedule = refreshed(reset_interval_s=0)
    assert not schedule.reset_is_due(10**9 * SECOND)


def test_closing_is_a_reset_of_its_own() -> None:
    """All quotes go out and come back anyway: the countdown begins anew, and the first refresh is due."""
    schedule = refreshed()
    schedule.close()
    assert schedule.reset_due_ns == 0
    assert schedule.refresh_is_due(8 * SECOND)
    schedule.refreshed(100 * SECOND, BAND)
    assert schedule.reset_due_ns == 400 * SECOND
