"""Our orders: knowledge that only grows, whatever order the exchange's reports come in."""

import re
from dataclasses import replace
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.client_ids import PREFIX, ClientIds, is_ours
from core.live_order import LiveOrder, absence_is_proof
from core.model import OrderReport, OrderStatus, Side
from core.order import LiveOrders
from core.risk import Exposure

from .examples import BTC, MARK, RISK, quote, report

ENDS = [OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.EXPIRED_IN_MATCH]
UNDER_WAY = {OrderStatus.PENDING_MODIFY, OrderStatus.PENDING_CANCEL}
START_MS = 1_790_000_000_000


def registered() -> tuple[LiveOrders, LiveOrder]:
    """One order that is on its way."""
    orders = LiveOrders()
    return orders, orders.register("qpmm-mm1-1-1", quote(lots=10), 5)


def facts(order: LiveOrder) -> tuple[object, ...]:
    """Everything that the exchange's reports decide."""
    return order.status, order.executed_lots, order.order_id, order.price_ticks, order.lots, order.update_ms


@st.composite
def histories(draw: st.DrawFn) -> list[OrderReport]:
    """What the exchange reports of one order's life: accepted, then fills and amendments, and perhaps an end."""
    story = [report(update_ms=START_MS)]
    price_ticks, lots, executed = 799_000, 10, 0
    for step in range(1, draw(st.integers(0, 6)) + 1):
        if draw(st.booleans()) and executed < lots - 1:
            executed = draw(st.integers(executed + 1, lots - 1))
        else:
            price_ticks, lots = draw(st.integers(700_000, 799_999)), draw(st.integers(executed + 1, 40))
        status = OrderStatus.PARTIALLY_FILLED if executed else OrderStatus.ACTIVE
        story.append(
            report(
                status=status,
                executed_lots=executed,
                price_ticks=price_ticks,
                lots=lots,
                update_ms=START_MS + step,
            )
        )
    end = draw(st.sampled_from([None, *ENDS]))
    if end is not None:
        executed = lots if end is OrderStatus.FILLED else executed
        story.append(replace(story[-1], status=end, executed_lots=executed, update_ms=START_MS + 99))
    return story


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[OrderReport], list[OrderReport]]:
    """A history, and the same reports as two channels may bring them: in any order, any of them twice."""
    story = draw(histories())
    twice = draw(st.lists(st.sampled_from(story), max_size=6))
    return story, draw(st.permutations(story + twice))


ANY_REPORT = st.builds(
    report,
    status=st.sampled_from(sorted(set(OrderStatus) - UNDER_WAY)),
    order_id=st.integers(1, 3),
    price_ticks=st.integers(0, 1000),
    lots=st.integers(1, 20),
    executed_lots=st.integers(0, 20),
    update_ms=st.integers(START_MS - 5, START_MS + 5),
)
"""Anything at all, possible or not."""


@given(deliveries())
def test_any_order_of_reports_ends_in_the_same_knowledge(
    case: tuple[list[OrderReport], list[OrderReport]],
) -> None:
    """Permuted and duplicated, the reports of one life lead to what they lead to in their own order."""
    story, delivered = case
    (_, straight), (_, mixed) = registered(), registered()
    orders, other = LiveOrders(), LiveOrders()
    for one in story:
        orders.apply(straight, one, 9)
    for one in delivered:
        other.apply(mixed, one, 9)
    assert facts(mixed) == facts(straight)


@given(st.lists(ANY_REPORT, max_size=20))
def test_executed_never_falls_and_a_reported_end_is_never_undone(reports: list[OrderReport]) -> None:
    """Whatever is reported: the executed quantity grows, and the first end that the exchange tells of stands."""
    orders, order = registered()
    for one in reports:
        executed, status = order.executed_lots, order.status
        orders.apply(order, one, 9)
        assert order.executed_lots >= executed
        assert order.status is status or not status.is_terminal
        assert (order in orders.living()) is not order.status.is_terminal


