"""The exchange's depth and trades, read."""

import json
from typing import Any

import msgspec
import pytest

from core.market_model import DepthDiff, DepthSnapshot, MarketTrade
from core.market_wire import (
    DepthMessage,
    TradeMessage,
    depth_diff,
    depth_snapshot,
    depth_view,
    market_trade,
)

from .examples import BTC

DEPTH: dict[str, Any] = {
    "e": "depthUpdate",
    "E": 1790000000123,
    "T": 1790000000120,
    "s": "BTCUSDT",
    "ps": "BTCUSDT",
    "U": 157,
    "u": 160,
    "pu": 149,
    "b": [["79999.90", "0.010"], ["79999.80", "0"]],
    "a": [["80000.10", "1.5"]],
    "st": 1,
}
AGG_TRADE: dict[str, Any] = {
    "e": "aggTrade",
    "E": 1790000000123,
    "s": "BTCUSDT",
    "a": 5933014,
    "p": "80000.10",
    "q": "0.500",
    "nq": "0.500",
    "f": 100,
    "l": 105,
    "T": 1790000000110,
    "m": True,
    "st": 1,
}
SPOT_TRADE: dict[str, Any] = {
    "e": "trade",
    "E": 1672515782136,
    "s": "BTCUSDT",
    "t": 12345,
    "p": "80000.10",
    "q": "0.500",
    "T": 1672515782136,
    "m": False,
    "M": True,
}


def read(kind: type[Any], payload: dict[str, Any]) -> Any:
    """The data of a payload as a combined stream brings it."""
    return msgspec.json.decode(json.dumps({"stream": "x", "data": payload}), type=kind).data


def test_diff_depth_is_read_with_its_ids() -> None:
    """Levels in ticks and lots, 0 for one that is gone."""
    assert depth_diff(read(DepthMessage, DEPTH), BTC) == DepthDiff(
        ((799_999, 10), (799_998, 0)), ((800_001, 1500),), 157, 160, 149, 1790000000120
    )


def test_partial_depth_is_read_as_levels_in_full() -> None:
    """The shape is the same, the meaning is not."""
    view = depth_view(read(DepthMessage, DEPTH), BTC, 7)
    assert (view.bids[0], view.asks[0]) == ((799_999, 10), (800_001, 1500))
    assert (view.update_id, view.exchange_ms, view.received_ns) == (160, 1790000000120, 7)
    assert view.is_sane


def test_snapshot_is_read_from_the_reply() -> None:
    """The id is that of the book, not of an event."""
    reply = {"lastUpdateId": 150, "E": 1, "T": 1, "bids": [["79999.9", "0.01"]], "asks": []}
    assert depth_snapshot(reply, BTC) == DepthSnapshot(((799_999, 10),), (), 150)


def test_taker_sold_where_the_buyer_was_the_maker() -> None:
    """An aggregate trade of the futures market."""
    assert market_trade(read(TradeMessage, AGG_TRADE), BTC, 7) == MarketTrade(
        800_001, 500, is_buy=False, trade_id=5933014, exchange_ms=1790000000110, received_ns=7
    )


def test_single_trade_of_spot_is_read_as_well() -> None:
    """It has its id under another name."""
    trade = market_trade(read(TradeMessage, SPOT_TRADE), BTC, 7)
    assert (trade.is_buy, trade.trade_id) == (True, 12345)
    assert trade.notional_units == 800_001 * 500


def test_price_between_two_ticks_is_refused() -> None:
    """Rather than rounded."""
    with pytest.raises(ValueError, match="multiple"):
        market_trade(read(TradeMessage, {**AGG_TRADE, "p": "80000.15"}), BTC, 7)
