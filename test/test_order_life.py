"""The table of an order's life: what may follow what, and what nobody can explain."""

from pathlib import Path

import pytest

from core.live_order import MAX_AMENDS, Change, ChangeKind, LiveOrder
from core.model import OrderStatus, Side
from core.order import LiveOrders
from core.order_life import FIRST, ROWS, STATES, TABLE, Open, State, Trigger, after, document, sighting

from .examples import BTC, quote, report

ROOT = Path(__file__).resolve().parents[1]
START_MS = 1_790_000_000_000
TARGET = {"price_ticks": 798_000, "lots": 12}
RECV_WINDOW_MS = 2000
SETTLED_NS = 3_000_000_000
"""The receive window of an amend sent at 0, and 1 s to settle."""


def resting(executed_lots: int = 0) -> tuple[LiveOrders, LiveOrder]:
    """One order of 10 lots at 799 000 that the exchange has reported."""
    orders = LiveOrders()
    order = orders.register("qpmm-mm1-1-1", quote(lots=10), 0)
    orders.apply(order, report(executed_lots=executed_lots, update_ms=START_MS), 0)
    return orders, order


def amending(executed_lots: int = 0) -> tuple[LiveOrders, LiveOrder]:
    """That order, with an amend to 12 lots at 798 000 on its way since 0 ns."""
    orders, order = resting(executed_lots)
    orders.begin_amend(order, **TARGET, now_ns=0)
    return orders, order


def in_doubt() -> tuple[LiveOrders, LiveOrder]:
    """That amend got no answer."""
    orders, order = amending()
    orders.doubt_amend(order, "timeout")
    return orders, order


# --- the table ----------------------------------------------------------------------------------------------


def test_table_holds_every_row_and_leads_to_its_own_states_only() -> None:
    """Nothing is left out of the expansion, and no row leads nowhere."""
    assert {(before, row.trigger) for row in ROWS for before, _ in row.pairs()} == set(TABLE)
    assert {state for pair in TABLE.items() for state in (pair[0][0], pair[1])} <= set(STATES)


def test_every_state_can_be_reached_from_the_first() -> None:
    """No state is there for nothing."""
    reached, edge = {FIRST}, [FIRST]
    while edge:
        edge = [then for (before, _), then in TABLE.items() if before in edge and then not in reached]
        reached.update(edge)
    assert reached == set(STATES)


def test_every_row_matches_a_state() -> None:
    """No row is written in vain."""
    assert [row for row in ROWS if not list(row.pairs())] == []


def test_no_report_lowers_the_rank() -> None:
    """Sent, active, partly filled, ended: what the exchange has told is never taken back by what it tells."""
    seen = [trigger for trigger in Trigger if trigger.name.startswith("SEEN")]
    assert [
        (before, trigger)
        for (before, trigger), then in TABLE.items()
        if trigger in seen and then.rank < before.rank
    ] == []


def test_end_that_was_reported_is_left_on_no_trigger() -> None:
    """Whatever happens: it stays, or nobody can explain it."""
    ended = [state for state in STATES if state.rest.is_terminal and state.open is Open.NOTHING]
    assert len(ended) == 5
    assert {after(state, trigger) for state in ended for trigger in Trigger} <= {None, *ended}
    assert all(after(state, trigger) in (None, state) for state in ended for trigger in Trigger)


def test_end_that_was_concluded_gives_way_to_whatever_the_exchange_reports() -> None:
    """It was our belief only."""
    concluded = [state for state in STATES if state.open is Open.PROOF]
    seen = [trigger for trigger in Trigger if trigger.name.startswith("SEEN")]
    assert all(
        (then := after(state, trigger)) is not None and then.open is Open.NOTHING
        for state in concluded
        for trigger in seen
    )


def test_amend_is_sent_only_of_what_rests_with_nothing_under_way() -> None:
    """Not before its placing is answered, and never beside another change."""
    assert {state for state in STATES if after(state, Trigger.AMEND_SENT)} == {
        State(OrderStatus.ACTIVE, Open.NOTHING),
        State(OrderStatus.PARTIALLY_FILLED, Open.NOTHING),
    }


def test_everything_that_may_rest_may_be_cancelled() -> None:
    """Whatever else is under way."""
    living = [state for state in STATES if not state.rest.is_terminal]
    for state in living:
        then = after(state, Trigger.CANCEL_SENT)
        assert then is not None
        assert then.shown is OrderStatus.PENDING_CANCEL