@given(st.lists(ANY_REPORT, min_size=1, max_size=20))
def test_knowing_it_already_is_no_change(reports: list[OrderReport]) -> None:
    """The same report, a second time in a row, says that nothing changed."""
    orders, order = registered()
    for one in reports:
        orders.apply(order, one, 9)
        assert not orders.apply(order, one, 9)


@pytest.mark.parametrize(
    ("known", "reported", "after"),
    [
        (OrderStatus.PENDING_NEW, OrderStatus.ACTIVE, OrderStatus.ACTIVE),
        (OrderStatus.IN_DOUBT, OrderStatus.ACTIVE, OrderStatus.ACTIVE),
        (OrderStatus.ACTIVE, OrderStatus.IN_DOUBT, OrderStatus.ACTIVE),
        (OrderStatus.PARTIALLY_FILLED, OrderStatus.ACTIVE, OrderStatus.PARTIALLY_FILLED),
        (OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT, OrderStatus.IN_DOUBT),
        *((OrderStatus.ACTIVE, end, end) for end in ENDS),
        *((end, OrderStatus.ACTIVE, end) for end in ENDS),
        *((end, OrderStatus.FILLED, end) for end in ENDS),
    ],
)
def test_status_moves_forward_only(known: OrderStatus, reported: OrderStatus, after: OrderStatus) -> None:
    """A late "new" or an unheard status takes nothing back."""
    orders, order = registered()
    if known.is_terminal:
        orders.apply(order, report(status=known), 8)
    else:
        order.status = known
    orders.apply(order, report(status=reported), 9)
    assert order.status is after


@pytest.mark.parametrize("believed", [OrderStatus.REJECTED, OrderStatus.CANCELLED])
def test_order_that_was_believed_not_to_exist_is_taken_up_when_the_exchange_has_it(
    believed: OrderStatus,
) -> None:
    """An end that was only concluded here is undone by the exchange's word: it rests, and fills its slot again."""
    orders, order = registered()
    orders.end(order, believed, "never reached the exchange")
    assert orders.apply(order, report(), 9)
    assert (order.status, order.order_id, order.remaining_lots) == (OrderStatus.ACTIVE, 7, 10)
    assert order.reason == "believed not to exist, but does"
    assert orders.living() == [order]
    assert not orders.slot_is_free(order.slot)


@pytest.mark.parametrize("end", ENDS)
def test_end_that_the_exchange_confirms_stays_for_good(end: OrderStatus) -> None:
    """Concluded here, reported there, and the report's word counts: after that a late "new" revives nothing."""
    orders, order = registered()
    orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
    orders.apply(order, report(status=end), 9)
    orders.apply(order, report(), 10)
    assert (order.status, order.end_is_reported) == (end, True)
    assert orders.living() == []


def test_revived_order_that_is_older_than_the_memory_is_living_all_the_same() -> None:
    """It was forgotten among the ended ones, but whoever holds it may report it."""
    orders = FewOrders()
    order = orders.register("qpmm-mm1-1-1", quote(lots=10), 5)
    orders.end(order, OrderStatus.REJECTED)
    end_some(orders, 5)
    assert orders.find(order.client_id) is None
    orders.apply(order, report(), 9)
    assert orders.find(order.client_id) is order
    assert orders.living() == [order]


# --- executed, but not counted ------------------------------------------------------------------------------


def test_executed_lots_whose_trades_have_not_come_are_known_as_uncounted() -> None:
    """Bought less sold, since the first report that told of them, until the trades are in the ledger."""
    orders, buy = registered()
    sell = orders.register("qpmm-mm1-1-2", quote(Side.SELL, 1, 801_000, 10), 5)
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (0, None)
    orders.apply(buy, report(executed_lots=6), 30)
    orders.apply(sell, report(side=Side.SELL, client_id=sell.client_id, executed_lots=2), 40)
    orders.apply(buy, report(executed_lots=8), 50)
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (6, 30)
    orders.count(buy, 8, 60)
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (-2, 40)
    orders.count(sell, 2, 70)
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (0, None)


