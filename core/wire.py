"""Binance's JSON, turned into our values. Tolerant of fields it does not know, strict about those it uses.

Source: binance-futures exchangeInfo, order endpoints, userTrades, positionRisk v3, user data stream events
(ORDER_TRADE_UPDATE), bookTicker and markPrice streams.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any

import msgspec

from core.cash import CashEntry, cash_kind
from core.model import BookTop, Fill, OrderReport, OrderStatus, Position, Side, SymbolRules, exact_units
from core.rate_budget import Sizes

Json = Mapping[str, Any]

_STATUS = {
    "NEW": OrderStatus.ACTIVE,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED_IN_MATCH,
    "REJECTED": OrderStatus.REJECTED,
}


def order_status(text: str) -> OrderStatus:
    """Return our name of an order status; a status we have never heard of may rest, so it is in doubt."""
    return _STATUS.get(text, OrderStatus.IN_DOUBT)


def symbol_rules(symbol: Json) -> SymbolRules:
    """Return the rules in one symbol of exchangeInfo."""
    filters = {entry["filterType"]: entry for entry in symbol["filters"]}
    price, lot, market = filters["PRICE_FILTER"], filters["LOT_SIZE"], filters["MARKET_LOT_SIZE"]
    step = _plain(lot["stepSize"])
    return SymbolRules(
        symbol=_name(symbol["symbol"]),
        base_asset=_name(symbol["baseAsset"]),
        quote_asset=_name(symbol["quoteAsset"]),
        status=_name(symbol["status"]),
        tick_size=_plain(price["tickSize"]),
        step_size=step,
        min_price=finite(price["minPrice"]),
        max_price=finite(price["maxPrice"]),
        min_lots=int((Decimal(lot["minQty"]) / step).to_integral_value(ROUND_CEILING)),
        max_lots=int(Decimal(lot["maxQty"]) // step),
        market_max_lots=int(Decimal(market["maxQty"]) // step),
        min_notional_quote=finite(filters["MIN_NOTIONAL"]["notional"]),
        multiplier_up=finite(filters["PERCENT_PRICE"]["multiplierUp"]),
        multiplier_down=finite(filters["PERCENT_PRICE"]["multiplierDown"]),
        max_open_orders=int(filters["MAX_NUM_ORDERS"]["limit"]),
    )


def _name(text: str) -> str:
    """Return the name; ValueError for one that is none: it stands in logs, files and messages from then on."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name with characters that none has")
    return text


_MOST_TEXTS = 65_536
_NAME = re.compile(r"[A-Z0-9_]{1,32}")


def limit_sizes(limits: Sequence[Json]) -> Sizes:
    """Return what ``rateLimits`` of exchangeInfo says; a limit that it does not state is as on the real exchange."""
    stated = {
        (limit["rateLimitType"], limit["interval"], limit["intervalNum"]): int(limit["limit"])
        for limit in limits
    }
    usual = Sizes()
    return Sizes(
        weight_1m=stated.get(("REQUEST_WEIGHT", "MINUTE", 1), usual.weight_1m),
        orders_10s=stated.get(("ORDERS", "SECOND", 10), usual.orders_10s),
        orders_1m=stated.get(("ORDERS", "MINUTE", 1), usual.orders_1m),
    )


def _plain(text: str) -> Decimal:
    """Return a Decimal without trailing zeros and without an exponent."""
    number = Decimal(text).normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


def finite(text: str) -> Decimal:
    """Return the number; ValueError if it is none that can be summed up: one NaN would spoil the books for good."""
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text:.40} is not a number to count with")
    return number


def order_report(order: Json, rules: SymbolRules) -> OrderReport:
    """Return what an order object of a REST reply says; one from before a change of the rules is rounded up."""
    executed_lots, executed_rest = rules.whole_lots(finite(order["executedQty"]))
    return OrderReport(
        symbol=order["symbol"],
        client_id=order["clientOrderId"],
        order_id=order["orderId"],
        side=Side(order["side"]),
        status=order_status(order["status"]),
        price_ticks=rules.ceil_ticks(finite(order["price"])),
        lots=rules.ceil_lots(finite(order["origQty"])),
        executed_lots=executed_lots,
        executed_rest=executed_rest,
        reduce_only=order.get("reduceOnly", False),
        time_in_force=order.get("timeInForce", ""),
        update_ms=order["updateTime"],
    )


