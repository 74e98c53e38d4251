"""Binance's JSON becomes our values. The payloads are those of the documentation, field for field."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import wire
from core.model import BookTop, OrderStatus, Side

from .examples import BTC

EXCHANGE_INFO_BTC: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "pair": "BTCUSDT",
    "contractType": "PERPETUAL",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "pricePrecision": 2,
    "quantityPrecision": 3,
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "50"},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": "1.0500",
            "multiplierDown": "0.9500",
            "multiplierDecimal": "4",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ],
}

PLACED_REPLY: dict[str, Any] = {
    "orderId": 22542179,
    "symbol": "BTCUSDT",
    "status": "NEW",
    "clientOrderId": "qpmm-mm1-1-1",
    "price": "79900.00",
    "origQty": "0.010",
    "executedQty": "0.000",
    "cumQty": "0.000",
    "timeInForce": "GTX",
    "type": "LIMIT",
    "origType": "LIMIT",
    "side": "BUY",
    "positionSide": "BOTH",
    "reduceOnly": False,
    "closePosition": False,
    "stopPrice": "0",
    "workingType": "CONTRACT_PRICE",
    "priceProtect": False,
    "priceMatch": "NONE",
    "selfTradePreventionMode": "EXPIRE_MAKER",
    "goodTillDate": 0,
    "updateTime": 1790000000000,
}
"""The acknowledgement since June 2026: without avgPrice and cumQuote."""

TRADE_EVENT: dict[str, Any] = {
    "s": "BTCUSDT",
    "c": "qpmm-mm1-1-1",
    "S": "SELL",
    "o": "LIMIT",
    "f": "GTX",
    "q": "0.010",
    "p": "80100.00",
    "ap": "80100.00",
    "sp": "0",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "i": 8886774,
    "l": "0.004",
    "z": "0.006",
    "L": "80100.00",
    "n": "0.06408",
    "N": "USDT",
    "T": 1790000000500,
    "t": 4567,
    "b": "0",
    "a": "320.4",
    "m": True,
    "R": False,
    "wt": "CONTRACT_PRICE",
    "ot": "LIMIT",
    "ps": "BOTH",
    "cp": False,
    "rp": "-1.25",
    "pP": False,
    "si": 0,
    "ss": 0,
    "V": "EXPIRE_MAKER",
    "pm": "NONE",
    "gtd": 0,
    "er": "0",
}
"""The ``o`` object of an ORDER_TRADE_UPDATE for a part of a resting sell."""


POSITION: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "positionSide": "BOTH",
    "positionAmt": "-0.250",
    "entryPrice": "80000.5",
    "breakEvenPrice": "80001",
    "markPrice": "80010.00000000",
    "unRealizedProfit": "-2.37500000",
    "liquidationPrice": "0",
    "adl": 1,
    "updateTime": 1790000000000,
}


def test_rules_of_exchange_info_are_read_from_the_filters() -> None:
    """Tick and step come from the filters, never from the precisions."""
    assert wire.symbol_rules(EXCHANGE_INFO_BTC) == BTC


@pytest.mark.parametrize("size", ["0.0010", "0.000010", "1", "10.00", "100"])
def test_rules_write_the_step_without_exponent_or_padding(size: str) -> None:
    """A step of 10 is not 1E+1, one of 0.000010 has no last zero."""
    filters = [{**entry, "stepSize": size, "minQty": size} for entry in EXCHANGE_INFO_BTC["filters"]]
    rules = wire.symbol_rules({**EXCHANGE_INFO_BTC, "filters": filters})
    assert rules.step_size == Decimal(size)
    assert rules.quantity_text(1) == (size.rstrip("0").rstrip(".") if "." in size else size)
    assert rules.min_lots == 1


def test_minimum_between_two_steps_counts_up() -> None:
    """A minimum of 1.5 steps needs two lots."""
    filters = [{**entry, "minQty": "0.0015"} for entry in EXCHANGE_INFO_BTC["filters"]]
    assert wire.symbol_rules({**EXCHANGE_INFO_BTC, "filters": filters}).min_lots == 2


def test_symbol_without_a_filter_we_need_is_an_error() -> None:
    """A symbol of another kind cannot be mistaken for one that may be traded."""
    with pytest.raises(KeyError, match="MIN_NOTIONAL"):
        wire.symbol_rules({**EXCHANGE_INFO_BTC, "filters": EXCHANGE_INFO_BTC["filters"][:3]})


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("NEW", OrderStatus.ACTIVE),
        ("PARTIALLY_FILLED", OrderStatus.PARTIALLY_FILLED),
        ("FILLED", OrderStatus.FILLED),
        ("CANCELED", OrderStatus.CANCELLED),
        ("EXPIRED", OrderStatus.EXPIRED),
        ("EXPIRED_IN_MATCH", OrderStatus.EXPIRED_IN_MATCH),
        ("REJECTED", OrderStatus.REJECTED),
        ("NEW_ADL", OrderStatus.IN_DOUBT),
        ("", OrderStatus.IN_DOUBT),
    ],
)
def test_status_has_our_name_and_an_unheard_one_is_in_doubt(text: str, status: OrderStatus) -> None:
    """What we cannot name may rest, and counts so."""
    assert wire.order_status(text) is status


def test_reply_to_an_order_is_read_without_the_fields_that_went_away() -> None:
    """avgPrice and cumQuote are not needed."""
    found = wire.order_report(PLACED_REPLY, BTC)
    assert (found.symbol, found.client_id, found.order_id) == ("BTCUSDT", "qpmm-mm1-1-1", 22542179)
    assert (found.side, found.status) == (Side.BUY, OrderStatus.ACTIVE)
    assert (found.price_ticks, found.lots, found.executed_lots) == (799_000, 10, 0)
    assert (found.reduce_only, found.time_in_force, found.update_ms) == (False, "GTX", 1790000000000)


@pytest.mark.parametrize("missing", ["orderId", "status", "price", "origQty", "executedQty", "updateTime"])
def test_reply_without_a_field_that_decides_is_an_error(missing: str) -> None:
    """Strict about what is used: nothing is guessed."""
    reply = {name: value for name, value in PLACED_REPLY.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        wire.order_report(reply, BTC)


def test_order_event_says_the_same_of_its_order_as_a_reply() -> None:
    """One shape for both channels."""
    found = wire.order_event_report(TRADE_EVENT, BTC)
    assert (found.symbol, found.client_id, found.order_id) == ("BTCUSDT", "qpmm-mm1-1-1", 8886774)
    assert (found.side, found.status) == (Side.SELL, OrderStatus.PARTIALLY_FILLED)
    assert (found.price_ticks, found.lots, found.executed_lots) == (801_000, 10, 6)
    assert (found.reduce_only, found.time_in_force, found.update_ms) == (False, "GTX", 1790000000500)


def test_order_from_before_a_change_of_the_rules_is_never_smaller_than_it_is() -> None:
    """Price and size go up to the next tick and step, of what is executed nothing is lost; both channels alike."""
    rules = replace(BTC, tick_size=Decimal("0.3"), step_size=Decimal("0.004"))
    sell = {**PLACED_REPLY, "side": "SELL", "price": "80100.10", "origQty": "0.010", "executedQty": "0.006"}
    event = {**TRADE_EVENT, "p": "80100.10"}
    for found in (wire.order_report(sell, rules), wire.order_event_report(event, rules)):
        assert (rules.price(found.price_ticks), rules.quantity(found.lots)) == (
            Decimal("80100.3"),
            Decimal("0.012"),
        )
        assert (found.executed_lots, found.executed_rest) == (1, Decimal("0.002"))


@pytest.mark.parametrize("name", ["price", "origQty", "executedQty"])
@pytest.mark.parametrize("text", ["NaN", "Infinity", "much"])
def test_order_of_no_number_is_an_error(name: str, text: str) -> None:
    """A number that cannot be counted with says nothing of what rests."""
    with pytest.raises((ValueError, ArithmeticError)):
        wire.order_report({**PLACED_REPLY, name: text}, BTC)


def test_trade_event_holds_its_fill_to_the_last_digit() -> None:
    """The last quantity and price, not the cumulative ones."""
    trade = wire.order_event_fill(TRADE_EVENT, "USDT")
    assert trade is not None
    assert (trade.trade_id, trade.order_id, trade.client_id) == (4567, 8886774, "qpmm-mm1-1-1")
    assert (trade.side, trade.price, trade.quantity) == (Side.SELL, Decimal(80100), Decimal("0.004"))
    assert (trade.commission, trade.commission_asset) == (Decimal("0.06408"), "USDT")
    assert (trade.realized_pnl_quote, trade.is_maker) == (Decimal("-1.25"), True)
    assert trade.time_ms == 1790000000500


def test_trade_event_without_commission_cost_nothing() -> None:
    """The exchange leaves out both fields where it takes no commission."""
    event = {name: value for name, value in TRADE_EVENT.items() if name not in ("n", "N")}
    trade = wire.order_event_fill(event, "USDT")
    assert trade is not None
    assert (trade.commission, trade.commission_asset) == (0, "USDT")


def test_commission_in_another_asset_is_kept_apart() -> None:
    """Fees may be paid in BNB."""
    trade = wire.order_event_fill({**TRADE_EVENT, "n": "0.0001", "N": "BNB"}, "USDT")
    assert trade is not None
    assert (trade.commission, trade.commission_asset) == (Decimal("0.0001"), "BNB")


@pytest.mark.parametrize("change", [{"t": 0}, {"l": "0"}, {"l": "0.000"}])
def test_event_that_is_no_trade_has_no_fill(change: dict[str, Any]) -> None:
    """Trade id 0 or nothing filled: NEW, CANCELED, AMENDMENT."""
    assert wire.order_event_fill({**TRADE_EVENT, **change}, "USDT") is None


def test_event_without_a_trade_id_has_no_fill() -> None:
    """The field may be absent."""
    event = {name: value for name, value in TRADE_EVENT.items() if name != "t"}
    assert wire.order_event_fill(event, "USDT") is None


def test_trade_of_the_account_equals_the_fill_of_its_event() -> None:
    """The same trade, told by userTrades, is the same fill."""
    trade = {
        "id": 4567,
        "orderId": 8886774,
        "symbol": "BTCUSDT",
        "pair": "BTCUSDT",
        "side": "SELL",
        "positionSide": "BOTH",
        "price": "80100.00",
        "qty": "0.004",
        "quoteQty": "320.40",
        "baseQty": "0",
        "commission": "0.06408",
        "commissionAsset": "USDT",
        "marginAsset": "USDT",
        "realizedPnl": "-1.25",
        "buyer": False,
        "maker": True,
        "time": 1790000000500,
    }
    assert wire.user_trade_fill(trade, "qpmm-mm1-1-1") == wire.order_event_fill(TRADE_EVENT, "USDT")


def test_short_position_is_below_zero() -> None:
    """positionAmt is signed in one-way mode."""
    held = wire.position(POSITION)
    assert (held.symbol, held.quantity, held.entry_price) == (
        "BTCUSDT",
        Decimal("-0.250"),
        Decimal("80000.5"),
    )
    assert (held.mark_price, held.unrealized_pnl_quote) == (Decimal(80010), Decimal("-2.375"))
    assert held.update_ms == 1790000000000


@pytest.mark.parametrize("name", ["positionAmt", "entryPrice", "markPrice", "unRealizedProfit"])
@pytest.mark.parametrize("text", ["NaN", "Infinity"])
def test_position_of_no_number_is_an_error(name: str, text: str) -> None:
    """It is neither flat nor held."""
    with pytest.raises(ValueError, match="is not a number to count with"):
        wire.position({**POSITION, name: text})


def test_book_is_the_same_from_rest_and_from_the_stream() -> None:
    """Two shapes, one book."""
    depth = {
        "lastUpdateId": 5001,
        "E": 1790000000123,
        "T": 1790000000120,
        "bids": [["79999.90", "4.218"], ["79999.80", "0.001"]],
        "asks": [["80000.10", "6.128"]],
    }
    message = (
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5001,"E":1790000000123,"T":1790000000120,'
        b'"s":"BTCUSDT","ps":"BTCUSDT","b":"79999.90","B":"4.218","a":"80000.10","A":"6.128","st":1}}'
    )
    streamed = msgspec.json.decode(message, type=wire.BookTickerMessage)
    expected = BookTop(799_999, 4218, 800_001, 6128, 5001, 1790000000120, 77)
    assert wire.rest_book_top(depth, BTC, 77) == expected
    assert wire.BookReader(BTC).top(streamed.data, 77) == expected


def test_sizes_from_before_a_change_of_the_step_are_rounded_up() -> None:
    """What rests is never nothing: a book of such sizes is one to quote on."""
    rules = replace(BTC, step_size=Decimal("0.002"))
    depth = {"lastUpdateId": 1, "E": 5, "T": 5, "bids": [["1", "0.001"]], "asks": [["2", "0.004"]]}
    top = wire.rest_book_top(depth, rules, 0)
    assert (top.bid_lots, top.ask_lots, top.is_sane) == (1, 2, True)
    assert (
        wire.BookReader(rules).top(wire.BookTickerData(1, 5, 5, "BTCUSDT", "1", "0.001", "2", "0.004"), 0)
        == top
    )


@example(".0", "1")
@given(
    st.one_of(
        st.from_regex(r"[0-9]{0,6}\.?[0-9]{0,5}", fullmatch=True),
        st.sampled_from(["", ".", "1e3", "-1", "+1.00", " 1", "1_0", "NaN", "Infinity", "\u0661", "0x1"]),
    ),
    st.sampled_from(["0.10", "0.001", "1", "10", "0.5"]),
)
def test_a_number_of_the_book_is_read_as_a_decimal_would_be(text: str, unit: str) -> None:
    """However it is written, the first time and the second; what cannot be read is an error both times."""
    rules = replace(BTC, tick_size=Decimal(unit), step_size=Decimal(unit))

    def outcome(read: Callable[[], tuple[int, ...]]) -> tuple[int, ...] | None:
        try:
            return read()
        except (ValueError, ArithmeticError):
            return None

    def slowly() -> tuple[int, ...]:
        number = Decimal(text)
        lots = rules.ceil_lots(number)
        return rules.floor_ticks(number), lots, rules.ceil_ticks(number), lots

    def at_once() -> tuple[int, ...]:
        data = wire.BookTickerData(1, 2, 3, "BTCUSDT", text, text, text, text)
        top = reader.top(data, 0)
        return top.bid_ticks, top.bid_lots, top.ask_ticks, top.ask_lots

    reader = wire.BookReader(rules)
    assert [outcome(at_once), outcome(at_once)] == [outcome(slowly)] * 2


def test_book_with_one_side_is_not_sane() -> None:
    """Nor is one without any; both can be read."""
    depth = {"lastUpdateId": 1, "E": 5, "T": 5, "bids": [["1", "1"]], "asks": []}
    assert not wire.rest_book_top(depth, BTC, 0).is_sane
    assert not wire.rest_book_top({**depth, "bids": []}, BTC, 0).is_sane


def test_mark_price_message_is_read_with_the_fields_it_has() -> None:
    """Fields that we do not use are skipped."""
    message = (
        b'{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1790000000000,"s":"BTCUSDT",'
        b'"p":"80000.00000000","ap":"80001","i":"80002","P":"80003","r":"0.0001","T":1790006400000,"st":1}}'
    )
    found = msgspec.json.decode(message, type=wire.MarkPriceMessage)
    assert (found.data.s, found.data.p, found.data.E) == ("BTCUSDT", "80000.00000000", 1790000000000)


@pytest.mark.parametrize(
    ("text", "price"),
    [("80000.10", Decimal("80000.1")), ("0", None), ("-1", None), ("NaN", None), ("Infinity", None)],
)
def test_only_a_price_that_a_market_can_have_is_believed(text: str, price: Decimal | None) -> None:
    """Zero, negative and unreal numbers are no price."""
    assert wire.positive_price(text) == price