def test_trade_that_comes_before_its_report_is_executed_and_counted() -> None:
    """The executed quantity grows with it, and nothing is missing."""
    orders, order = registered()
    orders.count(order, 4, 30)
    assert (order.executed_lots, order.counted_lots, orders.uncounted_lots()) == (4, 4, 0)
    orders.apply(order, report(status=OrderStatus.PARTIALLY_FILLED, executed_lots=4), 40)
    assert orders.uncounted_since_ns() is None


def test_ended_order_can_be_uncounted_too() -> None:
    """A cancel that finds an order filled tells of lots before their trades do."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 30)
    assert (orders.living(), orders.uncounted_lots()) == ([], 10)


def test_adopted_position_holds_everything_executed() -> None:
    """Nothing is added to it, also if the order itself is forgotten by then."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 30)
    other = orders.register("qpmm-mm1-1-2", quote(), 5)
    orders.apply(other, report(client_id=other.client_id, status=OrderStatus.FILLED, executed_lots=3), 40)
    del orders._ended[other.client_id]
    assert orders.uncounted_lots() == 10
    orders.count_all()
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (0, None)
    assert (order.counted_lots, order.executed_lots) == (10, 10)


@pytest.mark.parametrize("forgotten_meanwhile", [False, True])
def test_trade_that_comes_after_its_position_was_adopted_is_executed_once(forgotten_meanwhile: bool) -> None:
    """The reading of the position was older than the trade, so that the ledger takes it; the order knew of it."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 30)
    orders.count_all()
    if forgotten_meanwhile:
        orders.forget_ended(0, 0)
    found = orders.find(order.client_id)
    assert found is not None
    orders.count(found, 10, 40)
    assert (found.executed_lots, found.counted_lots, orders.uncounted_since_ns()) == (10, 10, None)


def test_trade_after_an_adopted_one_is_counted_by_itself() -> None:
    """The adopted one never comes: the position holds it."""
    orders, order = registered()
    orders.apply(order, report(executed_lots=3), 30)
    orders.count_all()
    orders.apply(order, report(executed_lots=5), 40)
    assert orders.uncounted_lots() == 2
    orders.count(order, 2, 50, time_ms=report().update_ms + 1)
    assert (order.executed_lots, order.counted_lots, orders.uncounted_lots()) == (5, 5, 0)


def test_late_fill_of_a_cancelled_order_is_counted() -> None:
    """The end stays, the executed quantity grows, and that is news."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.CANCELLED), 9)
    assert orders.apply(order, report(status=OrderStatus.PARTIALLY_FILLED, executed_lots=4), 9)
    assert (order.status, order.executed_lots, order.remaining_lots) == (OrderStatus.CANCELLED, 4, 0)


