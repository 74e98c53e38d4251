"""The trading desk: takes validated orders, lets them meet the market, books what happens and tells the account.

Every change of an order passes through here, in one order: the order, the book, the account, the record, the events.

Source: facts section 4 (order semantics), 7 (events per fill).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from sim import payloads
from sim.account import Account, OpenInterest
from sim.brackets import max_notional
from sim.errors import refusal
from sim.instrument import Instrument
from sim.market import BookTicker, Trade
from sim.matching import Fill
from sim.money import ZERO, product
from sim.orders import (
    Amendment,
    Change,
    ExpiryReason,
    Order,
    OrderSpec,
    OrderStatus,
    OrderType,
    Side,
    Sighting,
    StpMode,
    TimeInForce,
)
from sim.record import FillRecord, Ledger
from sim.streams import UserStream
from sim.witness import Witness

GTC_LIFE_MS = 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Placed:
    """A new order, and the same as it was when it was accepted, which is what an ACK reply shows.

    That is a copy unless the order rests, unchanged.
    """

    order: Order
    accepted: Order


class Desk:
    """Places, amends, cancels and fills the orders of the one account."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        account: Account,
        ledger: Ledger,
        user: UserStream,
        *,
        refuses_covered: bool = False,
    ) -> None:
        self._instruments = instruments
        self._account = account
        self._ledger = ledger
        self._user = user
        self._refuses_covered = refuses_covered
        self._order_count = 0
        self._foreign_count = 0
        self._amendment_count = 0
        self.witness: Witness | None = None

    @property
    def marks(self) -> dict[str, Decimal]:
        """Return the mark price of every symbol."""
        return {symbol: instrument.mark.mark for symbol, instrument in self._instruments.items()}

    # What the account wants

    def place(self, instrument: Instrument, spec: OrderSpec, now_ms: int) -> Placed:
        """Accept the order and let it trade or rest.

        Raises ApiError -2022, -2019, -4118 or -2027 (account), -5021 or -5022 (book); then nothing has happened.
        """
        lots = self._reduced(instrument, spec.side, spec.lots) if spec.reduce_only else spec.lots
        seen = self._sight_new(instrument, spec.side, spec.price_ticks, lots, now_ms)
        if not spec.reduce_only:
            self._check_margin(instrument, spec.side, seen.price_ticks, lots)
        elif self._could_flip(instrument, spec.side, lots):
            self._check_margin(instrument, spec.side, seen.price_ticks, lots, code=-4118)
        self._check_book(instrument, spec, lots, crosses=seen.would_cross)
        order = self._open(instrument, spec, seen)
        self._announce(instrument, order, "NEW", now_ms)
        if not seen.would_cross and order.time_in_force is not TimeInForce.IOC:
            self._rest(instrument, order)
            return Placed(order, order)
        placed = Placed(order, replace(order))
        if seen.would_cross and order.time_in_force is TimeInForce.GTX:
            self._expire(instrument, order, ExpiryReason.NONE, now_ms)
        else:
            self._take(instrument, order, now_ms)
        return placed

    def amend(self, instrument: Instrument, order: Order, change: Change, now_ms: int) -> None:
        """Give the order a new price and total quantity, at the tail of its level.

        The order ends instead if nothing would remain of it, or if it is post-only and would take.
        Raises ApiError -5027, -5026 or -2019; then the order stays as it was.
        """
        price_ticks, lots = change.price_ticks, change.lots
        if (price_ticks, lots) == (order.price_ticks, order.lots):
            raise refusal(-5027)
        if order.modify_count >= instrument.regime.posted.max_amendments:
            raise refusal(-5026)
        if lots <= order.executed_lots:
            self._end(instrument, order, OrderStatus.CANCELED, now_ms)
            return
        crosses = instrument.matcher.would_take(price_ticks, is_buy=order.is_buy)
        if crosses and order.time_in_force is TimeInForce.GTX:
            self._end(instrument, order, OrderStatus.EXPIRED, now_ms)
            return
        if order.reduce_only:
            left = self._reduced(instrument, order.side, lots - order.executed_lots, order)
            lots = order.executed_lots + left
        else:
            self._check_margin(instrument, order.side, price_ticks, lots - order.executed_lots, order)
        instrument.matcher.remove(order.order_id)
        amendment = self._amendment(order, change)
        seen = _sight(instrument, price_ticks, lots, now_ms, would_cross=crosses, amendment=amendment)
        order.amend(seen, change)
        self._announce(instrument, order, "AMENDMENT", now_ms, modify_id=change.modify_id)
        if crosses:
            self._take(instrument, order, now_ms)
        else:
            self._rest(instrument, order)

    def cancel(self, instrument: Instrument, order: Order, now_ms: int) -> None:
        """Cancel the open order."""
        self._end(instrument, order, OrderStatus.CANCELED, now_ms)

    def cancel_all(self, instrument: Instrument, now_ms: int) -> None:
        """Cancel all open orders of the symbol."""
        for order in list(instrument.open.values()):
            self._end(instrument, order, OrderStatus.CANCELED, now_ms)

    def expire_overdue(self, now_ms: int) -> None:
        """End the orders whose time is over: GTD at their date as EXPIRED, GTC after a year as CANCELED."""
        for instrument in self._instruments.values():
            for order in list(instrument.open.values()):
                if order.good_till_ms and order.good_till_ms <= now_ms:
                    self._expire(instrument, order, ExpiryReason.NONE, now_ms)
                elif now_ms - order.time_ms >= GTC_LIFE_MS and order.time_in_force is TimeInForce.GTC:
                    self._end(instrument, order, OrderStatus.CANCELED, now_ms)

    def expire_all(self, instrument: Instrument, now_ms: int) -> None:
        """End all open orders of the symbol as EXPIRED_IN_MATCH."""
        for order in list(instrument.open.values()):
            self._expire(instrument, order, ExpiryReason.SELF_TRADE, now_ms)

    def fill_resting(self, instrument: Instrument, order: Order, lots: int, now_ms: int) -> None:
        """Let so many lots of a resting order trade at its price, as maker, whatever the market does."""
        if lots < order.remaining_lots:
            instrument.matcher.shrink(order.order_id, order.remaining_lots - lots)
        self._book(instrument, Fill(order.order_id, lots, order.price_ticks, maker=True), now_ms)

    def forget(self) -> None:
        """Drop the open orders without an event, and begin anew with their ids."""
        for instrument in self._instruments.values():
            for order in list(instrument.open.values()):
                instrument.drop(order)
            instrument.trade_count = 0
        self._order_count = 0

    def foreign_fill(
        self, instrument: Instrument, side: Side, lots: int, now_ms: int, client_order_id: str = ""
    ) -> Order:
        """Let a MARKET order from elsewhere fill on the account, in full and at the touch, past all checks."""
        self._foreign_count += 1
        spec = OrderSpec(
            client_order_id=client_order_id or f"sim-fill-{self._foreign_count}",
            side=side,
            type=OrderType.MARKET,
            time_in_force=TimeInForce.GTC,
            price_ticks=None,
            lots=lots,
        )
        order = self._open(instrument, spec, self._sight_new(instrument, side, None, lots, now_ms))
        self._announce(instrument, order, "NEW", now_ms)
        touch = instrument.touch(is_buy=order.is_buy)
        self._book(instrument, Fill(order.order_id, lots, touch, maker=False), now_ms)
        return order

    def knock_out(self, instruments: Iterable[Instrument], now_ms: int) -> None:
        """End all open orders of these symbols, because they are being liquidated."""
        for instrument in instruments:
            for order in list(instrument.open.values()):
                self._expire(instrument, order, ExpiryReason.LIQUIDATION, now_ms)

    def liquidate(self, instrument: Instrument, now_ms: int) -> None:
        """Close the symbol's position through the book as far as that goes, and take the liquidation fee."""
        lots = self._account.positions[instrument.symbol].lots
        spec = OrderSpec(
            client_order_id=f"autoclose-{now_ms}",
            side=Side.SELL if lots > 0 else Side.BUY,
            type=OrderType.LIQUIDATION,
            time_in_force=TimeInForce.IOC,
            price_ticks=None,
            lots=abs(lots),
        )
        order = self._open(instrument, spec, self._sight_new(instrument, spec.side, None, abs(lots), now_ms))
        self._announce(instrument, order, "NEW", now_ms)
        self._take(instrument, order, now_ms)
        value = instrument.value(order.traded_tick_lots)
        if value:
            self.clear(instrument, -product(value, instrument.rules.liquidation_fee), now_ms)

    def clear(self, instrument: Instrument, amount: Decimal, now_ms: int) -> None:
        """Let the insurance fund pay the wallet ``amount``, or be paid if it is negative."""
        self._account.wallet += amount
        self._ledger.add_cash(instrument.symbol, "INSURANCE_CLEAR", amount, now_ms)
        if self._user.is_heard:
            update = payloads.clearance_account_update(self._account, instrument, amount, now_ms)
            self._user.publish("ACCOUNT_UPDATE", payloads.encode(update), now_ms)

    # What the market does

    def on_quote(self, instrument: Instrument, event: BookTicker) -> None:
        """Bring the new quote into force and book the fills that it causes."""
        instrument.quote = event
        fills = instrument.matcher.on_quote(event.bid_ticks, event.bid_lots, event.ask_ticks, event.ask_lots)
        if fills:
            self._book_all(instrument, fills, event.time_ms)

    def on_trade(self, instrument: Instrument, event: Trade) -> None:
        """Let the trade happen and book the fills that it causes."""
        fills = instrument.matcher.on_trade(
            event.price_ticks, event.lots, buyer_is_maker=event.buyer_is_maker
        )
        if fills:
            self._book_all(instrument, fills, event.time_ms)

    def settle_funding(self, instrument: Instrument, now_ms: int) -> None:
        """Settle funding of the symbol's open position at its mark price and the rate in force."""
        if not self._account.positions[instrument.symbol].lots:
            return
        rate = instrument.funding.rate
        amount = self._account.book_funding(instrument.symbol, instrument.mark.mark, rate)
        self._ledger.add_cash(instrument.symbol, "FUNDING_FEE", amount, now_ms)
        if self._user.is_heard:
            update = payloads.funding_account_update(self._account, instrument, amount, now_ms)
            self._user.publish("ACCOUNT_UPDATE", payloads.encode(update), now_ms)

    # Checks

    def required_margin(self, instrument: Instrument, leverage: int | None = None) -> Decimal:
        """Return the initial margin of all symbols; ``leverage`` replaces that of ``instrument``."""
        total = ZERO
        for other in self._instruments.values():
            total += self._account.initial_margin(
                other.symbol,
                other.mark.mark,
                other.open_interest(),
                leverage if other is instrument else None,
            )
        return total

    def worst_notional(self, instrument: Instrument) -> Decimal:
        """Return the position's value if all bids or all asks fill, whichever is larger."""
        position, interest = self._account.positions[instrument.symbol], instrument.open_interest()
        notional = position.notional(instrument.rules, instrument.mark.mark)
        return max(abs(notional + interest.bids), abs(notional - interest.asks))

    def _could_flip(self, instrument: Instrument, side: Side, lots: int) -> bool:
        """Tell whether a reduce-only order and others of its side, all filled, would turn the position around."""
        others = sum(
            order.remaining_lots
            for order in instrument.open.values()
            if order.side is side and not order.reduce_only
        )
        return bool(others) and others + lots > self._reducible(instrument, side)

    def _check_margin(
        self,
        instrument: Instrument,
        side: Side,
        price_ticks: int,
        lots: int,
        replaced: Order | None = None,
        code: int = -2019,
    ) -> None:
        bids, asks = instrument.open_tick_lots()
        more = max(price_ticks * lots, 0)
        if replaced is not None:
            more -= replaced.price_ticks * replaced.remaining_lots
        if more <= 0:
            return
        then_bids, then_asks = (bids + more, asks) if side is Side.BUY else (bids, asks + more)
        then = self._margin(instrument, then_bids, then_asks)
        leverage = self._account.leverages[instrument.symbol]
        if then * leverage > max_notional(instrument.rules, leverage):
            code = -2027
        elif then + self._margin_of_others(instrument) <= self._account.cover(self.marks):
            return
        if then > self._margin(instrument, bids, asks):
            raise refusal(code)

    def _margin_of_others(self, instrument: Instrument) -> Decimal:
        total = ZERO
        for other in self._instruments.values():
            if other is not instrument:
                total += self._margin(other, *other.open_tick_lots())
        return total

    def _margin(self, instrument: Instrument, bid_tick_lots: int, ask_tick_lots: int) -> Decimal:
        """Return the initial margin of the symbol if such orders were open."""
        orders = OpenInterest(instrument.value(bid_tick_lots), instrument.value(ask_tick_lots))
        return self._account.initial_margin(instrument.symbol, instrument.mark.mark, orders)

    def _check_book(self, instrument: Instrument, spec: OrderSpec, lots: int, *, crosses: bool) -> None:
        if spec.time_in_force is TimeInForce.GTX and crosses and not instrument.regime.expires_post_only:
            raise refusal(-5022)
        if spec.time_in_force is TimeInForce.FOK and not instrument.matcher.fillable(
            spec.price_ticks, lots, is_buy=spec.side is Side.BUY
        ):
            raise refusal(-5021)

    def _reducible(self, instrument: Instrument, side: Side) -> int:
        """Return the lots by which the side can reduce the position."""
        lots = self._account.positions[instrument.symbol].lots
        return max(0, -lots if side is Side.BUY else lots)

    def _reduced(self, instrument: Instrument, side: Side, lots: int, replaced: Order | None = None) -> int:
        reducible = self._reducible(instrument, side)
        allowed = min(lots, reducible)
        if not allowed:
            raise refusal(-2022)
        if self._refuses_covered:
            others = sum(
                order.remaining_lots
                for order in instrument.open.values()
                if order.side is side and order.reduce_only and order is not replaced
            )
            if others + allowed > reducible:
                raise refusal(-4118)
        return allowed

    # The life of an order

    def _sight_new(
        self, instrument: Instrument, side: Side, price_ticks: int | None, lots: int, now_ms: int
    ) -> Sighting:
        is_buy = side is Side.BUY
        if price_ticks is None:
            return _sight(instrument, instrument.touch(is_buy=is_buy), lots, now_ms, would_cross=True)
        crosses = instrument.matcher.would_take(price_ticks, is_buy=is_buy)
        return _sight(instrument, price_ticks, lots, now_ms, would_cross=crosses)

    def _open(self, instrument: Instrument, spec: OrderSpec, seen: Sighting) -> Order:
        self._order_count += 1
        order = Order(
            order_id=self._order_count,
            client_order_id=spec.client_order_id or f"sim-auto-{self._order_count}",
            symbol=instrument.symbol,
            side=spec.side,
            type=spec.type,
            time_in_force=spec.time_in_force,
            price_ticks=spec.price_ticks or 0,
            lots=seen.lots,
            reduce_only=spec.reduce_only,
            stp=spec.stp,
            time_ms=seen.time_ms,
            update_ms=seen.time_ms,
            arrival=seen,
            price_match=spec.price_match,
            good_till_ms=spec.good_till_ms,
            would_have_crossed=seen.would_cross,
        )
        instrument.add(order)
        self._ledger.add(order)
        return order

    def _amendment(self, order: Order, change: Change) -> Amendment:
        self._amendment_count += 1
        return Amendment(
            amendment_id=self._amendment_count,
            modify_id=change.modify_id,
            before_ticks=order.price_ticks,
            before_lots=order.lots,
        )

    def _rest(self, instrument: Instrument, order: Order) -> None:
        instrument.matcher.rest(order.order_id, order.price_ticks, order.remaining_lots, is_buy=order.is_buy)

    def _take(self, instrument: Instrument, order: Order, now_ms: int) -> None:
        market = order.type is not OrderType.LIMIT
        side = instrument.matcher.asks if order.is_buy else instrument.matcher.bids
        taken_before = side.taken_lots
        taking = instrument.matcher.take(
            order.order_id,
            None if market else order.price_ticks,
            order.remaining_lots,
            is_buy=order.is_buy,
            stp=StpMode.NONE if order.time_in_force is TimeInForce.FOK else order.stp,
        )
        if side.taken_lots > taken_before:
            instrument.shown.raised += 1  # the market's id is that of the book before
        self._book_all(instrument, taking.fills, now_ms)
        for order_id in taking.expired_makers:
            if maker := instrument.open.get(order_id):
                self._expire(instrument, maker, ExpiryReason.SELF_TRADE, now_ms)
        if not order.is_open:
            return
        if taking.taker_expired:
            ioc = order.time_in_force is TimeInForce.IOC
            reason = ExpiryReason.IOC_SELF_TRADE if ioc else ExpiryReason.SELF_TRADE
            self._expire(instrument, order, reason, now_ms)
        elif order.type is OrderType.MARKET:
            self._expire(instrument, order, ExpiryReason.MARKET_REST, now_ms)
        elif order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._expire(instrument, order, ExpiryReason.IOC_REST, now_ms)
        else:
            self._rest(instrument, order)

    def _expire(self, instrument: Instrument, order: Order, reason: ExpiryReason, now_ms: int) -> None:
        self_trade = reason in (ExpiryReason.SELF_TRADE, ExpiryReason.IOC_SELF_TRADE)
        status = OrderStatus.EXPIRED_IN_MATCH if self_trade else OrderStatus.EXPIRED
        self._end(instrument, order, status, now_ms, reason)

    def _end(
        self,
        instrument: Instrument,
        order: Order,
        status: OrderStatus,
        now_ms: int,
        reason: ExpiryReason = ExpiryReason.NONE,
    ) -> None:
        order.end(status, now_ms)
        self._close(instrument, order)
        execution = "CANCELED" if status is OrderStatus.CANCELED else "EXPIRED"
        self._announce(instrument, order, execution, now_ms, reason=reason)

    def _close(self, instrument: Instrument, order: Order) -> None:
        instrument.drop(order)
        self._ledger.close(order)

    # Fills

    def _book_all(self, instrument: Instrument, fills: Sequence[Fill], now_ms: int) -> None:
        for fill in fills:
            self._book(instrument, fill, now_ms)

    def _book(self, instrument: Instrument, fill: Fill, now_ms: int) -> None:
        order = instrument.open.get(fill.order_id)
        if order is None:
            return  # an earlier fill of the same moment has closed the position that it could reduce
        lots = fill.lots
        if order.reduce_only:
            lots = min(lots, self._reducible(instrument, order.side))
        order.execute(lots, fill.price_ticks, now_ms)
        record = self._record(instrument, order, replace(fill, lots=lots), now_ms)
        if order.is_open:
            # One that an earlier fill of the same moment has cut: the book took its own part off the whole.
            instrument.matcher.shrink(order.order_id, order.remaining_lots)
        else:
            self._close(instrument, order)
        self._announce_fill(instrument, order, record)
        self._sweep_reduce_only(instrument, now_ms)

    def _record(self, instrument: Instrument, order: Order, fill: Fill, now_ms: int) -> FillRecord:
        signed = fill.lots if order.is_buy else -fill.lots
        booking = self._account.book_fill(order.symbol, signed, fill.price_ticks, now_ms, maker=fill.maker)
        instrument.trade_count += 1
        record = FillRecord(
            trade_id=instrument.trade_count,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            price_ticks=fill.price_ticks,
            lots=fill.lots,
            fee=booking.fee.amount,
            fee_asset=booking.fee.asset,
            realised=booking.realised,
            maker=fill.maker,
            time_ms=now_ms,
        )
        trade_id = str(record.trade_id)
        self._ledger.fills.append(record)
        fee = booking.fee
        self._ledger.add_cash(order.symbol, "COMMISSION", -fee.amount, now_ms, trade_id, fee.asset)
        if booking.realised:
            self._ledger.add_cash(order.symbol, "REALIZED_PNL", booking.realised, now_ms, trade_id)
        return record

    def _sweep_reduce_only(self, instrument: Instrument, now_ms: int) -> None:
        """Shrink resting reduce-only orders to the position, and expire those that have nothing left to reduce."""
        for order in [order for order in instrument.open.values() if order.reduce_only]:
            allowed = self._reducible(instrument, order.side)
            if not allowed:
                self._expire(instrument, order, ExpiryReason.REDUCE_ONLY, now_ms)
            elif order.remaining_lots > allowed:
                order.lots = order.executed_lots + allowed
                instrument.matcher.shrink(order.order_id, allowed)

    # Events

    def _announce(
        self,
        instrument: Instrument,
        order: Order,
        execution: str,
        now_ms: int,
        *,
        reason: ExpiryReason = ExpiryReason.NONE,
        modify_id: str = "",
    ) -> None:
        if self.witness is not None:
            self.witness.order_changed(instrument, order, execution, None, now_ms)
        if self._user.is_heard:
            event = payloads.order_event(
                order, instrument, execution, now_ms, reason=reason, modify_id=modify_id
            )
            self._user.publish("ORDER_TRADE_UPDATE", payloads.encode(event), now_ms)

    def _announce_fill(self, instrument: Instrument, order: Order, fill: FillRecord) -> None:
        if self.witness is not None:
            self.witness.order_changed(instrument, order, "TRADE", fill, fill.time_ms)
        if not self._user.is_heard:
            return
        now_ms = fill.time_ms
        lite = payloads.trade_lite(order, instrument.rules, fill)
        execution = "CALCULATED" if order.type is OrderType.LIQUIDATION else "TRADE"
        event = payloads.order_event(order, instrument, execution, now_ms, fill=fill)
        update = payloads.fill_account_update(self._account, instrument, now_ms)
        events = [("TRADE_LITE", lite), ("ORDER_TRADE_UPDATE", event), ("ACCOUNT_UPDATE", update)]
        if self._user.tells_account_first:
            events = [events[2], *events[:2]]
        for name, content in events:
            self._user.publish(name, payloads.encode(content), now_ms)


def _sight(
    instrument: Instrument,
    price_ticks: int,
    lots: int,
    now_ms: int,
    *,
    would_cross: bool,
    amendment: Amendment | None = None,
) -> Sighting:
    quote = instrument.quote
    return Sighting(
        time_ms=now_ms,
        price_ticks=price_ticks,
        lots=lots,
        bid_ticks=quote.bid_ticks if quote else 0,
        ask_ticks=quote.ask_ticks if quote else 0,
        would_cross=would_cross,
        amendment=amendment,
    )
