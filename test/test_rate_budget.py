"""The rate budget: reserved shares, fixed windows, and the exchange's own word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rate_budget import SHARE_PERCENT, TURN_MS, Cost, Counts, Lane, RateBudget, Sizes, Window

MINUTE = 1_790_000_040_000
"""The start of a minute."""

NO_COUNTS = Counts()
ORDER = Cost(weight=0, orders_10s=1, orders_1m=1)


def used_up_to(percent: int) -> RateBudget:
    """A budget of 1000 of each, of which so much is used."""
    budget = RateBudget(Sizes(1000, 1000, 1000))
    used = percent * 10
    assert budget.try_take(Lane.CANCEL, Cost(used, used, used), MINUTE) == 0
    return budget


@pytest.mark.parametrize(("lane", "percent"), SHARE_PERCENT.items())
def test_a_lane_stops_at_its_share(lane: Lane, percent: int) -> None:
    """The last unit of the share goes, the next one waits for the new minute."""
    budget = used_up_to(percent)
    assert budget.wait_ms(lane, Cost(1), MINUTE + 1000) == 59_000
    assert used_up_to(percent - 1).wait_ms(lane, Cost(1), MINUTE + 1000) == 0


def test_shares_grow_with_importance() -> None:
    """What a lane may not use is reserved for those before it; cancels may use all."""
    shares = [SHARE_PERCENT[lane] for lane in Lane]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], SHARE_PERCENT[Lane.AMEND], SHARE_PERCENT[Lane.PLACE], shares[-1]) == (100, 85, 75, 60)


def test_the_order_limits_have_windows_of_their_own() -> None:
    """A full 10 s window is waited for by orders only, and only for the rest of the 10 s."""
    budget = RateBudget(Sizes(2400, 4, 1200))
    for _ in range(3):
        assert budget.try_take(Lane.PLACE, ORDER, MINUTE + 2000) == 0
    assert budget.try_take(Lane.PLACE, ORDER, MINUTE + 2500) == 7500
    assert budget.try_take(Lane.CANCEL, Cost(1), MINUTE + 2500) == 0
    assert budget.try_take(Lane.PLACE, ORDER, MINUTE + 10_000) == 0


def test_a_request_that_waits_is_not_counted() -> None:
    """Asking again and again uses nothing."""
    budget = used_up_to(60)
    for _ in range(10):
        assert budget.try_take(Lane.QUERY, Cost(1), MINUTE) == 60_000
    assert budget.weight.used(MINUTE) == 600


def test_what_others_use_is_learnt_from_the_answers() -> None:
    """The exchange's count is of the whole address; ours is added as far as it has not been answered."""
    budget = RateBudget()
    taken_ms = MINUTE + TURN_MS
    budget.try_take(Lane.QUERY, Cost(5), taken_ms)
    budget.try_take(Lane.QUERY, Cost(7), taken_ms)
    budget.settle(Cost(5), taken_ms, taken_ms + 50, Counts(weight_1m=1400))
    assert budget.weight.used(taken_ms + 50) == 1407


def test_a_smaller_count_of_the_exchange_changes_nothing() -> None:
    """Answers may overtake each other, and some endpoints count wrongly."""
    budget = used_up_to(50)
    budget.settle(Cost(500, 500, 500), MINUTE + TURN_MS, MINUTE + TURN_MS + 50, Counts(1, 2, 3))
    assert budget.weight.used(MINUTE + TURN_MS + 50) == 500


@pytest.mark.parametrize(("after_ms", "used"), [(-10, 0), (TURN_MS - 1, 5), (TURN_MS, 2000)])
def test_a_count_from_the_turn_of_the_window_is_not_believed(after_ms: int, used: int) -> None:
    """It may still be of the old window, and would hold us back for the whole new one; clocks agree only so far."""
    budget = RateBudget()
    budget.try_take(Lane.QUERY, Cost(5), MINUTE + after_ms)
    budget.settle(Cost(5), MINUTE + after_ms, MINUTE + TURN_MS + 10, Counts(weight_1m=2000))
    assert budget.weight.used(MINUTE + TURN_MS + 10) == used


def test_last_count_says_it_all_while_the_time_is_not_known() -> None:
    """What is full is not exceeded, and a window that turns out to have begun anew is not taken for a full one."""
    budget, taken_ms = RateBudget(), MINUTE + 500
    for weight, wait_ms in ((2400, 59_400), (3, 0), (2400, 59_400)):
        budget.try_take(Lane.CANCEL, Cost(0), taken_ms)
        budget.settle(Cost(0), taken_ms, taken_ms + 10, Counts(weight_1m=weight), time_is_known=False)
        assert budget.wait_ms(Lane.CANCEL, Cost(1), taken_ms + 100) == wait_ms
    assert (budget.is_doubted, budget.weight.used(taken_ms + 100)) == (True, 2400)
    budget.forget_doubted()
    assert (budget.is_doubted, budget.wait_ms(Lane.CANCEL, Cost(1), taken_ms + 100)) == (False, 0)


