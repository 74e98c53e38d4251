"""What must hold of the orders that rest, at every change of one: numbers, prices, exposure."""

from decimal import Decimal

from sim.orders import Order, Side, TimeInForce
from sim.record import FillRecord
from test.simulation.facts import (
    DEAD_MAN_S,
    LEVELS,
    LIMIT_QUOTE,
    LYING_READS,
    MARKET_SHOCKS,
    OTHER_HANDS,
    SIZE_QUOTE,
    Facts,
)

_LYING_FOR_S = 60.0
_SAME_PRICE_S = 3.0
_SHOCK_S = 75.0
_FARTHEST = Decimal("0.05")
_DRIFT = Decimal("1.02")


class RestingRules:
    """INV-01, -02, -03, -04, -05, -07 and -35."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._ids: set[str] = set()
        self._same_price_s: float | None = None

    def order_changed(self, order: Order, execution: str, fill: FillRecord | None) -> None:
        """Look at an order of ours that was accepted, amended, filled or has ended."""
        if fill is not None:
            self.inv_04_quotes_make(order, fill)
            self.inv_05_flatten_never_flips(order, fill)
            return
        if execution not in ("NEW", "AMENDMENT"):
            return
        if execution == "NEW":
            self.inv_02_id_is_used_once(order)
        if order.reduce_only:
            return
        ours = [each for each in self._facts.world.ours() if not each.reduce_only]
        if order.arrival.would_cross:
            return  # it expires in this very turn and never rests
        self.inv_07_quote_is_within_bounds(order)
        self.inv_01_no_more_than_levels(ours)
        self.inv_35_own_quotes_do_not_cross(ours)
        self.inv_03_worst_case_is_within_limit(ours)

    def look(self) -> None:
        """Look at what rests, now and then."""
        self.inv_02_one_order_for_each_intent()

    def _reads_lied(self) -> bool:
        return self._facts.struck(_LYING_FOR_S, *LYING_READS)

    def inv_01_no_more_than_levels(self, ours: list[Order]) -> None:
        """INV-01: a side has at most as many quotes as levels; an amendment replaces in place, so none are added.

        Twice as many while the exchange's own readings leave out what rests: nobody could know of those. The same for
        the minute in which an order that a request brought twice may rest after its end.
        """
        most = LEVELS * (2 if self._reads_lied() or self._facts.struck(60.0, "twice", "echo") else 1)
        for side in (Side.BUY, Side.SELL):
            number = sum(each.side is side for each in ours)
            if number > most:
                self._facts.violated("INV-01", f"{number} quotes rest on the {side} side, {most} are allowed")

    def inv_02_id_is_used_once(self, order: Order) -> None:
        """INV-02: the exchange accepts each client id of ours at most once in history.

        Where the network brings a request twice the second one may come when the first order has ended.
        """
        if order.client_order_id in self._ids and not self._facts.struck(5.0, "twice", "echo"):
            self._facts.violated("INV-02", f"{order.client_order_id} was accepted twice")
        self._ids.add(order.client_order_id)

    def inv_02_one_order_for_each_intent(self) -> None:
        """INV-02: no two quotes rest at one price for longer than a refresh takes to amend them one after the other."""
        prices = [(each.side, each.price_ticks) for each in self._facts.world.ours() if not each.reduce_only]
        now_s = self._facts.now_s
        if len(set(prices)) == len(prices) or self._reads_lied():
            self._same_price_s = None
        elif self._same_price_s is None:
            self._same_price_s = now_s
        elif now_s - self._same_price_s > _SAME_PRICE_S + DEAD_MAN_S:
            self._facts.violated("INV-02", f"two quotes rest at one price: {sorted(prices)}")

    def inv_03_worst_case_is_within_limit(self, ours: list[Order]) -> None:
        """INV-03: position and all quotes of a side, filled, stay within the limit when a quote is placed or amended.

        2 % are allowed for what the price may move between two looks of the daemon, as it allows itself. Other hands
        and shocks of the market change the sum without the daemon: no verdict until it must have noticed (40 s; at
        worst the dead-man switch has taken the quotes out by then).
        """
        facts = self._facts
        if facts.struck(2 * DEAD_MAN_S, *OTHER_HANDS, *MARKET_SHOCKS) or self._reads_lied():
            return
        instrument = facts.instrument
        rules, mark = instrument.rules, max(instrument.mark.mark, instrument.mid)
        held = rules.quantity(facts.world.exchange._venue.account.positions[instrument.symbol].lots)
        sums = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for each in ours:
            sums[each.side] += rules.quantity(each.remaining_lots)
        worst = max((held + sums[Side.BUY]) * mark, (sums[Side.SELL] - held) * mark)
        if worst > LIMIT_QUOTE * _DRIFT and abs(held) * mark < LIMIT_QUOTE:
            facts.violated(
                "INV-03", f"worst case {worst:.2f} with a position of {held} and {len(ours)} quotes"
            )

    def inv_04_quotes_make(self, order: Order, fill: FillRecord) -> None:
        """INV-04: every fill of a quote is a maker fill, without exception."""
        if not order.reduce_only and not fill.maker:
            self._facts.violated("INV-04", f"the quote {order.client_order_id} took at {fill.price_ticks}")

    def inv_05_flatten_never_flips(self, order: Order, fill: FillRecord) -> None:
        """INV-05: an order of ours that takes neither raises the position nor turns it around, without exception."""
        if order.time_in_force is TimeInForce.GTX:
            return
        facts = self._facts
        after = facts.world.exchange._venue.account.positions[order.symbol].lots
        before = after - (fill.lots if order.is_buy else -fill.lots)
        if abs(after) > abs(before) or after * before < 0:
            facts.violated("INV-05", f"a closing order moved the position from {before} to {after} lots")

    def inv_07_quote_is_within_bounds(self, order: Order) -> None:
        """INV-07: a quote is post-only, what remains of it no larger than configured, and within 5 % of the mid.

        Prices and quantities off tick, step or filter are refused by the exchange and looked at there (``answered``).
        """
        facts, instrument = self._facts, self._facts.instrument
        rules = instrument.rules
        if order.time_in_force is not TimeInForce.GTX:
            facts.violated(
                "INV-07", f"the quote {order.client_order_id} is {order.time_in_force}, not post-only"
            )
        value = rules.price(order.price_ticks) * rules.quantity(order.remaining_lots)
        if value > SIZE_QUOTE * _DRIFT:
            facts.violated("INV-07", f"the quote {order.client_order_id} is worth {value}")
        mid, price = instrument.mid, rules.price(order.price_ticks)
        if mid and abs(price - mid) > mid * _FARTHEST and not facts.struck(_SHOCK_S, *MARKET_SHOCKS):
            facts.violated(
                "INV-07", f"the quote {order.client_order_id} at {price} is far from the mid {mid}"
            )

    def inv_35_own_quotes_do_not_cross(self, ours: list[Order]) -> None:
        """INV-35: our best bid is below our best ask; not while the exchange's readings hide what rests."""
        bids = [each.price_ticks for each in ours if each.side is Side.BUY]
        asks = [each.price_ticks for each in ours if each.side is Side.SELL]
        if bids and asks and max(bids) >= min(asks) and not self._reads_lied():
            self._facts.violated("INV-35", f"bid {max(bids)} against ask {min(asks)}")
