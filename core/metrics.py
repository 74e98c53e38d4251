"""What the metrics CSV holds: every name with its unit, and how its values are read. Pure.

``docs/metrics.md`` lists the same names; a test keeps the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct

from core.amend_queue import AmendQueue
from core.context import SymbolContext
from core.event_statistics import BusStatistics
from core.events import (
    ConnectionEvent,
    ConnectionKind,
    EngineEvent,
    EngineKind,
    FillEvent,
    GapEvent,
    OrderEvent,
    OrderKind,
    OrderModifyEvent,
    OrderModifyFailureEvent,
    OrderModifySuccessEvent,
    OrderResetEvent,
    RecordedFact,
    ResetKind,
    RiskEvent,
    RiskKind,
)
from core.lanes import Lanes
from core.rate_budget import MINUTE_MS, TEN_SECONDS_MS, Lane
from utils.http import RequestUsage

COLUMNS = (
    "timestamp",
    "instance_id",
    "env",
    "metric_name",
    "value",
    "unit",
    "symbol",
    "side",
    "level",
    "sub_type",
    "details",
)

MAKER_FILL, TAKER_FILL = "maker_fill", "taker_fill"
"""What ``sub_type`` says of the rows of trades, as against those of an order's life."""

BASE, QUOTE = "<base>", "<quote>"
"""Units that stand for the symbol's assets, in lower case."""

SYMBOL_METRICS: dict[str, tuple[str, str]] = {
    "mid_price": (QUOTE, "middle between best bid and ask"),
    "best_bid": (QUOTE, "best bid"),
    "best_ask": (QUOTE, "best ask"),
    "spread_bps": ("bps", "best ask minus best bid, relative to the mid"),
    "mark_price": (QUOTE, "the exchange's mark price"),
    "book_age": ("ms", "time since the book was last proven to be the exchange's present one"),
    "stream_delay": ("ms", "from the exchange's event time to our receiving the last book"),
    "position": (
        BASE,
        "position by our own books, below zero when short; the exchange's until they are opened",
    ),
    "exchange_position": (BASE, "position as the exchange last reported it"),
    "position_notional": (QUOTE, "size of the position at the mark price or mid, whichever is higher"),
    "position_limit": (QUOTE, "position notional over which everything is closed"),
    "exposure_buy": (QUOTE, "position plus everything that rests or may rest on the buy side"),
    "exposure_sell": (QUOTE, "position plus everything that rests or may rest on the sell side, as a short"),
    "entry_price": (QUOTE, "average price of the position, 0 when flat"),
    "realized_pnl": (QUOTE, "realised profit since the start, before fees and funding"),
    "unrealized_pnl": (QUOTE, "what closing at the mark price would bring, before fees"),
    "fees": (QUOTE, "fees paid in the quote asset since the start"),
    "funding": (QUOTE, "funding received (paid when below zero) since the start"),
    "net_pnl": (QUOTE, "realised and unrealised profit less fees, with funding"),
    "fills": ("count", "fills since the start"),
    "fills_maker": ("count", "fills as maker since the start"),
    "traded_volume": (QUOTE, "notional of all fills since the start"),
    "live_orders": ("count", "orders of ours that rest or may rest"),
    "orders_in_doubt": ("count", "orders of which nobody here knows whether they exist"),
    "refreshes": ("count", "refreshes of the quotes since the start"),
    "orders_placed": ("count", "orders accepted since the start"),
    "orders_amended": ("count", "amendments of our orders since the start"),
    "orders_cancelled": ("count", "orders cancelled since the start"),
    "orders_rejected": ("count", "orders refused or not sent since the start"),
    "quoting": ("bool", "1 while quotes may be sent, 0 with the reasons in details"),
    "paused": ("bool", "1 while the strategy is paused"),
    "day_result": (
        QUOTE,
        "result since 00:00 UTC that counts against risk.max_daily_loss; no row while unknown",
    ),
    "posture": ("step", "0 normal, 1 widen, 2 one side, 3 pull, 4 flatten, 5 halt; why in details"),
    "price_change": (
        "bps",
        "highest less lowest mid within risk.price_change_window_s; 0 without a limit of it",
    ),
    "dead_man_armed": ("bool", "1 while the exchange's countdown runs that cancels our orders without us"),
    "dead_man_age": (
        "ms",
        "time since the sign of life that the exchange acknowledged last; 0 before the first one",
    ),
    "tick_to_order": ("ms", "age of the book at the moment the last quote decided on it was sent"),
    "microprice": (QUOTE, "middle between best bid and ask, each weighted by the size on the other side"),
    "touch_imbalance": (
        "ratio",
        "bids less asks over both at the touch, from -1 (asks only) to 1 (bids only)",
    ),
    "depth_imbalance": (
        "ratio",
        "the same of the five best levels; 0 while none are known, see market_data.depth",
    ),
    "depth_age": ("ms", "time since the levels came, 0 while none are known"),
    "depth_gaps": ("count", "times since the start that our copy of the book had to be made anew"),
    "volatility": ("bps/sqrt(s)", "volatility of the mid over one second, older returns weighing less"),
    "volatility_minute": ("bps", "the same over one minute"),
    "volatility_mids": ("bps", "standard deviation of the last returns from one mid to the next"),
    "volatility_trades": ("bps", "standard deviation of the last returns from one trade to the next"),
    "last_trade_price": (QUOTE, "price of the market's last trade, 0 before the first"),
    "trade_age": ("ms", "time since the market's last trade, 0 before the first"),
    "flow_bought": (QUOTE, "what takers have bought within market_data.flow_window_s"),
    "flow_sold": (QUOTE, "what takers have sold within market_data.flow_window_s"),
    "flow_trades": ("count", "trades of the market within market_data.flow_window_s"),
    "flow_imbalance": ("ratio", "bought less sold over both, from -1 to 1"),
    "market_trades": ("count", "trades of the market since the start"),
    "significant_trades": ("count", "significant ones among them, see market_data"),
    "trade_gaps": ("count", "times since the start that trades of the market were missed"),
}
"""One row a second for each symbol: name -> (unit, meaning)."""