def order_event_report(order: Json, rules: SymbolRules) -> OrderReport:
    """Return what the ``o`` object of an ORDER_TRADE_UPDATE says of its order, rounded as ``order_report`` does."""
    executed_lots, executed_rest = rules.whole_lots(finite(order["z"]))
    return OrderReport(
        symbol=order["s"],
        client_id=order["c"],
        order_id=order["i"],
        side=Side(order["S"]),
        status=order_status(order["X"]),
        price_ticks=rules.ceil_ticks(finite(order["p"])),
        lots=rules.ceil_lots(finite(order["q"])),
        executed_lots=executed_lots,
        executed_rest=executed_rest,
        reduce_only=order.get("R", False),
        time_in_force=order.get("f", ""),
        update_ms=order["T"],
        is_amendment=order.get("x") == "AMENDMENT",
    )


def order_event_fill(order: Json, quote_asset: str) -> Fill | None:
    """Return the trade in the ``o`` object of an ORDER_TRADE_UPDATE, None if the event is not about a trade."""
    if not order.get("t") or Decimal(order["l"]) == 0:
        return None
    return Fill(
        symbol=order["s"],
        trade_id=order["t"],
        order_id=order["i"],
        client_id=order["c"],
        side=Side(order["S"]),
        price=finite(order["L"]),
        quantity=finite(order["l"]),
        commission=finite(order.get("n") or "0"),
        commission_asset=order.get("N") or quote_asset,
        realized_pnl_quote=finite(order.get("rp", "0")),
        is_maker=order["m"],
        time_ms=order["T"],
    )


def user_trade_fill(trade: Json, client_id: str) -> Fill:
    """Return one trade of userTrades; the reply holds no client id, so the caller says whose it is."""
    return Fill(
        symbol=trade["symbol"],
        trade_id=trade["id"],
        order_id=trade["orderId"],
        client_id=client_id,
        side=Side(trade["side"]),
        price=finite(trade["price"]),
        quantity=finite(trade["qty"]),
        commission=finite(trade["commission"]),
        commission_asset=trade["commissionAsset"],
        realized_pnl_quote=finite(trade["realizedPnl"]),
        is_maker=trade["maker"],
        time_ms=trade["time"],
    )


def cash_entry(row: Json) -> CashEntry:
    """Return one row of the exchange's record of the wallet."""
    return CashEntry(
        kind=cash_kind(row["incomeType"]),
        symbol=row["symbol"],
        asset=row["asset"],
        amount=finite(row["income"]),
        time_ms=row["time"],
        transaction=f"{row['incomeType']} {row['tranId']}",
    )


def cash_event(event: Json) -> list[CashEntry]:
    """Return what an ACCOUNT_UPDATE says of the wallet; trades are told of by the events of their orders."""
    account = event["a"]
    if account["m"] == "ORDER":
        return []
    return [
        CashEntry(
            kind=cash_kind(account["m"]),
            symbol=account.get("S", ""),
            asset=balance["a"],
            amount=finite(balance["bc"]),
            time_ms=event["T"],
            balance=finite(balance["wb"]),
        )
        for balance in account["B"]
    ]


def position(entry: Json) -> Position:
    """Return one entry of positionRisk v3."""
    return Position(
        symbol=entry["symbol"],
        quantity=finite(entry["positionAmt"]),
        entry_price=finite(entry["entryPrice"]),
        mark_price=finite(entry["markPrice"]),
        unrealized_pnl_quote=finite(entry["unRealizedProfit"]),
        update_ms=entry["updateTime"],
    )


def rest_book_top(depth: Json, rules: SymbolRules, received_ns: int) -> BookTop:
    """Return the best bid and ask of a REST depth reply, rounded outwards if they are between two ticks.

    That happens after a change of the tick: what rested before still does. So it is with sizes and the step; they are
    rounded up, for nothing is said by 0. A side without a level has price and quantity 0.
    """
    bid, ask = (best[0] if (best := depth[side]) else ("0", "0") for side in ("bids", "asks"))
    return BookTop(
        bid_ticks=rules.floor_ticks(Decimal(bid[0])),
        bid_lots=rules.ceil_lots(Decimal(bid[1])),
        ask_ticks=rules.ceil_ticks(Decimal(ask[0])),
        ask_lots=rules.ceil_lots(Decimal(ask[1])),
        update_id=depth["lastUpdateId"],
        exchange_ms=depth["T"],
        received_ns=received_ns,
    )


