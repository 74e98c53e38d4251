"""How late the loop may be: a bound, a jump, and a clean stretch before all is well again."""

from core.loop_lag import Lag, LoopLag

MS = 1_000_000


def test_beat_within_the_bound_means_nothing() -> None:
    """Nor does a first one."""
    lag = LoopLag(250 * MS, 1000 * MS)
    assert lag.beat(10**12) == (Lag.NONE, 0)
    assert lag.beat(10**12 + 1250 * MS) == (Lag.NONE, 1000 * MS)
    assert lag.is_clean(10**12 + 1250 * MS)
    assert lag.longest_ns == 1000 * MS


def test_late_beat_counts_until_a_clean_stretch_has_passed() -> None:
    """A second one begins the stretch anew."""
    lag = LoopLag(250 * MS, 1000 * MS)
    lag.beat(0)
    assert lag.beat(1251 * MS) == (Lag.LATE, 1001 * MS)
    assert lag.beat(3000 * MS)[0] is Lag.LATE
    assert not lag.is_clean(7999 * MS)
    assert lag.is_clean(8000 * MS)


def test_jump_is_told_from_a_delay_whatever_the_bound() -> None:
    """Above two seconds nothing that was known is true any more."""
    for bound in (50, 60_000):
        lag = LoopLag(250 * MS, bound * MS)
        lag.beat(0)
        assert lag.beat(2251 * MS)[0] is Lag.JUMP


def test_missing_beat_is_an_objection_before_it_comes() -> None:
    """The first task that runs after a standstill need not be the one that beats."""
    lag = LoopLag(250 * MS, 1000 * MS)
    assert lag.objection(10**15) == ""
    lag.beat(0)
    assert lag.objection(1250 * MS) == ""
    assert lag.objection(1251 * MS) == "the event loop stood still for 1.0 s"
    lag.beat(5000 * MS)
    assert lag.objection(5000 * MS) == ""