QUOTE_METRICS: dict[str, tuple[str, str]] = {
    "quote_price": (QUOTE, "price of a resting order"),
    "quote_size": (BASE, "remaining quantity of a resting order"),
    "quote_distance_bps": (
        "bps",
        "distance of a resting order from the mid; the latest decision about it, and why, in `details`",
    ),
}
"""One row a second for each resting order."""

ACCOUNT_METRICS: dict[str, tuple[str, str]] = {
    "equity": (
        QUOTE,
        "wallet when the books were opened plus net profit of all symbols, transfers and the rest since",
    ),
    "transfers": (QUOTE, "paid into the wallet, less what was paid out, since the start; no profit"),
    "other_income": (
        QUOTE,
        "what else moved the wallet since the start: rebates, other symbols, and what nothing explains",
    ),
    "request_round_trip": ("ms", "round trip of the last request, by REST or the WebSocket API"),
    "order_round_trip": ("ms", "round trip of the last order placement"),
    "cancel_round_trip": ("ms", "round trip of the last cancel"),
    "requests_sent": ("count", "requests since the start"),
    "requests_refused": ("count", "requests refused since the start"),
    "requests_unknown": ("count", "requests with an unknown outcome since the start"),
    "used_weight_1m": ("count", "request weight used in the present minute, as the exchange counts"),
    "order_count_10s": ("count", "orders in the present 10 s, as the exchange counts"),
    "order_count_1m": ("count", "orders in the present minute, as the exchange counts"),
    "requests_by_socket": ("count", "those of them that went by the WebSocket API"),
    "requests_cancel": (
        "count",
        "requests since the start that cancel, close the position or feed the dead-man switch",
    ),
    "requests_verify": ("count", "requests since the start that ask what rests and what is held"),
    "requests_amend": ("count", "requests since the start that amend orders"),
    "requests_place": ("count", "requests since the start that place quotes"),
    "requests_query": ("count", "other requests since the start"),
    "budget_weight_1m": (
        "count",
        "request weight of the present minute by our own count and the exchange's, whichever is more",
    ),
    "budget_orders_10s": ("count", "orders of the present 10 s, counted likewise"),
    "budget_orders_1m": ("count", "orders of the present minute, counted likewise"),
    "budget_waits": ("count", "requests since the start that had to wait for budget or a connection"),
    "budget_wait_max": ("ms", "longest time that a request waited since the start"),
    "budget_dropped": (
        "count",
        "requests since the start that were not sent for want of budget, or not wanted any more",
    ),
    "budget_queue": ("count", "requests that wait to leave"),
    "amend_queue": ("count", "amendments that wait to leave"),
    "amend_batch_mean": ("count", "amendments in a request, on average since the start"),
    "amends_replaced": ("count", "amendments since the start that a newer target replaced before they left"),
    "amends_dropped": ("count", "amendments since the start that never left, the replaced ones among them"),
    "metrics_queue": ("count", "rows that wait to be written"),
    "metrics_dropped": ("count", "rows lost since the start because the disk did not take them"),
    "events_published": ("count", "events on the bus since the start"),
    "event_rate": ("1/s", "events on the bus a second, over the last second"),
    "event_handler_mean": ("ms", "mean time that a subscriber took for an event since the start"),
    "event_handler_max": (
        "ms",
        "longest time that a subscriber took for an event since the start; of events that it got in one go,"
        " what one took on average",
    ),
    "event_failures": ("count", "events on which a subscriber failed since the start"),
    "event_queue": ("count", "events that wait for subscribers with a queue"),
    "events_dropped": ("count", "market events left out since the start because a subscriber was too slow"),
    "events_lost": ("count", "other events lost since the start because a subscriber was too slow"),
    "loop_lag": ("ms", "how much later than asked the event loop woke the metrics worker"),
    "reconnects": ("count", "connections of streams after the first, since the start"),
    "worker_restarts": ("count", "workers restarted since the start"),
    "clock_offset": ("ms", "the exchange's clock minus ours"),
    "uptime": ("s", "time since the start"),
}
"""One row a second for the account and the process."""

