"""Doubts that come back: the first ones are settled at once, more of them ever later."""

from core.relapse import Relapses

S = 1_000_000_000


def pauses(times_s: list[float], *, settles_after_s: float = 0.02) -> list[float]:
    """The pause before each of the doubts that come at these times, each settled a little after its pause."""
    relapses, found = Relapses(), []
    for time_s in times_s:
        found.append(relapses.pause_s(int(time_s * S)))
        relapses.settled(int((time_s + found[-1] + settles_after_s) * S))
    return found


def test_doubts_in_a_row_are_settled_ever_later_up_to_a_bound() -> None:
    """One follows the other closely: at once twice, then with doubling pauses."""
    assert pauses([0, 0, 1, 2, 4, 7, 12, 20, 28]) == [0, 0, 0, 0.25, 0.5, 1, 2, 4, 4]


def test_calm_makes_the_next_doubt_the_first() -> None:
    """One now and then has nobody wait."""
    assert pauses([0, 0, 1, 2, 20, 40, 41, 42]) == [0, 0, 0, 0.25, 0, 0, 0, 0.25]


def test_doubt_while_another_is_being_settled_is_no_other_one() -> None:
    """Until it is settled, whatever else comes up is settled with it."""
    relapses = Relapses()
    relapses.settled(0)
    assert [relapses.pause_s(S) for _ in range(9)] == [0] * 9