def test_executed_quantity_makes_an_order_partially_filled_whatever_its_report_calls_it() -> None:
    """A reply that still says "new" after an event told of a fill."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.ACTIVE, executed_lots=3), 9)
    assert (order.status, order.remaining_lots) == (OrderStatus.PARTIALLY_FILLED, 7)


def test_amendment_changes_price_and_size_and_an_older_report_does_not_undo_it() -> None:
    """The newer time of the exchange wins."""
    orders, order = registered()
    orders.apply(order, report(price_ticks=798_000, lots=12, update_ms=START_MS + 5), 9)
    orders.apply(order, report(price_ticks=799_000, lots=10, update_ms=START_MS), 9)
    assert (order.price_ticks, order.lots) == (798_000, 12)


def test_report_without_a_price_leaves_the_price() -> None:
    """A market order has none."""
    orders, order = registered()
    orders.apply(order, report(price_ticks=0, lots=99, update_ms=START_MS + 5), 9)
    assert (order.price_ticks, order.lots) == (799_000, 10)


def test_first_report_tells_when_an_order_was_accepted() -> None:
    """Later ones do not move that moment; a report forgets every "not found"."""
    orders, order = registered()
    order.not_found = 2
    orders.apply(order, report(), 30)
    orders.apply(order, report(executed_lots=1), 40)
    assert (order.accepted_ns, order.not_found, order.order_id) == (30, 0, 7)


def test_accepted_order_waits_for_the_word_of_the_account_stream() -> None:
    """From its acceptance until the stream speaks of it; after that it waits no more."""
    orders, order = registered()
    assert orders.awaiting_echo == {}
    orders.apply(order, report(), 30)
    orders.apply(order, report(), 40)
    assert orders.awaiting_echo == {order.client_id: 30}
    orders.echo(order)
    assert orders.awaiting_echo == {}


def test_order_of_which_the_stream_spoke_first_waits_for_nothing() -> None:
    """The event overtook the reply."""
    orders, order = registered()
    orders.echo(order)
    orders.apply(order, report(), 30)
    assert order.echoed
    assert orders.awaiting_echo == {}


def test_cancelled_order_waits_for_the_word_of_the_account_stream() -> None:
    """What the stream said before the cancel left counts for nothing; its word on the end may come first, or last."""
    for first in ("stream", "answer"):
        orders, order = registered()
        orders.apply(order, report(), 30)
        orders.echo(order)
        orders.begin_cancel(order, 40)
        if first == "stream":
            orders.echo(order)
        orders.apply(order, report(status=OrderStatus.CANCELLED), 50)
        orders.expect_word_of_end(order, 40, 50)
        assert orders.awaiting_echo == ({} if first == "stream" else {order.client_id: 50})
        orders.echo(order)
        assert orders.awaiting_echo == {}


def test_new_account_stream_owes_no_word_on_a_cancel_that_was_sent_before_it() -> None:
    """Its answer comes under the new connection, which has not seen the end."""
    orders, order = registered()
    orders.apply(order, report(), 30)
    orders.begin_cancel(order, 40)
    orders.expect_no_echo_before(41)
    orders.begin_cancel(order, 45)  # which finds nothing any more
    orders.apply(order, report(status=OrderStatus.CANCELLED), 50)
    orders.expect_word_of_end(order, 40, 50)
    assert orders.awaiting_echo == {}


def test_stream_that_told_of_an_end_owes_no_word_when_the_order_is_cancelled_again() -> None:
    """A list that lags has it cancelled once more, before the first cancel is answered."""
    orders, order = registered()
    orders.apply(order, report(), 30)
    orders.echo(order)
    orders.begin_cancel(order, 40)
    orders.echo(order)
    orders.apply(order, report(status=OrderStatus.CANCELLED), 45)
    orders.begin_cancel(order, 50)
    orders.expect_word_of_end(order, 40, 55)
    assert orders.awaiting_echo == {}


def test_new_account_stream_owes_no_word_on_what_was_sent_before_it() -> None:
    """An order without an answer that a look-up finds ended, and an amendment; what is sent from then on counts."""
    orders, order = registered()
    orders.doubt(order, "no answer")
    orders.expect_no_echo_before(order.sent_ns + 1)
    orders.apply(order, report(status=OrderStatus.CANCELLED), 30)
    assert orders.awaiting_echo == {}
    for sent_ns, waits in ((order.sent_ns, False), (order.sent_ns + 1, True)):
        later = orders.register(f"qpmm-{waits}", quote(level=2 + waits), sent_ns)
        orders.apply(later, report(client_id=later.client_id, order_id=100 + waits), 40)
        assert (later.client_id in orders.awaiting_echo) is waits


def test_stream_has_its_time_to_tell_of_an_order_that_ended_at_once() -> None:
    """With the shortest cleanup interval, too: what is kept of it says since when the stream owes its word."""
    orders = LiveOrders()
    order = orders.register("qpmm-mm1-1-1", quote(lots=10), MINUTE_NS)
    orders.apply(order, report(status=OrderStatus.CANCELLED), MINUTE_NS)
    for after_s in range(5):
        now_ns = MINUTE_NS + after_s * 10**9
        orders.forget_ended(now_ns, 1)
        assert not orders.echo_is_overdue(now_ns, 5000)
    assert orders.echo_is_overdue(MINUTE_NS + 5 * 10**9 + 1, 5000)


def test_order_of_an_earlier_run_waits_for_nothing() -> None:
    """The stream of this run never saw it placed."""
    orders = LiveOrders()
    orders.adopt(report(client_id="qpmm-old"), 9)
    assert orders.awaiting_echo == {}


def test_order_remembers_the_mid_on_which_it_was_decided() -> None:
    """Exact, in half ticks."""
    order = LiveOrders().register("qpmm-mm1-1-1", quote(), 5, decided_mid_half_ticks=1_600_001)
    assert order.decided_mid_half_ticks == 1_600_001


def test_client_id_is_never_used_twice() -> None:
    """Neither while its order lives nor after."""
    orders, order = registered()
    with pytest.raises(ValueError, match="qpmm-mm1-1-1 was used before"):
        orders.register(order.client_id, quote(), 6)
    orders.end(order, OrderStatus.CANCELLED)
    with pytest.raises(ValueError, match="qpmm-mm1-1-1 was used before"):
        orders.register(order.client_id, quote(), 7)


def test_order_counts_from_its_registration_on() -> None:
    """Before anything was sent it fills its slot, at full size."""
    orders, order = registered()
    assert order.status is OrderStatus.PENDING_NEW
    assert not orders.slot_is_free((Side.BUY, 1))
    assert orders.slot_is_free((Side.SELL, 1))
    assert orders.resting_notional_quote(Side.BUY, BTC) == Decimal(799)
    assert orders.resting_notional_quote(Side.SELL, BTC) == 0


def test_unknown_outcome_leaves_an_order_in_doubt_at_full_size() -> None:
    """It may rest, so it does, until the exchange says otherwise."""
    orders, order = registered()
    orders.doubt(order, "timeout")
    assert orders.in_doubt() == [order]
    assert order.reason == "timeout"
    assert not orders.slot_is_free(order.slot)
    assert order.remaining_lots == 10


def test_doubt_comes_too_late_when_an_event_has_spoken() -> None:
    """The reply timed out, but the user stream told of the order before."""
    orders, order = registered()
    orders.apply(order, report(), 9)
    orders.doubt(order, "timeout")
    assert order.status is OrderStatus.ACTIVE
    assert orders.in_doubt() == []


def test_ended_order_frees_its_slot_and_is_still_found() -> None:
    """Late fills need it, by either id."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 9)
    assert orders.living() == []
    assert orders.slot_is_free(order.slot)
    assert orders.find(order.client_id) is order
    assert orders.by_order_id(7) is order
    assert orders.by_order_id(8) is None
    assert orders.find("qpmm-other") is None