@pytest.mark.parametrize(
    ("status", "executed", "trigger"),
    [
        (OrderStatus.ACTIVE, 0, Trigger.SEEN_ACTIVE),
        (OrderStatus.ACTIVE, 1, Trigger.SEEN_PARTIAL),
        (OrderStatus.PARTIALLY_FILLED, 0, Trigger.SEEN_PARTIAL),
        (OrderStatus.IN_DOUBT, 0, Trigger.SEEN_UNHEARD),
        (OrderStatus.IN_DOUBT, 1, Trigger.SEEN_PARTIAL),
        (OrderStatus.CANCELLED, 3, Trigger.SEEN_CANCELLED),
        (OrderStatus.EXPIRED_IN_MATCH, 0, Trigger.SEEN_EXPIRED_IN_MATCH),
    ],
)
def test_sighting_says_what_a_report_means(status: OrderStatus, executed: int, trigger: Trigger) -> None:
    """An end is an end; otherwise what is executed decides before what the report calls it."""
    assert sighting(status, is_executed=executed > 0) is trigger


# --- an amend under way -------------------------------------------------------------------------------------


def test_amend_under_way_is_shown_and_counts_at_the_worse_of_old_and_new() -> None:
    """What rests is still the old order."""
    orders, order = amending()
    assert order.change == Change(ChangeKind.AMEND, 798_000, 12, 0)
    assert (order.status, order.shown_status) == (OrderStatus.ACTIVE, OrderStatus.PENDING_MODIFY)
    assert (order.price_ticks, order.lots, order.remaining_lots) == (799_000, 10, 10)
    assert (order.worst_price_ticks, order.worst_remaining_lots) == (798_000, 12)
    assert orders.resting_notional_quote(Side.BUY, BTC) == BTC.notional_quote(798_000, 12)


def test_amend_to_less_counts_at_the_old_until_it_is_proven() -> None:
    """It may not have been executed."""
    orders, order = resting(executed_lots=2)
    orders.begin_amend(order, 700_000, 5, 0)
    assert (order.worst_price_ticks, order.worst_remaining_lots) == (799_000, 8)
    orders.apply(order, report(price_ticks=700_000, lots=5, executed_lots=2, update_ms=START_MS + 1), 1)
    assert (order.worst_price_ticks, order.worst_remaining_lots) == (700_000, 3)


@pytest.mark.parametrize("executed_lots", [0, 3])
def test_report_of_the_target_settles_an_amend(executed_lots: int) -> None:
    """Newer than its sending, with price and quantity: it is done, and the order rests as it did."""
    orders, order = amending(executed_lots)
    assert orders.apply(order, report(**TARGET, executed_lots=executed_lots, update_ms=START_MS + 1), 1)
    assert order.change is None
    assert (order.price_ticks, order.lots) == (798_000, 12)
    assert order.status is (OrderStatus.PARTIALLY_FILLED if executed_lots else OrderStatus.ACTIVE)
    assert order.is_amendable


def test_amendment_in_the_millisecond_of_the_report_before_it_settles_too() -> None:
    """Two things may happen to an order in one millisecond; the amendment says itself what it is."""
    orders, order = amending()
    orders.apply(order, report(**TARGET, update_ms=START_MS), 1)
    assert order.change is not None
    orders.apply(order, report(**TARGET, update_ms=START_MS, is_amendment=True), 1)
    assert order.change is None
    assert (order.price_ticks, order.lots) == (798_000, 12)


@pytest.mark.parametrize(
    "shown",
    [
        {"update_ms": START_MS + 1},
        {"update_ms": START_MS + 1, "executed_lots": 4},
        {**TARGET, "update_ms": START_MS - 1},
        {"price_ticks": 798_000, "update_ms": START_MS + 1},
        {"lots": 12, "update_ms": START_MS + 1},
    ],
    ids=["old values", "a fill at the old price", "target, but older", "price only", "quantity only"],
)
def test_report_that_proves_nothing_leaves_an_amend_under_way(shown: dict[str, int]) -> None:
    """The amend may still be on its way."""
    orders, order = amending()
    orders.apply(order, report(**shown), 1)
    assert order.change is not None
    assert order.shown_status is OrderStatus.PENDING_MODIFY


@pytest.mark.parametrize(
    ("shown", "settles"),
    [
        ({"update_ms": START_MS, "is_amendment": True}, False),
        ({"update_ms": START_MS + 1, "executed_lots": 3}, False),
        ({"update_ms": START_MS + 1, "is_amendment": True}, True),
    ],
    ids=["the amendment before, twice", "a fill", "the amendment itself"],
)
def test_amend_to_what_rests_is_not_settled_by_what_shows_it_anyway(
    shown: dict[str, int], settles: bool
) -> None:
    """Its request may still be on its way, and undo the next amend."""
    orders, order = resting()
    orders.begin_amend(order, 799_000, 10, 0)
    orders.apply(order, report(**shown), 1)
    assert (order.change is None) is settles