def test_count_of_a_time_that_was_not_known_goes_for_the_window_that_it_turns_out_to_be_of() -> None:
    """Once the time was measured, the last count is the exchange's word on the present window."""
    budget, taken_ms = RateBudget(), MINUTE + 500
    budget.settle(Cost(0), taken_ms, taken_ms + 10, Counts(2400, 300, 1200), time_is_known=False)
    budget.recount(MINUTE + 700)
    assert (budget.is_doubted, budget.wait_ms(Lane.CANCEL, Cost(1), MINUTE + 700)) == (False, 59_300)


def test_what_was_counted_by_a_wrong_clock_gives_way_to_the_exchange_s_last_count() -> None:
    """Told apart by a clock that was 20 s ahead, the full window was one that has not even begun."""
    budget = RateBudget()
    budget.try_take(Lane.QUERY, Cost(5, 5, 5), MINUTE + 110)
    budget.settle(Cost(5, 5, 5), MINUTE + 110, MINUTE + 120, Counts(2400, 300, 1200))
    assert budget.wait_ms(Lane.VERIFY, Cost(5), MINUTE + 130) == 59_870
    budget.try_take(Lane.CANCEL, Cost(0), MINUTE + 130)
    budget.settle(Cost(0), MINUTE + 130, MINUTE + 140, Counts(weight_1m=1))
    assert budget.weight.used(MINUTE + 140) == 2400
    budget.try_take(Lane.CANCEL, Cost(0, 2, 2), MINUTE + 140)
    budget.recount(MINUTE + 150)
    used = [each.used(MINUTE + 150) for each in (budget.weight, budget.orders_10s, budget.orders_1m)]
    assert used == [1, 302, 1202]


def test_a_request_that_was_not_sent_costs_nothing() -> None:
    """It is given back, but never to a window that it was not taken from."""
    budget = RateBudget()
    budget.try_take(Lane.PLACE, ORDER, MINUTE)
    budget.give_back(ORDER, MINUTE, MINUTE + 5)
    assert budget.orders_10s.used(MINUTE + 5) == 0
    budget.try_take(Lane.PLACE, ORDER, MINUTE + 9_999)
    budget.try_take(Lane.PLACE, ORDER, MINUTE + 10_000)
    budget.give_back(ORDER, MINUTE + 9_999, MINUTE + 10_001)
    assert budget.orders_10s.used(MINUTE + 10_001) == 1
    assert budget.orders_1m.used(MINUTE + 10_001) == 1


def test_a_request_larger_than_its_share_goes_when_nothing_is_used() -> None:
    """It would wait for ever otherwise."""
    budget = RateBudget(Sizes(10, 10, 10))
    assert budget.try_take(Lane.QUERY, Cost(30), MINUTE) == 0
    assert budget.try_take(Lane.QUERY, Cost(1), MINUTE) == 60_000


def test_no_limit_on_orders_holds_back_the_order_that_closes_a_position() -> None:
    """Whether it is one too many is for the exchange to say."""
    budget = RateBudget(Sizes(2400, 1, 1))
    budget.try_take(Lane.PLACE, ORDER, MINUTE)
    assert budget.try_take(Lane.CANCEL, ORDER, MINUTE) == 0
    assert budget.try_take(Lane.AMEND, ORDER, MINUTE) > 0


def test_a_window_starts_again_when_the_clock_is_set_back() -> None:
    """Counts of a time that is not now are of no use, in either direction."""
    window = Window(60_000, 100)
    window.take(90, MINUTE + 3_600_000)
    assert window.used(MINUTE) == 0


def test_new_sizes_keep_what_is_counted() -> None:
    """The demo exchange allows more than twice the weight."""
    budget = used_up_to(60)
    budget.resize(Sizes(6000, 300, 1200))
    assert budget.weight.used(MINUTE) == 600
    assert budget.wait_ms(Lane.QUERY, Cost(1), MINUTE) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Lane),
            st.integers(1, 40),
            st.integers(0, 5),
            st.integers(0, 4000),
            st.sampled_from(["answer", "lose", "give back"]),
        ),
        max_size=200,
    )
)
def test_no_window_is_ever_used_beyond_the_share_of_who_used_it(
    requests: list[tuple[Lane, int, int, int, str]],
) -> None:
    """Whatever comes in which order, no lane takes more than its share leaves, and nothing falls below zero."""
    budget, now_ms = RateBudget(Sizes(200, 20, 60)), MINUTE
    for lane, weight, orders, pause_ms, end in requests:
        now_ms += pause_ms
        cost = Cost(weight, orders, min(orders, 1))
        before = budget.weight.used(now_ms)
        wait_ms = budget.try_take(lane, cost, now_ms)
        after = budget.weight.used(now_ms)
        assert 0 <= wait_ms <= 60_000
        assert after == before + (0 if wait_ms else weight)
        assert wait_ms or before == 0 or after * 100 <= 200 * SHARE_PERCENT[lane]
        if not wait_ms and end == "give back":
            budget.give_back(cost, now_ms, now_ms)
            assert budget.weight.used(now_ms) == before
        elif not wait_ms:
            budget.settle(cost, now_ms, now_ms + 1, NO_COUNTS if end == "lose" else Counts(after))
        assert budget.weight.used(now_ms) >= 0