def test_reason_of_an_end_is_kept_beside_an_earlier_one() -> None:
    """An end without a reason keeps the one there is."""
    orders, order = registered()
    orders.doubt(order, "timeout")
    orders.end(order, OrderStatus.REJECTED)
    assert order.reason == "timeout"
    orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
    assert order.reason == "never reached the exchange"


def test_memory_of_ended_orders_is_bounded() -> None:
    """The oldest is shortened first, and the oldest of the short ones forgotten first."""
    orders = FewOrders()
    end_some(orders, 6)
    assert [number for number in range(6) if orders.find(f"qpmm-{number}") is None] == [0]


# --- orders that have left memory -----------------------------------------------------------------------------


MINUTE_NS = 60_000_000_000


class FewOrders(LiveOrders):
    """Two ended orders as a whole, three more in short."""

    REMEMBERED = 2
    RECORDED = 3


def end_some(orders: LiveOrders, count: int) -> None:
    """Have so many orders end, numbered from 0, also for the exchange."""
    for number in range(count):
        order = orders.register(f"qpmm-{number}", quote(), 0)
        ended = report(client_id=order.client_id, order_id=number + 1, status=OrderStatus.CANCELLED)
        orders.apply(order, ended, 0)


def forgotten() -> tuple[LiveOrders, LiveOrder]:
    """An order that was cancelled with 4 of its 10 lots executed and counted, and has left memory since."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.CANCELLED, executed_lots=4), 9)
    orders.count(order, 4, 9)
    assert orders.forget_ended(0, 0) == 1
    return orders, order


def test_ended_order_leaves_memory_after_the_interval_and_not_before() -> None:
    """Counted from the first look at it."""
    orders, _ = registered()
    end_some(orders, 2)
    assert orders.forget_ended(MINUTE_NS, 60) == 0
    assert orders.forget_ended(2 * MINUTE_NS - 1, 60) == 0
    assert orders.forget_ended(2 * MINUTE_NS, 60) == 2
    assert orders.forget_ended(9 * MINUTE_NS, 60) == 0
    assert [order.client_id for order in orders.living()] == ["qpmm-mm1-1-1"]


@pytest.mark.parametrize("by", ["client id", "order id"])
def test_late_fill_finds_an_order_that_has_left_memory(by: str) -> None:
    """With its side, level, end and what was executed of it; the fill is counted once more."""
    orders, order = forgotten()
    found = orders.find(order.client_id) if by == "client id" else orders.by_order_id(7)
    assert found is not None
    assert found is not order
    assert (found.slot, found.status, found.order_id) == (order.slot, OrderStatus.CANCELLED, 7)
    assert (found.executed_lots, found.counted_lots, found.end_is_reported) == (4, 4, True)
    orders.count(found, 3, 20)
    assert (found.executed_lots, orders.uncounted_lots()) == (7, 0)
    assert orders.find(order.client_id) is found


def test_late_report_undoes_no_end_of_an_order_that_has_left_memory() -> None:
    """It is known as ended, waits for no echo, and frees its slot."""
    orders, order = forgotten()
    found = orders.find(order.client_id)
    assert found is not None
    assert not orders.apply(found, report(executed_lots=4), 20)
    assert (orders.living(), orders.awaiting_echo) == ([], {order.client_id: 9})
    assert orders.to_ask() == {}


def test_order_that_was_believed_not_to_exist_is_taken_up_from_the_short_memory_too() -> None:
    """The exchange shows it after all."""
    orders, order = registered()
    orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
    orders.forget_ended(0, 0)
    assert orders.adopt(report(), 9).slot == order.slot
    assert len(orders.living()) == 1


def test_order_that_is_still_needed_stays_in_memory() -> None:
    """Its trades are missing, or something was said of it that cannot be."""
    orders, order = registered()
    orders.apply(order, report(status=OrderStatus.FILLED, executed_lots=10), 9)
    assert orders.forget_ended(0, 0) == 0
    orders.count(order, 10, 9)
    orders.apply(order, report(status=OrderStatus.CANCELLED, executed_lots=10), 9)
    assert orders.forget_ended(0, 0) == 0
    orders.asked(order)
    assert orders.forget_ended(0, 0) == 1


def test_client_id_of_an_order_that_has_left_memory_is_never_used_again() -> None:
    """It is known, if only in short."""
    orders, order = forgotten()
    with pytest.raises(ValueError, match="was used before"):
        orders.register(order.client_id, quote(), 6)


def test_cancel_under_way_is_shown_until_the_end() -> None:
    """It changes nothing about what may still be filled."""
    orders, order = registered()
    orders.apply(order, report(), 9)
    assert not order.cancel_requested
    orders.begin_cancel(order, 20)
    assert order.cancel_requested
    assert order.shown_status is OrderStatus.PENDING_CANCEL
    assert order.remaining_lots == 10
    orders.apply(order, report(status=OrderStatus.CANCELLED), 9)
    assert order.shown_status is OrderStatus.CANCELLED


def test_order_of_an_earlier_run_is_taken_up_outside_of_any_slot() -> None:
    """Level 0: it counts as resting and competes with no quote."""
    orders = LiveOrders()
    order = orders.adopt(report(client_id="qpmm-old"), 9)
    assert orders.living() == [order]
    assert (order.level, order.status, order.echoed, order.order_id) == (0, OrderStatus.ACTIVE, True, 7)
    assert all(orders.slot_is_free((side, 1)) for side in Side)


def test_what_an_order_of_an_earlier_run_has_traded_is_waited_for_in_no_case() -> None:
    """It is in the books already: nothing is missing of it, and what trades afterwards is counted by itself."""
    orders = LiveOrders()
    old = report(client_id="qpmm-old", status=OrderStatus.PARTIALLY_FILLED, executed_lots=4)
    order = orders.adopt(old, 9)
    assert (order.executed_lots, orders.uncounted_lots(), orders.uncounted_since_ns()) == (4, 0, None)
    orders.apply(order, replace(old, executed_lots=6), 20)
    assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (2, 20)
    orders.count(order, 2, 30, time_ms=old.update_ms + 1)
    assert (order.executed_lots, order.counted_lots, orders.uncounted_since_ns()) == (6, 6, None)


def test_trade_of_an_order_of_an_earlier_run_that_was_missing_is_executed_once() -> None:
    """The ledger takes it when it comes; the order has shown it when it was taken up."""
    orders = LiveOrders()
    old = report(client_id="qpmm-old", status=OrderStatus.PARTIALLY_FILLED, executed_lots=4)
    order = orders.adopt(old, 9)
    orders.count(order, 4, 30)
    assert (order.executed_lots, order.counted_lots, orders.uncounted_since_ns()) == (4, 4, None)


@pytest.mark.parametrize(
    "what_comes",
    [*permutations(["old trade", "new trade", "report"]), *permutations(["new trade", "report"])],
)
@pytest.mark.parametrize("forgets", [False, True])
def test_trades_before_and_after_an_order_was_taken_up_are_told_apart_whatever_comes_first(
    what_comes: tuple[str, ...], forgets: bool
) -> None:
    """Four lots were executed when it was found, three are since: nothing is missing at the end.

    The old trade does not come where it was counted as that of an order that nobody knew.
    """
    orders = LiveOrders()
    old = report(client_id="qpmm-old", status=OrderStatus.PARTIALLY_FILLED, executed_lots=4)
    later = replace(old, status=OrderStatus.CANCELLED, executed_lots=7, update_ms=old.update_ms + 1)
    orders.adopt(old, 9)
    order: LiveOrder | None = None
    for what in what_comes:
        order = orders.find("qpmm-old")
        assert order is not None
        if what == "report":
            orders.apply(order, later, 20)
        else:
            lots, at = (4, old) if what == "old trade" else (3, later)
            orders.count(order, lots, 20, time_ms=at.update_ms)
        if forgets:
            orders.forget_ended(30, 0)
    assert order is not None
    assert (order.executed_lots, order.counted_lots) == (7, 7)
    assert orders.uncounted_since_ns() is None


def test_known_order_is_not_taken_up_a_second_time() -> None:
    """Its report is applied."""
    orders, order = registered()
    assert orders.adopt(report(executed_lots=2), 9) is order
    assert (order.level, order.executed_lots, orders.uncounted_lots()) == (1, 2, 2)
    assert orders.living() == [order]


SETTLED_NS = 3_000_000_005
"""Sent at 5 ns; a receive window of 2 s, and 1 s to settle."""


@pytest.mark.parametrize(
    ("not_found", "uncancellable_ns", "now_ns", "proven"),
    [
        (2, SETTLED_NS, SETTLED_NS, True),
        (3, SETTLED_NS + 1, 9_000_000_000, True),
        (1, SETTLED_NS, 9_000_000_000, False),
        (0, SETTLED_NS, 9_000_000_000, False),
        (9, 0, 9_000_000_000, False),
        (9, SETTLED_NS - 1, 9_000_000_000, False),
        (2, SETTLED_NS, SETTLED_NS - 1, False),
    ],
    ids=[
        "all together",
        "longer ago",
        "one answer",
        "no answer",
        "never cancelled",
        "cancelled too early",
        "window open",
    ],
)
def test_absence_is_proof_after_a_cancel_that_found_nothing_behind_the_window(
    not_found: int, uncancellable_ns: int, now_ns: int, proven: bool
) -> None:
    """Queries alone prove nothing, however often they find nothing: their copy may lag."""
    _, order = registered()
    order.not_found, order.uncancellable_ns = not_found, uncancellable_ns
    assert absence_is_proof(order, now_ns, recv_window_ms=2000) is proven


def test_client_ids_are_ours_and_allowed_and_never_the_same() -> None:
    """At most 36 of the characters that the exchange takes, unique over runs and instances."""
    minted: list[str] = []
    for instance, boot_ms in (("mm1", START_MS), ("mm1", START_MS + 1), ("abcdefgh", START_MS)):
        ids = ClientIds(instance, boot_ms)
        minted += [ids.mint() for _ in range(100)]
    assert len(set(minted)) == 300
    assert all(is_ours(one) for one in minted)
    assert all(re.fullmatch(r"[.A-Z:/a-z0-9_-]{1,36}", one) for one in minted)


def test_client_id_leaves_room_for_a_long_life() -> None:
    """Ten million orders of the longest instance name still fit."""
    ids = ClientIds("abcdefgh", 4_102_444_800_000)
    ids._next = 10_000_000  # a life's work, not minted one by one
    assert len(ids.mint()) <= 36


def test_first_moment_has_a_client_id_too() -> None:
    """The epoch itself is "0"."""
    assert ClientIds("mm1", 0).mint() == f"{PREFIX}mm1-0-1"


@pytest.mark.parametrize("client_id", ["", "web_123", "x-qpmm-1", "QPMM-1", "autoclose-1"])
def test_orders_of_others_are_not_ours(client_id: str) -> None:
    """Only the prefix, at the beginning and as we spell it."""
    assert not is_ours(client_id)


def test_order_of_which_more_was_executed_than_it_was_known_to_have_makes_no_room() -> None:
    """The trades of an amendment may come before the amendment: what is left is never less than nothing."""
    orders, order = registered()
    orders.apply(order, report(update_ms=1), 1)
    orders.count(order, 12, 2)
    assert (order.executed_lots, order.remaining_lots, order.worst_remaining_lots) == (12, 0, 0)
    assert Exposure(Decimal(0), MARK, orders, BTC, RISK).share(Side.BUY) == 0
    orders.register("qpmm-mm1-1-2", quote(level=2, lots=3), 3)
    alone = LiveOrders()
    alone.register("qpmm-mm1-1-2", quote(level=2, lots=3), 3)
    shares = [Exposure(Decimal(0), MARK, each, BTC, RISK).share(Side.BUY) for each in (orders, alone)]
    assert shares[0] == shares[1]


def test_trades_between_two_steps_come_to_what_was_executed() -> None:
    """Two trades of half a step are one lot; a short record and a late report keep what is beyond it."""
    half = BTC.step_size / 2
    orders, order = registered()
    for executed in (half, 2 * half, 3 * half):
        lots, rest = BTC.whole_lots(executed)
        orders.apply(order, report(executed_lots=lots, executed_rest=rest), 20)
        assert order.executed_quantity(BTC) == executed
        assert order.status is OrderStatus.PARTIALLY_FILLED
        assert orders.uncounted_since_ns() == 20
        lots, rest = BTC.whole_lots(half + order.counted_rest)
        orders.count(order, lots, 30, rest)
        assert orders.uncounted_since_ns() is None
    end = report(status=OrderStatus.CANCELLED, executed_lots=1, executed_rest=half)
    orders.apply(order, end, 40)
    assert [orders.forget_ended(50, 0), orders.forget_ended(50, 0)] == [1, 0]
    found = orders.find(order.client_id)
    assert found is not None
    assert found is not order
    assert not orders.apply(found, end, 60)
    assert (found.executed_quantity(BTC), orders.uncounted_since_ns()) == (3 * half, None)