def test_refused_amend_leaves_what_rested() -> None:
    """Refused, nothing to change, or not sent."""
    orders, order = amending(executed_lots=3)
    orders.end_amend(order)
    assert order.change is None
    assert (order.status, order.price_ticks, order.lots) == (OrderStatus.PARTIALLY_FILLED, 799_000, 10)
    assert orders.to_ask() == {}


@pytest.mark.parametrize("end", [status for status in OrderStatus if status.is_terminal])
def test_end_settles_an_amend(end: OrderStatus) -> None:
    """Filled, crossed, too small, or cancelled by anybody: nothing is under way any more, and what comes late is."""
    orders, order = amending()
    orders.apply(order, report(status=end, update_ms=START_MS + 1), 1)
    assert (order.status, order.change, order.worst_remaining_lots) == (end, None, 0)
    orders.end_amend(order)
    orders.doubt_amend(order, "timeout")
    orders.apply(order, report(**TARGET, update_ms=START_MS + 2), 2)
    assert (order.status, order.change, orders.to_ask()) == (end, None, {})


def test_order_is_amended_only_when_the_table_allows() -> None:
    """Not on its way, not twice at once, not while it is cancelled, not after its end."""
    orders = LiveOrders()
    order = orders.register("qpmm-mm1-1-1", quote(lots=10), 0)
    for report_next in (
        lambda: None,
        lambda: orders.doubt(order, "timeout"),
        lambda: (orders.apply(order, report(), 0), orders.begin_amend(order, **TARGET, now_ns=0)),
        lambda: orders.doubt_amend(order, "timeout"),
        lambda: orders.begin_cancel(order, 0),
        lambda: orders.apply(order, report(status=OrderStatus.CANCELLED), 0),
    ):
        report_next()
        assert not order.is_amendable
        with pytest.raises(ValueError, match="qpmm-mm1-1-1 cannot be amended"):
            orders.begin_amend(order, 1, 1, 0)


def test_order_that_was_amended_too_often_is_not_amended_again() -> None:
    """The exchange counts, and so do we."""
    orders, order = resting()
    order.amends = MAX_AMENDS - 1
    orders.begin_amend(order, **TARGET, now_ns=0)
    orders.end_amend(order)
    assert not order.is_amendable


# --- an amend in doubt --------------------------------------------------------------------------------------


def test_amend_without_an_answer_is_in_doubt_and_asked_about() -> None:
    """The order rests, at either price; the worse counts."""
    orders, order = in_doubt()
    assert (order.status, order.shown_status, order.amend_in_doubt) == (
        OrderStatus.ACTIVE,
        OrderStatus.IN_DOUBT,
        True,
    )
    assert (order.worst_price_ticks, order.worst_remaining_lots) == (798_000, 12)
    assert orders.to_ask() == {order.client_id: "unknown whether it was amended (timeout)"}
    assert orders.in_doubt() == []


def test_target_that_is_seen_settles_the_doubt() -> None:
    """By a look-up within the window, too."""
    orders, order = in_doubt()
    orders.read(order, report(**TARGET, update_ms=START_MS + 1), 1, 2, RECV_WINDOW_MS)
    assert (order.change, order.price_ticks, orders.to_ask()) == (None, 798_000, {})


@pytest.mark.parametrize("shown", [{}, TARGET], ids=["the old", "the new in the same millisecond"])
def test_two_readings_after_the_window_settle_the_doubt(shown: dict[str, int]) -> None:
    """They agree, and nothing can change what they show any more."""
    orders, order = in_doubt()
    shown = {"price_ticks": 799_000, "lots": 10, **shown}
    orders.read(order, report(**shown, update_ms=START_MS), SETTLED_NS, SETTLED_NS + 1, RECV_WINDOW_MS)
    assert order.amend_in_doubt
    orders.read(order, report(**shown, update_ms=START_MS), SETTLED_NS + 2, SETTLED_NS + 3, RECV_WINDOW_MS)
    assert order.change is None
    assert (order.price_ticks, order.lots) == (shown["price_ticks"], shown["lots"])


def test_readings_from_within_the_window_prove_nothing_however_many() -> None:
    """The amend may still be executed after them."""
    orders, order = in_doubt()
    for now_ns in range(5):
        orders.read(
            order, report(update_ms=START_MS + 1), SETTLED_NS - 1, SETTLED_NS + now_ns, RECV_WINDOW_MS
        )
    assert order.amend_in_doubt


