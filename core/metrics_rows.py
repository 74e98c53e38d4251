"""The rows of every second: what they say, made anew only where it is something new. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import compress
from operator import ne

from core.context import SymbolContext
from core.events import OrderKind
from core.live_order import LiveOrder
from core.metrics import (
    ACCOUNT_METRICS,
    QUOTE_METRICS,
    SYMBOL_METRICS,
    Counters,
    Row,
    Values,
    number_text,
    unit_of,
)
from core.model import OrderStatus, Side, SymbolRules
from core.risk import position_notional_quote

_NOTHING_TOLD: Mapping[str, str] = {}
_THOUSANDTH = Decimal("0.001")


class RowSeries:
    """The rows of several metrics that share symbol, side, level and sub type, second after second.

    A metric that says what it said a second ago is the same object again, of which the file knows the line by then:
    three of four do. ``told`` are the details of some metrics, of the same ones each time.
    """

    __slots__ = ("_names", "_numbers", "_place", "_rows", "_told", "_units")

    def __init__(
        self,
        units: Mapping[str, str],
        symbol: str = "-",
        side: str = "-",
        level: str = "-",
        sub_type: str = "-",
    ) -> None:
        self._units = units
        self._place = symbol, side, level, sub_type
        self._names: tuple[str, ...] = ()
        self._numbers: tuple[Decimal | float, ...] = ()
        self._told: Mapping[str, str] = {}
        self._rows: dict[str, Row] = {}

    def rows(self, values: Values, told: Mapping[str, str] = _NOTHING_TOLD) -> list[Row]:
        """Return a row for each value."""
        names, numbers, rows = tuple(values), tuple(values.values()), self._rows
        new: Iterable[str] = names
        if names == self._names:
            new = {*compress(names, map(ne, numbers, self._numbers)), *_differing(told, self._told)}
        else:
            rows.clear()
        for name in new:
            details = told.get(name, "")
            rows[name] = Row(name, number_text(values[name]), self._units[name], *self._place, details)
        self._names, self._numbers, self._told = names, numbers, told
        return list(rows.values())


def _differing(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    return (name for name, text in now.items() if text != before[name])


class SymbolRows:
    """The rows of one symbol and of its resting orders."""

    def __init__(self, context: SymbolContext) -> None:
        rules = context.rules
        named = {**SYMBOL_METRICS, **QUOTE_METRICS}
        self._context = context
        self._units = {
            name: unit_of(unit, rules.base_asset, rules.quote_asset) for name, (unit, _) in named.items()
        }
        self._symbol_series = RowSeries(self._units, context.symbol)
        self._order_rows: dict[tuple[str, OrderStatus], _OrderRows] = {}

    def of_second(self, counters: Counters, limit_quote: Decimal, now_ns: int) -> list[Row]:
        """Return the rows of this second."""
        context = self._context
        values = {
            **_market_values(context, now_ns),
            **_book_values(context, limit_quote),
            **_order_values(context, counters),
            **_dead_man_values(context, now_ns),
        }
        told = {
            "quoting": "; ".join(context.gate.reasons),
            "fees": _fees_elsewhere(context),
            "posture": context.posture_reason,
            "day_result": context.day.text if context.day is not None else "",
        }
        rows = self._symbol_series.rows(values, told)
        self._add_quotes(rows)
        return rows

    def _add_quotes(self, rows: list[Row]) -> None:
        """Append the rows of the orders that live."""
        context, before = self._context, self._order_rows
        book = context.state.book
        mid_half_ticks = book.mid_half_ticks if book is not None else 0
        self._order_rows = {}
        for order in context.orders.living():
            key = order.client_id, order.shown_status
            each = self._order_rows[key] = before.get(key) or _OrderRows(self._units, context.symbol, order)
            rows += each.rows(order, context.rules, mid_half_ticks)


class _OrderRows:
    """The rows of one order while it stands as it does: they are made anew as ``RowSeries`` makes them."""

    __slots__ = ("_distance", "_place", "_rows", "_stands", "_units")

    def __init__(self, units: Mapping[str, str], symbol: str, order: LiveOrder) -> None:
        level, status = str(order.level) if order.level else "-", order.shown_status.lower()
        self._units = units
        self._place = symbol, order.side.lower(), level, status
        self._stands: tuple[int, int, SymbolRules] | None = None
        self._distance: tuple[str, str] | None = None
        self._rows: list[Row] = []

    def rows(self, order: LiveOrder, rules: SymbolRules, mid_half_ticks: int) -> list[Row]:
        """Return the rows of this second."""
        stands = order.price_ticks, order.remaining_lots, rules
        distance = _distance_text(order.price_ticks, mid_half_ticks), order.decision
        if stands != self._stands:
            self._stands, self._distance = stands, None
            price, size = rules.price(order.price_ticks), rules.quantity(order.remaining_lots)
            self._rows = [
                self._row("quote_price", number_text(price)),
                self._row("quote_size", number_text(size)),
            ]
        if distance != self._distance:
            self._distance = distance
            self._rows[2:] = [self._row("quote_distance_bps", *distance)]
        return self._rows

    def _row(self, name: str, value: str, details: str = "") -> Row:
        return Row(name, value, self._units[name], *self._place, details)


def _distance_text(price_ticks: int, mid_half_ticks: int) -> str:
    """Return the distance from the mid in basis points, rounded as ``_bps`` does it, and counted without Decimals."""
    if not mid_half_ticks:
        return "0"
    thousandths, rest = divmod(abs(mid_half_ticks - 2 * price_ticks) * 10_000_000, mid_half_ticks)
    if 2 * rest > mid_half_ticks or (2 * rest == mid_half_ticks and thousandths % 2):
        thousandths += 1
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"


def account_series(quote_asset: str) -> RowSeries:
    """Return the series of the account and the process."""
    return RowSeries({name: unit_of(unit, "", quote_asset) for name, (unit, _) in ACCOUNT_METRICS.items()})


def _bps(distance: Decimal, mid: Decimal) -> Decimal:
    return (distance / mid * 10_000).quantize(_THOUSANDTH) if mid else Decimal(0)


def _fees_elsewhere(context: SymbolContext) -> str:
    """Return what was paid in other assets than the quote asset, BNB for example; it is not part of the profit."""
    fees = context.ledger.fees.items()
    return " ".join(f"{asset}={amount:f}" for asset, amount in fees if asset != context.rules.quote_asset)


def _market_values(context: SymbolContext, now_ns: int) -> Values:
    state, book = context.state, context.state.book
    if book is None:
        return {}
    bid, ask = context.rules.price(book.bid_ticks), context.rules.price(book.ask_ticks)
    mid = state.mid(context.rules)
    return {
        "mid_price": mid,
        "best_bid": bid,
        "best_ask": ask,
        "spread_bps": _bps(ask - bid, mid),
        "mark_price": state.mark_price,
        "book_age": max(now_ns - state.book_proven_ns, 0) / 1e6,
        "stream_delay": state.stream_delay_ms,
        "tick_to_order": state.tick_to_order_ms,
        **(state.analysis.values(book, now_ns) if state.analysis is not None else {}),
    }


def _book_values(context: SymbolContext, limit_quote: Decimal) -> Values:
    ledger, state = context.ledger, context.state
    price = state.risk_price(context.rules)
    return {
        **_position_values(context, price),
        "position_limit": limit_quote,
        "entry_price": ledger.entry_price,
        "realized_pnl": ledger.realized_pnl_quote,
        "unrealized_pnl": ledger.unrealized_pnl_quote(state.mark_price),
        "fees": ledger.fees_in(context.rules.quote_asset),
        "funding": ledger.funding_quote,
        "net_pnl": ledger.pnl_quote(state.mark_price, context.rules.quote_asset),
        "fills": ledger.fill_count,
        "fills_maker": ledger.maker_fill_count,
        "traded_volume": ledger.traded_quote,
    }


def _position_values(context: SymbolContext, price: Decimal) -> Values:
    """Return what is held and what that may become, nothing of it while it is not known."""
    held, read = context.told_position, context.state.exchange_position
    values: Values = {"exchange_position": read.quantity} if read is not None else {}
    if held is None:
        return values
    held_quote = held * price
    return {
        "position": held,
        **values,
        "position_notional": position_notional_quote(held, price),
        "exposure_buy": held_quote + context.orders.resting_notional_quote(Side.BUY, context.rules),
        "exposure_sell": -held_quote + context.orders.resting_notional_quote(Side.SELL, context.rules),
    }


def _order_values(context: SymbolContext, counters: Counters) -> Values:
    symbol = context.symbol
    return {
        "live_orders": len(context.orders.living()),
        "orders_in_doubt": len(context.orders.in_doubt()),
        "refreshes": context.state.refreshes,
        "orders_placed": counters.of(symbol, OrderKind.PLACED),
        "orders_amended": counters.of(symbol, OrderKind.AMENDED),
        "orders_cancelled": counters.of(symbol, OrderKind.CANCELLED, OrderKind.EXPIRED),
        "orders_rejected": counters.of(symbol, OrderKind.REJECTED),
        "quoting": context.gate.is_open,
        "paused": context.state.strategy_paused,
        **({"day_result": context.day.quote} if context.day is not None else {}),
        "posture": context.posture.value,
        "price_change": context.prices.change_bps,
    }


def _dead_man_values(context: SymbolContext, now_ns: int) -> Values:
    state = context.state
    return {
        "dead_man_armed": now_ns < state.dead_man_until_ns,
        "dead_man_age": (now_ns - state.dead_man_ack_ns) / 1e6 if state.dead_man_ack_ns else 0.0,
    }