EVENT_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "order_event": (BASE, (*OrderKind, MAKER_FILL, TAKER_FILL)),
    "order_modify": (BASE, ("sent", "done", "refused", "unknown")),
    "order_reset": ("count", tuple(ResetKind)),
    "risk_event": (QUOTE, tuple(RiskKind)),
    "connection_event": ("count", tuple(ConnectionKind)),
    "engine_event": ("count", tuple(EngineKind)),
    "market_gap": ("count", ("depth", "trades")),
}
"""One row for each event: name -> (unit of the value, what ``sub_type`` may be)."""


Values = dict[str, Decimal | float]
"""What the metrics of one second are, by name."""


class Row(Struct, frozen=True, gc=False, cache_hash=True):
    """One line of the CSV, without the columns that the writer knows.

    A msgspec struct, which is made in a fraction of the time of a frozen dataclass: there are a hundred a second.
    """

    name: str
    value: str
    unit: str
    symbol: str = "-"
    side: str = "-"
    level: str = "-"
    sub_type: str = "-"
    details: str = ""


@dataclass(slots=True)
class Counters:
    """What has happened so often since the start, by symbol and kind."""

    orders: dict[tuple[str, str], int]
    reconnects: int = 0
    restarts: int = 0

    def count(self, fact: RecordedFact) -> None:
        """Count a fact."""
        if isinstance(fact, OrderEvent):
            key = (fact.symbol, fact.kind)
            self.orders[key] = self.orders.get(key, 0) + 1
        elif isinstance(fact, EngineEvent) and fact.kind is EngineKind.WORKER_RESTARTED:
            self.restarts += 1

    def of(self, symbol: str, *kinds: OrderKind) -> int:
        """Return how often these things happened to orders of a symbol."""
        return sum([self.orders.get((symbol, kind), 0) for kind in kinds])


def number_text(value: Decimal | float) -> str:
    """Return a number as plain digits; a bool, which is an int, as 1 or 0."""
    kind = type(value)
    if kind is float:
        return f"{value:.3f}"
    if kind is Decimal:
        text = str(value)  # faster than the format, and the same unless it has an exponent
        return f"{value:f}" if "E" in text else text
    return str(int(value))


def _unit(unit: str, context: SymbolContext) -> str:
    return unit_of(unit, context.rules.base_asset, context.rules.quote_asset)


def unit_of(unit: str, base_asset: str, quote_asset: str) -> str:
    """Return the unit that a row names, with these assets for the stand-ins."""
    return {BASE: base_asset.lower(), QUOTE: quote_asset.lower()}.get(unit, unit)


_CANCELS = frozenset(("DELETE /fapi/v1/order", "DELETE /fapi/v1/batchOrders"))
_WINDOWS_MS = {
    "used_weight_1m": MINUTE_MS,
    "order_count_10s": TEN_SECONDS_MS,
    "order_count_1m": MINUTE_MS,
}
"""How long the windows are in which the exchange counts."""


def usage_values(usage: RequestUsage, now_ms: int) -> dict[str, Decimal | float]:
    """Return the account metrics that the REST client knows; ``now_ms`` is the exchange's time."""
    trips = usage.round_trips_ms
    return {
        "request_round_trip": usage.last_round_trip_ms,
        "order_round_trip": trips.get("POST /fapi/v1/order", 0.0),
        "cancel_round_trip": next((trips[each] for each in reversed(trips) if each in _CANCELS), 0.0),
        "requests_sent": usage.sent,
        "requests_refused": usage.refused,
        "requests_unknown": usage.unknown,
        "requests_by_socket": usage.by_shortcut,
        **{name: _count_of_present(usage, name, now_ms) for name in _WINDOWS_MS},
    }


def _count_of_present(usage: RequestUsage, name: str, now_ms: int) -> int:
    """Return what the exchange has last said of the present window; 0 where that was of one that is over."""
    length_ms, said_ms = _WINDOWS_MS[name], usage.counted_ms.get(name, 0)
    return getattr(usage, name) if said_ms // length_ms == now_ms // length_ms else 0


_SENT_IN = {lane: f"requests_{lane.name.lower()}" for lane in Lane}