def test_readings_that_lag_or_differ_prove_nothing() -> None:
    """One that is older than what is known, and two that do not agree."""
    orders, order = in_doubt()
    for shown in ({"update_ms": START_MS - 1}, {"update_ms": START_MS}, {"update_ms": START_MS - 1}):
        orders.read(order, report(**shown), SETTLED_NS, SETTLED_NS, RECV_WINDOW_MS)
    orders.read(order, report(lots=9, update_ms=START_MS + 1), SETTLED_NS, SETTLED_NS, RECV_WINDOW_MS)
    assert order.amend_in_doubt


def test_report_that_was_faster_than_the_lost_answer_leaves_no_doubt() -> None:
    """The stream has shown the target already."""
    orders, order = amending()
    orders.apply(order, report(**TARGET, update_ms=START_MS + 1), 1)
    orders.doubt_amend(order, "timeout")
    assert (order.change, order.reason) == (None, "")


# --- a cancel under way -------------------------------------------------------------------------------------


def test_refused_cancel_leaves_what_rested() -> None:
    """It rests, and may be amended again."""
    orders, order = resting()
    orders.begin_cancel(order, 5)
    assert order.change == Change(ChangeKind.CANCEL, 799_000, 10, 5)
    orders.end_cancel(order)
    assert (order.change, order.shown_status, order.is_amendable) == (None, OrderStatus.ACTIVE, True)


def test_cancel_over_an_amend_keeps_the_worse_of_both() -> None:
    """The amend may have been executed, so its target still counts, also when the cancel is refused."""
    orders, order = amending()
    orders.begin_cancel(order, 5)
    assert order.change == Change(ChangeKind.CANCEL, 798_000, 12, 5, in_doubt=True)
    assert (order.shown_status, order.worst_remaining_lots) == (OrderStatus.PENDING_CANCEL, 12)
    orders.doubt_amend(order, "timeout")
    orders.begin_cancel(order, 6)
    assert order.shown_status is OrderStatus.PENDING_CANCEL
    orders.end_cancel(order)
    assert (order.shown_status, order.worst_remaining_lots) == (OrderStatus.IN_DOUBT, 12)


@pytest.mark.parametrize("proven", [True, False])
def test_amend_that_is_answered_under_a_cancel_leaves_the_cancel(proven: bool) -> None:
    """Done or refused."""
    orders, order = amending()
    orders.begin_cancel(order, 5)
    if proven:
        orders.apply(order, report(**TARGET, update_ms=START_MS + 1), 1)
    else:
        orders.end_amend(order)
    assert order.cancel_requested
    assert not order.amend_in_doubt
    assert order.worst_remaining_lots == (12 if proven else 10)


# --- what nobody can explain --------------------------------------------------------------------------------


def test_pair_that_cannot_be_changes_nothing_and_is_asked_about_once() -> None:
    """Filled, says one; cancelled, says another. The exchange is asked, and not for ever."""
    orders, order = resting()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 1)
    orders.apply(order, report(status=OrderStatus.CANCELLED), 2)
    assert order.status is OrderStatus.FILLED
    assert orders.to_ask() == {order.client_id: "seen cancelled, but it stands at FILLED"}
    orders.asked(order)
    orders.apply(order, report(status=OrderStatus.CANCELLED), 3)
    assert orders.to_ask() == {}


def test_order_that_exists_cannot_be_refused() -> None:
    """It is asked about instead."""
    orders, order = resting()
    assert not orders.end(order, OrderStatus.REJECTED, "-2019")
    assert (order.status, order.reason) == (OrderStatus.ACTIVE, "")
    assert orders.to_ask() == {order.client_id: "placing was refused, or not sent, but it stands at ACTIVE"}


def test_trade_of_an_order_that_was_believed_not_to_exist_is_asked_about() -> None:
    """Its trade is counted, and its end was no end."""
    orders, order = resting()
    orders.end(order, OrderStatus.CANCELLED, "the exchange knows it no longer")
    orders.count(order, 2, 5)
    assert (order.status, order.executed_lots) == (OrderStatus.CANCELLED, 2)
    assert list(orders.to_ask()) == [order.client_id]


def test_amend_that_is_refused_after_it_was_seen_done_is_asked_about() -> None:
    """One of the two is not true."""
    orders, order = amending()
    orders.apply(order, report(**TARGET, update_ms=START_MS + 1), 1)
    orders.end_amend(order)
    assert list(orders.to_ask()) == [order.client_id]


# --- the document -------------------------------------------------------------------------------------------


def test_document_is_what_the_table_makes() -> None:
    """``python -m core.order_life > docs/order-life.md`` after each change of the table."""
    assert (ROOT / "docs" / "order-life.md").read_text("utf-8") == document()
