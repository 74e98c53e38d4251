"""When a symbol's orders are looked at: at the interval, on a move, for a reset."""

from dataclasses import replace

import pytest

from core.decision import QuietBand
from core.schedule import Schedule
from core.settings import QuoteSettings

from .examples import MANAGE, QUOTES

SECOND = 1_000_000_000
BAND = QuietBand(19_999, 20_001, 20_000, 20_000)
"""Quiet at a mid of 20 000 half ticks, of which one basis point is 2."""
OUT = 20_020
"""Ten basis points away."""

AMENDING = replace(QUOTES, refresh_mode="amend", min_requote_interval_ms=250)


def schedule_of(settings: QuoteSettings = AMENDING, **managing: float) -> Schedule:
    """A schedule without patience, unless told otherwise."""
    return Schedule(settings, replace(MANAGE, **{"patience_bps_s": 0.0, **managing}))  # type: ignore[arg-type]


def refreshed(now_ns: int = 7 * SECOND, **managing: float) -> Schedule:
    """A schedule of amendments every 5 s whose orders rest at their targets for a mid of 20 000 half ticks."""
    schedule = schedule_of(**managing)
    schedule.moved_to(20_000, now_ns)
    schedule.refreshed(now_ns, BAND, now_ns)
    schedule.wait_ns(now_ns)
    return schedule


def test_first_refresh_is_due_at_once() -> None:
    """Nothing rests yet."""
    schedule = schedule_of()
    assert schedule.refresh_is_due(7 * SECOND)
    assert schedule.wait_ns(7 * SECOND) == 0


def test_refreshes_keep_the_rhythm_of_the_interval() -> None:
    """A refresh that began 0.3 s late does not shift the ones after it; one that was missed altogether does."""
    schedule = refreshed()
    assert schedule.wait_ns(7 * SECOND) == 5 * SECOND
    schedule.refreshed(12 * SECOND + 300_000_000, BAND, 12 * SECOND + 300_000_000)
    assert schedule.wait_ns(16 * SECOND) == SECOND
    schedule.refreshed(40 * SECOND, BAND, 40 * SECOND)
    assert schedule.wait_ns(40 * SECOND) == 5 * SECOND


def test_move_that_is_to_be_followed_later_is_told_once() -> None:
    """The first book beyond has whoever waits look sooner; the ones after it have nothing to add."""
    schedule, soon_ns = refreshed(), 7 * SECOND + 100_000_000
    assert not schedule.moved_to(20_001, soon_ns)
    assert schedule.moved_to(OUT, soon_ns)
    assert not schedule.moved_to(OUT + 1, soon_ns)
    schedule.moved_to(20_000, 8 * SECOND)
    schedule.refreshed(8 * SECOND, BAND, 8 * SECOND)
    schedule.wait_ns(8 * SECOND)
    assert schedule.moved_to(OUT, 8 * SECOND + 100_000_000)


def test_move_that_is_to_be_followed_now_is_told_each_time() -> None:
    """However soon whoever waits would look by itself; while quoting is closed there is nothing to follow."""
    schedule = refreshed()
    assert schedule.moved_to(OUT, 8 * SECOND)
    assert schedule.moved_to(OUT + 1, 8 * SECOND)
    schedule.close()
    schedule.wait_ns(8 * SECOND)
    assert not schedule.moved_to(OUT, 8 * SECOND)


def test_move_is_followed_no_sooner_than_the_shortest_interval() -> None:
    """A quarter of a second after the refresh before it."""
    schedule = refreshed()
    schedule.moved_to(OUT, 7 * SECOND + 1)
    assert not schedule.refresh_is_due(7 * SECOND + 249_000_000)
    assert schedule.wait_ns(7 * SECOND) == 250_000_000
    assert schedule.refresh_is_due(7 * SECOND + 250_000_000)


def test_refresh_on_a_move_leaves_the_interval_as_it_is() -> None:
    """It comes besides the timer."""
    schedule = refreshed()
    schedule.moved_to(OUT, 9 * SECOND)
    schedule.moved_to(20_000, 9 * SECOND)
    schedule.refreshed(9 * SECOND, BAND, 9 * SECOND)
    assert schedule.wait_ns(9 * SECOND) == 3 * SECOND


def test_moves_are_not_followed_where_that_is_off() -> None:
    """Replacing on every move would lose every queue place; and the user may say no."""
    for settings in (replace(AMENDING, on_move=False), replace(AMENDING, refresh_mode="replace")):
        schedule = schedule_of(settings, patience_bps_s=3.0)
        schedule.refreshed(7 * SECOND, BAND, 7 * SECOND)
        assert not schedule.moved_to(OUT, 7 * SECOND)
        assert schedule.wait_ns(7 * SECOND) == 5 * SECOND
        assert not schedule.is_patient(12 * SECOND)


def test_larger_deviation_is_followed_sooner() -> None:
    """With a patience of 3 bps·s: 2 bps after 1.5 s, 10 bps after 0.3 s; and what was used up counts."""
    for mid, wait_ns in ((20_004, 1_500_000_000), (OUT, 300_300_300)):
        schedule = refreshed(patience_bps_s=3.0)
        assert schedule.moved_to(mid, 8 * SECOND)
        assert schedule.wait_ns(8 * SECOND) == pytest.approx(wait_ns, rel=0.01)
        assert schedule.is_patient(8 * SECOND)
        assert not schedule.is_patient(8 * SECOND + int(wait_ns * 1.01))
    assert schedule.moved_to(20_040, 8 * SECOND + 150_000_000)
    assert schedule.wait_ns(8 * SECOND + 150_000_000) == pytest.approx(75_000_000, rel=0.01)


def test_flicker_is_not_followed() -> None:
    """A mid that comes back after a moment has used up that moment only."""
    schedule = refreshed(patience_bps_s=3.0)
    schedule.moved_to(OUT, 8 * SECOND)
    schedule.moved_to(20_000, 8 * SECOND + 100_000_000)
    assert schedule.wait_ns(9 * SECOND) == 3 * SECOND
    assert schedule.is_patient(12 * SECOND)


def test_patient_refresh_does_not_renew_patience() -> None:
    """The interval may come in between: what stood off its target still counts from when it did."""
    schedule = refreshed(patience_bps_s=3.0)
    schedule.moved_to(20_002, 11 * SECOND)
    schedule.refreshed(12 * SECOND, BAND, 12 * SECOND, is_patient=True)
    assert schedule.wait_ns(12 * SECOND) == pytest.approx(2 * SECOND, rel=0.01)
    schedule.refreshed(14 * SECOND, BAND, 14 * SECOND)
    assert schedule.is_patient(14 * SECOND)


def test_reset_is_due_an_interval_after_quoting_began() -> None:
    """Counted from the first refresh, not put off by later ones."""
    schedule = refreshed()
    schedule.refreshed(306 * SECOND, BAND, 306 * SECOND)
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
    schedule = refreshed(reset_interval_s=0.0)
    assert not schedule.reset_is_due(10**9 * SECOND)


def test_closing_is_a_reset_of_its_own() -> None:
    """All quotes go out and come back anyway: the countdown begins anew, and the first refresh is due."""
    schedule = refreshed()
    schedule.close()
    assert schedule.reset_due_ns == 0
    assert schedule.refresh_is_due(8 * SECOND)
    schedule.refreshed(100 * SECOND, BAND, 100 * SECOND)
    assert schedule.reset_due_ns == 400 * SECOND