def lane_values(lanes: Lanes) -> dict[str, Decimal | float]:
    """Return the account metrics that the gate in front of the requests knows."""
    weight, orders_10s, orders_1m = lanes.used()
    return {
        **{_SENT_IN[lane]: sent for lane, sent in lanes.counts.sent.items()},
        "budget_weight_1m": weight,
        "budget_orders_10s": orders_10s,
        "budget_orders_1m": orders_1m,
        "budget_waits": lanes.counts.waits,
        "budget_wait_max": lanes.counts.longest_wait_ms,
        "budget_dropped": lanes.counts.dropped,
        "budget_queue": lanes.waiting,
    }


def amend_values(queue: AmendQueue) -> dict[str, Decimal | float]:
    """Return the account metrics that the queue of amendments knows."""
    return {
        "amend_queue": queue.waiting,
        "amend_batch_mean": queue.counts.mean_batch,
        "amends_replaced": queue.counts.replaced,
        "amends_dropped": queue.counts.dropped,
    }


def bus_values(statistics: BusStatistics) -> dict[str, Decimal | float]:
    """Return the account metrics that the event bus knows."""
    return {
        "events_published": statistics.published,
        "event_rate": statistics.per_second,
        "event_handler_mean": statistics.handler_mean_ms,
        "event_handler_max": statistics.handler_max_ms,
        "event_failures": statistics.failures,
        "event_queue": statistics.waiting,
        "events_dropped": statistics.dropped,
        "events_lost": statistics.lost,
    }


def event_row(fact: RecordedFact, contexts: Mapping[str, SymbolContext]) -> Row:
    """Return the row of one event."""
    match fact:
        case OrderEvent():
            unit = _unit(BASE, contexts[fact.symbol])
            details = f"price={fact.price:f} id={fact.client_id} {fact.details}".rstrip()
            return Row(
                "order_event",
                number_text(fact.quantity),
                unit,
                fact.symbol,
                fact.side.lower(),
                str(fact.level) if fact.level else "-",
                fact.kind,
                details,
            )
        case OrderModifyEvent() | OrderModifySuccessEvent() | OrderModifyFailureEvent():
            return _modify_row(fact, contexts[fact.symbol])
        case OrderResetEvent():
            details = f"{fact.reason} took={fact.duration_ms:.0f} ms" if fact.duration_ms else fact.reason
            return Row(
                "order_reset",
                number_text(fact.orders),
                "count",
                fact.symbol,
                sub_type=fact.kind,
                details=details,
            )
        case FillEvent():
            return _fill_row(fact, contexts[fact.fill.symbol])
        case RiskEvent():
            unit = _unit(QUOTE, contexts[fact.symbol])
            return Row(
                "risk_event",
                number_text(fact.value_quote),
                unit,
                fact.symbol,
                sub_type=fact.kind,
                details=fact.details,
            )
        case ConnectionEvent():
            details = f"{fact.name} {fact.details}".rstrip()
            return Row("connection_event", "1", "count", fact.symbol, sub_type=fact.kind, details=details)
        case EngineEvent():
            return Row("engine_event", "1", "count", fact.symbol, sub_type=fact.kind, details=fact.details)
        case GapEvent():
            details = f"after id {fact.last_id}: {fact.details}"
            return Row("market_gap", "1", "count", fact.symbol, sub_type=fact.stream, details=details)


def _modify_row(
    fact: OrderModifyEvent | OrderModifySuccessEvent | OrderModifyFailureEvent, context: SymbolContext
) -> Row:
    match fact:
        case OrderModifySuccessEvent():
            outcome = "done"
        case OrderModifyFailureEvent():
            outcome = "unknown" if fact.in_doubt else "refused"
        case _:
            outcome = "sent"
    code = f" code={fact.code}" if fact.code else ""
    details = (
        f"price={fact.old_price:f}->{fact.new_price:f} quantity={fact.old_quantity:f}->{fact.new_quantity:f}"
        f" id={fact.client_id}{code} {fact.reason}"
    )
    return Row(
        "order_modify",
        number_text(fact.new_quantity),
        _unit(BASE, context),
        fact.symbol,
        fact.side.lower(),
        str(fact.level) if fact.level else "-",
        outcome,
        details.rstrip(),
    )


def _fill_row(event: FillEvent, context: SymbolContext) -> Row:
    fill = event.fill
    details = (
        f"price={fill.price:f} trade={fill.trade_id} order={fill.order_id} id={fill.client_id}"
        f" fee={fill.commission:f} {fill.commission_asset} realized={fill.realized_pnl_quote:f}"
    )
    return Row(
        "order_event",
        number_text(fill.quantity),
        _unit(BASE, context),
        fill.symbol,
        fill.side.lower(),
        str(event.level) if event.level else "-",
        MAKER_FILL if fill.is_maker else TAKER_FILL,
        details,
    )