UNREADABLE = (ValueError, ArithmeticError, RecursionError)
"""What reading a message of the exchange may end with: msgspec's errors, and those of text, are ValueErrors."""


def positive_price(text: str) -> Decimal | None:
    """Return the price, or None if it is none that a market can have."""
    price = Decimal(text)
    return price if price.is_finite() and price > 0 else None


class BookTickerData(msgspec.Struct, gc=False):
    """The payload of a bookTicker stream; keys as on the wire."""

    u: int
    E: int
    T: int
    s: str
    b: str
    B: str
    a: str
    A: str


class MarkPriceData(msgspec.Struct):
    """The payload of a markPrice stream; keys as on the wire."""

    E: int
    s: str
    p: str


class BookTickerMessage(msgspec.Struct, gc=False):
    """A bookTicker as a combined stream wraps it; the payload says itself what it is of."""

    data: BookTickerData


class MarkPriceMessage(msgspec.Struct):
    """A markPrice as a combined stream wraps it."""

    stream: str
    data: MarkPriceData


@lru_cache(maxsize=_MOST_TEXTS)
def units_of(text: str, unit: Decimal) -> int:
    """Return how many units the number in the text is; the same few prices and sizes come again and again."""
    return exact_units(Decimal(text), unit, "tick or step")


@lru_cache(maxsize=_MOST_TEXTS)
def lots_of(text: str, step: Decimal) -> int:
    """Return how many lots the size in the text fills; one from before a change of the step is rounded up."""
    return int((Decimal(text) / step).to_integral_value(ROUND_CEILING))


class NumberTable:
    """Texts of numbers by how many units they are, so that a second look at a text costs next to nothing.

    ``known`` has those above 0 that have been read: who reads hundreds of messages at once looks there first. Plain
    digits without a rest need no Decimal where the unit is a power of ten; others become units as ``convert`` says it.
    """

    def __init__(self, unit: Decimal, convert: Callable[[Decimal], int]) -> None:
        self.known: dict[str, int] = {}
        self._convert = convert
        _, digits, exponent = unit.normalize().as_tuple()
        is_power_of_ten = digits == (1,) and isinstance(exponent, int) and exponent <= 0
        self._decimals = -exponent if is_power_of_ten and isinstance(exponent, int) else None

    def units(self, text: str) -> int:
        """Return how many units the number in the text is; ValueError or ArithmeticError where there is none."""
        units = self.known.get(text)
        if units is None:
            units = self._read(text)
            if units > 0:
                self._keep(text, units)
        return units

    def _keep(self, text: str, units: int) -> None:
        if len(self.known) >= _MOST_TEXTS:
            self.known.clear()
        self.known[text] = units

    def _read(self, text: str) -> int:
        whole, _, part = text.partition(".")
        digits = whole + part
        if (
            len(part) == self._decimals and digits.isascii() and digits.isdecimal()
        ):  # as the exchange writes them
            return int(digits)
        return self._converted(text, whole, part)

    def _converted(self, text: str, whole: str, part: str) -> int:
        """Return the units of a text that is written in another way than the exchange does."""
        decimals, digits = self._decimals, whole + part
        if decimals is None or not (digits.isascii() and digits.isdecimal()) or part[decimals:].strip("0"):
            return self._convert(Decimal(text))
        return int(f"0{whole}{part[:decimals].ljust(decimals, '0')}")


class BookReader:
    """Reads the bookTicker payloads of one symbol."""

    def __init__(self, rules: SymbolRules) -> None:
        tick = rules.tick_size
        self.bids, self.asks = NumberTable(tick, rules.floor_ticks), NumberTable(tick, rules.ceil_ticks)
        self.lots = NumberTable(rules.step_size, rules.ceil_lots)

    def top(self, data: BookTickerData, received_ns: int) -> BookTop:
        """Return the best bid and ask of a payload, rounded outwards as ``rest_book_top`` does.

        Raises ValueError or ArithmeticError for what is no number.
        """
        lots = self.lots.units
        return BookTop(
            self.bids.units(data.b),
            lots(data.B),
            self.asks.units(data.a),
            lots(data.A),
            data.u,
            data.T,
            received_ns,
        )
