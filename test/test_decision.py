"""Keep, amend or replace: the rule of ``core.decision``, case by case and by property."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.brake import UNREADABLE
from core.decision import MOST_AMENDMENTS, Bounds, Move, Plan, plan_amend, plan_replace, quiet_band
from core.live_order import LiveOrder
from core.model import OrderStatus, Quote, Side
from core.settings import ManageSettings, QuoteSettings
from core.strategy import level_price_ticks

from .examples import MANAGE, QUOTES

MID = 1_600_000
"""80 000.0 in half ticks of 0.1; one basis point is 80 ticks."""

AMENDING = replace(QUOTES, refresh_mode="amend")
BOUNDS = Bounds.at(MID, AMENDING, MANAGE)
TARGET = 799_200
"""A bid of level 1."""


def resting(price_ticks: int = TARGET, lots: int = 3, level: int = 1, side: Side = Side.BUY) -> LiveOrder:
    """An order that rests at the exchange, with nothing under way."""
    return LiveOrder(
        f"qpmm-{side}-{level}", side, level, price_ticks, lots, 0, status=OrderStatus.ACTIVE, order_id=1
    )


def wanted(price_ticks: int = TARGET, lots: int = 3, level: int = 1, side: Side = Side.BUY) -> Quote:
    """The quote that shall rest in the slot."""
    return Quote(side, level, price_ticks, lots)


def moves(plan: Plan) -> list[Move]:
    """What is done about each slot, in order."""
    return [one.move for one in plan.decisions]


def decide(
    order: LiveOrder, quote: Quote | None, bounds: Bounds = BOUNDS, mid: int = MID
) -> tuple[Move, str]:
    """The one decision about an order and the quote for its slot."""
    (decision,) = plan_amend([quote] if quote else [], [order], bounds).decisions
    return decision.move, decision.reason


@pytest.mark.parametrize(
    ("deviation_ticks", "move"),
    [
        (0, Move.KEEP),
        (80, Move.KEEP),
        (-80, Move.KEEP),
        (81, Move.AMEND),
        (-81, Move.AMEND),
        (8_000, Move.AMEND),
        (-8_001, Move.CANCEL),
        (8_001, Move.CANCEL),
    ],
)
def test_deviation_decides(deviation_ticks: int, move: Move) -> None:
    """Up to modify_threshold (1 bp = 80 ticks) keep, up to max_modify_deviation (1 %) amend, beyond replace."""
    far_off = replace(AMENDING, min_spread=Decimal(0), max_spread=Decimal(1))
    target = 780_000
    bounds = Bounds.at(MID, far_off, MANAGE)
    assert decide(resting(target + deviation_ticks), wanted(target), bounds)[0] is move


def test_decision_says_how_far_the_order_is_away() -> None:
    """In basis points of the mid price."""
    assert decide(resting(TARGET + 120), wanted()) == (Move.AMEND, "1.50 bps away")
    assert decide(resting(TARGET + 20), wanted()) == (Move.KEEP, "0.25 bps away")


def test_one_tick_is_near_enough_unless_the_threshold_is_0() -> None:
    """On a coarse tick the target flips with every half tick of the mid; following it would only lose queue places."""
    coarse = Bounds.at(2_000, AMENDING, MANAGE)
    assert decide(resting(998), wanted(999), coarse)[0] is Move.KEEP
    exact = Bounds.at(2_000, AMENDING, replace(MANAGE, modify_threshold=Decimal(0)))
    assert decide(resting(998), wanted(999), exact)[0] is Move.AMEND


def test_one_tick_is_never_too_far_to_be_kept_or_amended() -> None:
    """Where max_modify_deviation is less than a tick, a replacement would lose the slot for a flip of the target."""
    near = replace(MANAGE, max_modify_deviation=Decimal("0.0005"))
    assert decide(resting(998), wanted(999), Bounds.at(2_000, AMENDING, near))[0] is Move.KEEP
    exact = Bounds.at(2_000, AMENDING, replace(near, modify_threshold=Decimal(0)))
    assert decide(resting(998), wanted(999), exact)[0] is Move.AMEND
    assert decide(resting(997), wanted(999), exact)[0] is Move.CANCEL


@pytest.mark.parametrize(
    ("deviation_ticks", "move"), [(81, Move.KEEP), (8_000, Move.KEEP), (8_001, Move.CANCEL)]
)
def test_patience_keeps_what_would_be_amended_for_its_price(deviation_ticks: int, move: Move) -> None:
    """Up to max_modify_deviation, and only for its price: an open size that is off is mended at once."""
    wide = replace(AMENDING, max_spread=Decimal(1))
    patient = Bounds.at(MID, wide, MANAGE, is_patient=True)
    order = resting(780_000 + deviation_ticks)
    assert decide(order, wanted(780_000), patient)[0] is move
    assert decide(resting(780_000 + deviation_ticks, lots=50), wanted(780_000), patient)[0] is not Move.KEEP


def test_patience_says_what_it_waits_for() -> None:
    """In the reason, beside the distance."""
    patient = Bounds.at(MID, AMENDING, MANAGE, is_patient=True)
    assert decide(resting(TARGET + 120), wanted(), patient) == (Move.KEEP, "1.50 bps away, not for long")


@pytest.mark.parametrize(
    ("settings", "price_ticks", "reason"),
    [
        (replace(AMENDING, min_spread=Decimal("0.00099")), TARGET + 10, "nearer than min_spread"),
        (replace(AMENDING, max_spread=Decimal("0.001005")), TARGET - 10, "farther than max_spread"),
    ],
)
def test_order_outside_of_the_spread_bounds_is_not_kept(
    settings: QuoteSettings, price_ticks: int, reason: str
) -> None:
    """However near its target it is."""
    bounds = Bounds.at(MID, settings, MANAGE)
    assert decide(resting(price_ticks), wanted(), bounds) == (Move.AMEND, reason)


def test_order_at_its_target_is_kept_whatever_the_bounds_say() -> None:
    """There is nothing to change it to."""
    bounds = Bounds.at(MID, replace(AMENDING, min_spread=Decimal("0.01")), MANAGE)
    assert decide(resting(), wanted(), bounds)[0] is Move.KEEP


def test_order_that_is_not_wanted_is_cancelled() -> None:
    """Its level was left out by strategy or risk."""
    assert decide(resting(), None) == (Move.CANCEL, "not wanted any more")


def test_order_of_an_earlier_run_is_cancelled() -> None:
    """It has no level, and so no slot."""
    assert moves(plan_amend([wanted()], [resting(level=0)], BOUNDS)) == [Move.CANCEL, Move.PLACE]


def test_second_order_in_a_slot_is_cancelled() -> None:
    """Only one may fill it, even if both are where they should be."""
    plan = plan_amend([wanted()], [resting(), resting()], BOUNDS)
    assert moves(plan) == [Move.KEEP, Move.CANCEL]


def test_order_with_a_change_under_way_is_left_alone() -> None:
    """At most one change of an order is under way."""
    for status in (OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT):
        order = resting(TARGET + 500)
        order.status = status
        plan = plan_amend([wanted()], [order], BOUNDS)
        assert (moves(plan), plan.places, plan.amends, plan.cancels) == ([Move.WAIT], [], [], [])


def test_free_slot_is_filled() -> None:
    """A wanted quote without an order is placed."""
    plan = plan_amend([wanted(), wanted(side=Side.SELL)], [resting()], BOUNDS)
    assert moves(plan) == [Move.KEEP, Move.PLACE]
    assert plan.places == [wanted(side=Side.SELL)]


def test_replaced_order_frees_its_slot_first() -> None:
    """It is placed anew by the plan that is made once it is gone."""
    plan = plan_amend([wanted()], [resting(TARGET - 9_000)], BOUNDS)
    assert (len(plan.cancels), plan.places) == (1, [])


@pytest.mark.parametrize(
    ("executed", "lots", "move"),
    [(0, 10, Move.KEEP), (5, 10, Move.KEEP), (6, 10, Move.AMEND), (0, 11, Move.KEEP), (0, 12, Move.AMEND)],
)
def test_open_size_is_topped_up_only_when_most_of_it_is_gone(executed: int, lots: int, move: Move) -> None:
    """A queue place is worth more than half a quote; one lot too many is a rounding at another price."""
    order = resting(lots=lots)
    order.executed_lots = executed
    assert decide(order, wanted(lots=10))[0] is move


def test_tick_of_a_coin_with_small_lots_is_no_matter_of_size() -> None:
    """250 USDT at 0.0005 in lots of 1 are 500,000; a tick of 1e-7 up they are 100 fewer, and nothing is too big."""
    order, coin = resting(5_000, lots=500_000), Bounds.at(10_010, AMENDING, MANAGE)
    assert decide(order, wanted(5_001, lots=499_900), coin) == (Move.KEEP, "2.00 bps away")
    half = decide(order, wanted(5_001, lots=250_000), coin)
    assert half == (Move.AMEND, "500000 of 250000 lots left")


@given(
    size_units=st.integers(2 * 10**6, 10**12), price_ticks=st.integers(100, 10**6), ticks=st.integers(-40, 40)
)
def test_size_of_another_price_is_not_off(size_units: int, price_ticks: int, ticks: int) -> None:
    """What the same money is worth at the order's own price is what it should be there, in whatever lots."""
    lots, own_ticks = size_units // price_ticks, price_ticks + ticks
    order = resting(own_ticks, lots=size_units // own_ticks)
    everything = replace(AMENDING, min_spread=Decimal(-9), max_spread=Decimal(9))
    patient = Bounds(2 * price_ticks, everything, keep_ticks=1, amend_ticks=100, is_patient=True)
    _, reason = decide(order, wanted(price_ticks, lots=lots), patient)
    assert "lots left" not in reason


def test_order_that_refuses_amendments_is_replaced() -> None:
    """By its filters, for example: trying again would give the same answer."""
    order = resting(TARGET + 120)
    order.amend_refused_code = -4014
    assert decide(order, wanted()) == (Move.CANCEL, "amend refused (-4014): replaced")
    order.amend_refused_code = UNREADABLE
    assert decide(order, wanted()) == (Move.CANCEL, "amend refused (no code): replaced")


def test_order_is_replaced_before_the_exchange_amends_it_no_more() -> None:
    """10 000 amendments are its cap (-5026)."""
    order = resting(TARGET + 120)
    order.amends = MOST_AMENDMENTS
    assert decide(order, wanted())[0] is Move.CANCEL


def test_orders_close_to_the_threshold_go_along_with_one_beyond() -> None:
    """They would follow with the next tick, in a request of their own."""
    orders = [resting(TARGET + 81), resting(TARGET + 41, level=2), resting(TARGET + 40, level=3)]
    plan = plan_amend([wanted(level=level) for level in (1, 2, 3)], orders, BOUNDS)
    assert moves(plan) == [Move.AMEND, Move.AMEND, Move.KEEP]
    assert plan.decisions[1].reason == "0.51 bps away, with others"
    alone = plan_amend([wanted(level=2)], [orders[1]], BOUNDS)
    assert moves(alone) == [Move.KEEP]


def test_order_that_is_farthest_from_its_target_is_amended_first() -> None:
    """Those that only go along are last, whatever their distance; all else stays in its order."""
    deviations = (30, 60, 90, 500, 90)
    orders = [resting(TARGET + ticks, level=level) for level, ticks in enumerate(deviations, 1)]
    orders[0].executed_lots = 2
    plan = plan_amend([wanted(level=level) for level in range(1, 6)], orders, BOUNDS)
    assert [order.level for order, _, _ in plan.amends] == [4, 3, 5, 1, 2]
    assert plan.only_amends() == plan.amends


def test_no_order_is_left_behind_where_one_fewer_than_all_go_each_time() -> None:
    """The market goes on and on, and a queue takes five of six orders: it is not always the same one that waits."""
    slots_of_all = [(side, level) for level in (1, 2, 3) for side in Side]
    orders = [resting(TARGET, level=level, side=side) for side, level in slots_of_all]
    far_off = Bounds.at(MID, replace(AMENDING, min_spread=Decimal("-1"), max_spread=Decimal(1)), MANAGE)
    for moved in range(50, 2_000, 50):
        quotes = [wanted(TARGET + moved, level=level, side=side) for side, level in slots_of_all]
        for order, quote, _ in plan_amend(quotes, orders, far_off).amends[:5]:
            order.price_ticks = quote.price_ticks
        assert max(TARGET + moved - order.price_ticks for order in orders) <= 100


def test_replace_mode_takes_everything_out_and_places_in_free_slots() -> None:
    """Order by order, whatever their prices."""
    plan = plan_replace([wanted(), wanted(level=2)], [resting()])
    assert moves(plan) == [Move.CANCEL, Move.PLACE]
    assert plan.places == [wanted(level=2)]
    assert plan_replace([wanted(), wanted(level=2)], []).places == [wanted(), wanted(level=2)]


ORDERS = st.lists(
    st.builds(
        resting,
        st.integers(1, 1_000_000),
        st.integers(1, 50),
        st.integers(0, 4),
        st.sampled_from(Side),
    ),
    max_size=8,
)
QUOTE_LISTS = st.lists(
    st.builds(
        wanted, st.integers(1, 1_000_000), st.integers(1, 50), st.integers(1, 4), st.sampled_from(Side)
    ),
    max_size=8,
    unique_by=lambda quote: quote.slot,
)


def slots(orders: Iterable[LiveOrder | Quote]) -> list[tuple[Side, int]]:
    """The slots of orders or quotes, in order."""
    return [one.slot for one in orders]


@given(orders=ORDERS, quotes=QUOTE_LISTS)
def test_no_plan_leads_to_two_orders_in_a_slot(orders: list[LiveOrder], quotes: list[Quote]) -> None:
    """What stays, kept or amended, and what is placed: at most one of each slot, and only slots that are wanted."""
    plan = plan_amend(quotes, orders, BOUNDS)
    cancelled = {id(order) for order in plan.cancels}
    after = slots([order for order in orders if id(order) not in cancelled]) + slots(plan.places)
    assert len(after) == len(set(after))
    assert set(after) <= set(slots(quotes))


@given(orders=ORDERS, quotes=QUOTE_LISTS)
def test_every_order_has_one_decision_and_every_change_its_reason(
    orders: list[LiveOrder], quotes: list[Quote]
) -> None:
    """Nothing is forgotten, nothing is decided twice."""
    plan = plan_amend(quotes, orders, BOUNDS)
    decided = [id(one.order) for one in plan.decisions if one.order is not None]
    assert decided == [id(order) for order in orders]
    assert all(one.reason for one in plan.decisions)


@given(
    first_mid=st.integers(200_000, 4_000_000),
    moves_by=st.integers(-20_000, 20_000),
    threshold=st.sampled_from(["0", "0.00001", "0.0001", "0.002"]),
    offsets=st.lists(st.integers(-30, 30), min_size=6, max_size=6),
)
def test_plan_changes_nothing_within_the_quiet_band(
    first_mid: int, moves_by: int, threshold: str, offsets: list[int]
) -> None:
    """A mid that the band holds needs no change: so ticks inside of it need not be looked at."""
    managing: ManageSettings = replace(MANAGE, modify_threshold=Decimal(threshold))

    def targets(mid: int) -> list[Quote]:
        return [
            wanted(level_price_ticks(mid, side, level, AMENDING), 3, level, side)
            for side in Side
            for level in (1, 2, 3)
        ]

    orders = [
        resting(quote.price_ticks + off, 3, quote.level, quote.side)
        for quote, off in zip(targets(first_mid), offsets, strict=True)
    ]
    bounds = Bounds.at(first_mid, AMENDING, managing)
    if any(move is not Move.KEEP for move in moves(plan_amend(targets(first_mid), orders, bounds))):
        return
    band = quiet_band(orders, bounds)
    assert band.deviation_bps(first_mid) == pytest.approx(
        0.0, abs=1 + max(map(abs, offsets)) * 40_000 / first_mid
    )
    mid = first_mid + moves_by
    if band.holds(mid):
        plan = plan_amend(targets(mid), orders, Bounds.at(mid, AMENDING, managing))
        assert set(moves(plan)) == {Move.KEEP}
