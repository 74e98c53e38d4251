"""The brake on repeating what was refused for good."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from core.brake import (
    MAX_OPEN_ORDERS,
    MOST_A_MINUTE,
    POST_ONLY_WOULD_TAKE,
    PROBE_EVERY_S,
    PROBES_APART_S,
    STRIKES,
    UNREADABLE,
    CrossingBrake,
    RefusalBrake,
    told_code,
)
from core.model import Side
from utils.errors import Overloaded, RateLimited, Refused

SLOT = (Side.BUY, 1)
MARGIN_IS_INSUFFICIENT = -2019
PROBE_NS = int(PROBE_EVERY_S * 1e9)
APART_NS = int(PROBES_APART_S * 1e9)


def gripped(now_ns: int = 0) -> RefusalBrake:
    """A brake that has just gripped at `now_ns`."""
    brake = RefusalBrake()
    for _ in range(STRIKES):
        brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, now_ns)
    return brake


def test_refusal_that_will_pass_by_itself_is_no_strike_whatever_its_code() -> None:
    """The exchange is busy, or a limit was reached; else it counts by its code, or as one that cannot be read."""
    assert told_code(Overloaded(-1000, "Service Unavailable", 503)) == 0
    assert told_code(RateLimited(-4400, "too many", 429, retry_after_s=1, banned=False)) == 0
    assert told_code(Refused(-4400, "no", 400)) == -4400
    assert told_code(Refused(0, "no", 451)) == UNREADABLE


def test_slot_that_was_released_has_its_turn_after_a_refusal_of_another_kind_again() -> None:
    """It was held, tried in its turn, and released because another one was taken: that turn is not used up."""
    brake, sell = gripped(), (Side.SELL, 1)
    brake.refused(SLOT, MAX_OPEN_ORDERS, 1)
    for _ in range(STRIKES):
        brake.refused(sell, MAX_OPEN_ORDERS, 2)
    brake.accepted(sell, 3)
    later_ns = 2 * PROBE_NS
    for _ in range(STRIKES):
        brake.refused(SLOT, MAX_OPEN_ORDERS, later_ns)
    brake.refused(SLOT, -4014, later_ns)
    assert not brake.allows(SLOT, later_ns + APART_NS - 1)
    assert brake.allows(SLOT, later_ns + APART_NS)


def test_slot_that_was_never_refused_may_be_tried() -> None:
    """Nothing is braked from the start."""
    assert RefusalBrake().allows(SLOT, 0)


def test_brake_grips_at_the_third_refusal_and_says_so_once() -> None:
    """The fourth is no news."""
    brake = RefusalBrake()
    assert [brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, 0) for _ in range(4)] == [False, False, True, False]
    assert not brake.allows(SLOT, 1)


def test_braked_slot_is_tried_soon_and_then_once_a_minute() -> None:
    """A refused probe starts the next minute."""
    brake = gripped()
    assert not brake.allows(SLOT, APART_NS - 1)
    assert brake.allows(SLOT, APART_NS)
    brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, APART_NS)
    assert not brake.allows(SLOT, APART_NS + PROBE_NS - 1)
    assert brake.allows(SLOT, APART_NS + PROBE_NS)


def test_slot_that_was_refused_once_for_something_else_is_released_with_all_others() -> None:
    """A request that was damaged on its way would hold it back for a minute after the cause of all has passed."""
    brake = RefusalBrake()
    other = (Side.SELL, 1)
    for slot in (SLOT, other) * STRIKES:
        brake.refused(slot, -4088, 0)
    brake.refused(SLOT, -1102, APART_NS)
    assert not brake.allows(SLOT, 2 * APART_NS)
    assert brake.accepted(other, 2 * APART_NS)
    assert brake.allows(SLOT, 2 * APART_NS)


def test_lone_slot_that_is_held_for_what_holds_all_waits_no_minute_for_one_refusal_of_another_kind() -> None:
    """A second one of that kind is believed."""
    brake = RefusalBrake()
    for _ in range(STRIKES):
        brake.refused(SLOT, -4088, 0)
    brake.refused(SLOT, -1102, APART_NS)
    assert not brake.allows(SLOT, 2 * APART_NS - 1)
    assert brake.allows(SLOT, 2 * APART_NS)
    brake.refused(SLOT, -1102, 2 * APART_NS)
    assert not brake.allows(SLOT, 2 * APART_NS + PROBE_NS - 1)
    assert brake.allows(SLOT, 2 * APART_NS + PROBE_NS)


def test_slot_that_was_never_refused_for_what_holds_all_is_not_released_with_them() -> None:
    """It has a reason of its own."""
    brake = gripped()
    other = (Side.SELL, 1)
    for _ in range(STRIKES):
        brake.refused(other, -4088, 0)
    assert not brake.accepted(other, 1)
    assert not brake.allows(SLOT, 1)


def test_slots_that_were_refused_together_are_tried_one_after_the_other() -> None:
    """Every 10 s one of six, so that the end of what they were refused for is noticed soon."""
    brake = RefusalBrake()
    slots = [(side, level) for side in Side for level in (1, 2, 3)]
    for slot in slots * STRIKES:
        brake.refused(slot, MARGIN_IS_INSUFFICIENT, 0)
    assert [sum(brake.allows(slot, n * APART_NS) for slot in slots) for n in range(7)] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize("number", [1, 3, 6])
def test_slots_that_are_held_for_all_quotes_are_tried_in_turns_however_few_are_wanted(number: int) -> None:
    """Six were refused, and then so many are tried: twenty seconds never pass without a try, nor nine with two."""
    brake = RefusalBrake()
    slots = [(side, level) for side in Side for level in (1, 2, 3)]
    for slot in slots:
        for _ in range(STRIKES):
            brake.refused(slot, -4401, 0)
    tries = []
    for second in range(0, 600, 5):
        for slot in slots[:number]:
            if brake.allows(slot, second * 10**9):
                brake.refused(slot, -4401, second * 10**9)
                tries.append(second)
    late = [second for second in tries if second > 120]
    assert max(after - before for before, after in pairwise(late)) <= 20
    assert len(late) <= (600 - 120) / PROBES_APART_S + 1


def test_acceptance_releases_all_that_were_refused_for_the_same_and_no_others() -> None:
    """What one of them was refused for has passed."""
    brake = gripped()
    for slot, code in (((Side.SELL, 1), MARGIN_IS_INSUFFICIENT), ((Side.SELL, 2), -4164)):
        for _ in range(STRIKES):
            brake.refused(slot, code, 0)
    assert brake.accepted(SLOT, 0)
    assert not brake.accepted(SLOT, 0)
    assert brake.allows((Side.SELL, 1), 1)
    assert not brake.allows((Side.SELL, 2), 1)


def test_order_that_reduces_releases_its_own_side_alone() -> None:
    """It needs no margin, so that it is taken says nothing of orders that do; what holds all quotes it ends for all."""
    brake = gripped()
    slots = [(Side.BUY, 2), (Side.SELL, 1)]
    for slot in slots * STRIKES:
        brake.refused(slot, MARGIN_IS_INSUFFICIENT, 0)
    assert brake.accepted(SLOT, 0, reduces=True)
    assert [brake.allows(slot, 1) for slot in slots] == [True, False]
    for slot, code in [((Side.BUY, 3), -4400), ((Side.SELL, 3), -4400)] * STRIKES:
        brake.refused(slot, code, 0)
    assert brake.accepted((Side.BUY, 3), 0, reduces=True)
    assert brake.allows((Side.SELL, 3), 1)


def test_order_that_reduces_tells_that_there_is_room_for_more_of_them_on_both_sides() -> None:
    """Each counts for how many may be open, whatever it does to the position."""
    brake = RefusalBrake()
    slots = [(Side.BUY, 3), (Side.SELL, 3)]
    for slot in slots * STRIKES:
        brake.refused(slot, MAX_OPEN_ORDERS, 0)
    assert not any(brake.allows(slot, 1) for slot in slots)
    assert brake.accepted((Side.SELL, 3), 0, reduces=True)
    assert brake.allows((Side.BUY, 3), 1)


def test_end_of_a_refusal_of_the_whole_account_releases_all_that_such_refusals_held() -> None:
    """One slot was asked while this rule stood, another while that did; what is about a price stays."""
    brake = RefusalBrake()
    for slot, code in (
        (SLOT, -4400),
        ((Side.SELL, 1), -4105),
        ((Side.SELL, 2), -4131),
        ((Side.SELL, 3), -1122),
    ):
        for _ in range(STRIKES):
            brake.refused(slot, code, 0)
    brake.refused((Side.BUY, 2), -4400, 0)
    brake.accepted((Side.BUY, 2), 0)
    assert brake.allows((Side.SELL, 1), 1)
    assert brake.allows((Side.SELL, 3), 1)
    assert not brake.allows((Side.SELL, 2), 1)


def test_order_that_is_taken_beside_has_those_tried_once_that_were_refused_for_all() -> None:
    """The end of a restriction is noticed by slots that it never met; what holds only openings is not asked again."""
    brake = gripped()
    for _ in range(STRIKES):
        brake.refused((Side.SELL, 3), -2023, 0)
    assert not brake.allows((Side.SELL, 3), 1)
    assert brake.accepted((Side.SELL, 1), 0)
    assert brake.allows((Side.SELL, 3), 1)
    assert not brake.allows(SLOT, 1)
    brake.refused((Side.SELL, 3), -2023, 1)
    assert not brake.accepted((Side.SELL, 1), 0)
    assert not brake.allows((Side.SELL, 3), APART_NS)
    assert brake.allows((Side.SELL, 3), APART_NS + 1)


def test_accepted_order_releases_the_brake() -> None:
    """And the count begins anew."""
    brake = gripped()
    brake.accepted(SLOT, 0)
    assert brake.allows(SLOT, 1)
    assert not brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, 1)


@pytest.mark.parametrize("every", [2, 3, 4, 7])
def test_room_for_some_quotes_is_not_asked_for_by_the_others_again_and_again(every: int) -> None:
    """Two a side have room; in each so many refreshes the farthest goes first, alone: it is taken then, or refused."""
    brake, room, refused_ns = RefusalBrake(), 2, defaultdict[tuple[Side, int], list[int]](list)
    taken = Counter[Side]()
    for refresh in range(100):
        now_ns, is_proof = refresh * 5_000_000_000, refresh % every == 0
        wanted = [(side, level) for level in (1, 2, 3) for side in Side]
        tried = [slot for slot in wanted if brake.allows(slot, now_ns)]
        if is_proof:
            first = max(tried, key=lambda slot: slot[1])
            tried = [first, *(slot for slot in tried if slot != first)]
        taken = Counter()
        for number, slot in enumerate(tried):
            if taken[slot[0]] < room:
                taken[slot[0]] += 1
                brake.accepted(slot, now_ns, alone=is_proof and number == 0)
            else:
                brake.refused(slot, MARGIN_IS_INSUFFICIENT, now_ns)
                refused_ns[slot].append(now_ns)
        assert refresh < STRIKES * every or min(taken[side] for side in Side) > 0
    for times_ns in refused_ns.values():
        windows = zip(times_ns, times_ns[MOST_A_MINUTE:], strict=False)
        assert all(after_ns - first_ns >= PROBE_NS for first_ns, after_ns in windows)


def test_slot_that_is_released_again_and_again_is_refused_five_times_a_minute_for_want_of_room() -> None:
    """It waits then until a minute after the first of them; an order that is taken beside others ends that."""
    brake, other, refused_ns = gripped(), (Side.SELL, 1), [0] * STRIKES
    for now_ns in range(0, PROBE_NS, APART_NS // 3):
        for _ in range(STRIKES):
            brake.refused(other, MARGIN_IS_INSUFFICIENT, now_ns)
        brake.accepted(other, now_ns)
        if brake.allows(SLOT, now_ns):
            brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, now_ns)
            refused_ns.append(now_ns)
    assert len(refused_ns) == MOST_A_MINUTE
    assert not brake.allows(SLOT, PROBE_NS - 1)
    assert brake.allows(SLOT, PROBE_NS)
    brake.accepted(SLOT, PROBE_NS)
    assert [brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, PROBE_NS) for _ in range(3)] == [False, False, True]


def test_another_code_begins_a_new_count() -> None:
    """Three refusals for three reasons are not a wall."""
    brake = RefusalBrake()
    for code in (-2019, -4164, -2019, -4164):
        assert not brake.refused(SLOT, code, 0)
    assert brake.allows(SLOT, 1)


def test_braked_slot_waits_no_minute_for_the_first_refusal_of_another_kind() -> None:
    """Two short reasons, one after the other; a third one is believed, or the first one again."""
    brake = gripped()
    brake.refused(SLOT, -4014, APART_NS)
    assert not brake.allows(SLOT, 2 * APART_NS - 1)
    assert brake.allows(SLOT, 2 * APART_NS)
    brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, 2 * APART_NS)
    assert not brake.allows(SLOT, 2 * APART_NS + PROBE_NS - 1)
    assert brake.allows(SLOT, 2 * APART_NS + PROBE_NS)


def test_brake_that_grips_counts_another_code_as_one_refusal_more() -> None:
    """An answer that could not be read, and then one that could: nothing has been accepted in between."""
    brake = RefusalBrake()
    for _ in range(STRIKES):
        brake.refused(SLOT, UNREADABLE, 0)
    assert not brake.refused(SLOT, -4164, APART_NS)
    assert not brake.allows(SLOT, APART_NS + PROBE_NS - 1)
    assert brake.allows(SLOT, APART_NS + PROBE_NS)


def test_refusal_that_cannot_be_read_leaves_a_slot_held_for_what_it_was_held_for() -> None:
    """The end of what holds all quotes releases it with the others."""
    brake = RefusalBrake()
    for code in (-1122, -1122, -1122, UNREADABLE):
        brake.refused(SLOT, code, 0)
        brake.refused((Side.SELL, 1), -1122, 0)
    assert not brake.allows(SLOT, 1)
    assert brake.accepted((Side.SELL, 1), 0)
    assert brake.allows(SLOT, 1)


def test_reason_is_the_newest_of_those_for_which_one_of_the_slots_is_held() -> None:
    """Not of one that is not asked about, is not held yet, or was taken; one that cannot be read changes nothing."""
    brake, sell, other = RefusalBrake(), (Side.SELL, 1), (Side.SELL, 2)
    for number in range(STRIKES):
        brake.refused(SLOT, MARGIN_IS_INSUFFICIENT, number, "no margin")
        brake.refused(sell, -4164, number + 1, "too small")
    brake.refused(other, -4014, 9, "off its tick")
    assert brake.reason([SLOT, sell, other]) == "too small"
    assert brake.reason([SLOT, other]) == "no margin"
    assert brake.reason([other]) == brake.reason([]) == ""
    brake.refused(SLOT, UNREADABLE, 10, "HTTP 400")
    assert brake.reason([SLOT]) == "no margin"
    brake.accepted(sell, 11)
    assert brake.reason([SLOT, sell]) == "no margin"


@pytest.mark.parametrize("code", [0, POST_ONLY_WOULD_TAKE])
def test_refusal_that_says_nothing_of_the_next_attempt_never_brakes(code: int) -> None:
    """The market had moved, or nothing was sent."""
    brake = RefusalBrake()
    assert not any(brake.refused(SLOT, code, 0) for _ in range(10))
    assert brake.allows(SLOT, 1)


def test_slots_are_braked_one_by_one() -> None:
    """The other side and the other levels go on."""
    brake = gripped()
    assert brake.allows((Side.SELL, 1), 1)
    assert brake.allows((Side.BUY, 2), 1)


# --- prices that would take -----------------------------------------------------------------------------------

ASKED = "BTCUSDT", Side.SELL, 800_000


def test_price_that_was_refused_three_times_waits_and_no_other_one_does() -> None:
    """10 s, then 30 s each time; after as long without it the count begins anew."""
    every_ns = int(CrossingBrake.EVERY_S * 1e9)
    brake = CrossingBrake()
    for _ in range(STRIKES):
        assert brake.allows(*ASKED, 0)
        brake.refused(*ASKED, 0)
    assert [brake.allows(*ASKED, now_ns) for now_ns in (APART_NS - 1, APART_NS)] == [False, True]
    assert brake.allows("BTCUSDT", Side.SELL, 800_001, 0)
    assert brake.allows("BTCUSDT", Side.BUY, 800_000, 0)
    assert brake.allows("ETHUSDT", Side.SELL, 800_000, 0)
    brake.refused(*ASKED, APART_NS)
    over_ns = APART_NS + every_ns
    assert [brake.allows(*ASKED, now_ns) for now_ns in (over_ns - 1, over_ns)] == [False, True]
    brake.refused(*ASKED, over_ns + every_ns + 1)
    assert brake.allows(*ASKED, over_ns + every_ns + 1)


@pytest.mark.parametrize(
    ("side", "price_ticks", "is_free"),
    [
        (Side.SELL, 800_000, True),
        (Side.SELL, 799_999, True),
        (Side.SELL, 800_001, False),
        (Side.BUY, 800_000, False),
    ],
)
def test_price_that_rests_frees_those_that_are_farther_from_the_market(
    side: Side, price_ticks: int, *, is_free: bool
) -> None:
    """A sell that rests shows that a higher one would."""
    brake = CrossingBrake()
    for _ in range(STRIKES):
        brake.refused(*ASKED, 0)
    brake.accepted("BTCUSDT", side, price_ticks)
    assert brake.allows(*ASKED, 0) is is_free


def test_only_so_many_prices_are_remembered() -> None:
    """The oldest goes first."""
    brake = CrossingBrake()
    for price_ticks in range(CrossingBrake.KEPT + 1):
        for _ in range(STRIKES):
            brake.refused("BTCUSDT", Side.BUY, price_ticks, 0)
    held = [brake.allows("BTCUSDT", Side.BUY, price, 0) for price in range(CrossingBrake.KEPT + 1)]
    assert held == [True] + [False] * CrossingBrake.KEPT
