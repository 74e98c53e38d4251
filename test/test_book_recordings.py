"""Our copy of the book and our reading of trades, on what Binance's streams really said."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.book import LocalBook, Step
from core.market_wire import DepthData, TradeData, depth_diff, depth_snapshot, market_trade
from core.model import SymbolRules

from .examples import BTC

ETH = replace(BTC, symbol="ETHUSDT", base_asset="ETH", tick_size=Decimal("0.01"))
CAPTURES = [("btcusdt-2024-07-18", BTC), ("ethusdt-2024-07-18", ETH), ("btcusdt-2023-04-04", BTC)]


def messages(data_dir: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line of a raw capture: the kind of its stream, "" for the snapshot, and its payload."""
    with gzip.open(data_dir / "raw" / f"usdm-{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            payload = json.loads(line.partition(" ")[2])
            stream = payload.get("stream", "@")
            yield stream.split("@")[1], payload.get("data", payload)


@pytest.mark.parametrize(("name", "rules"), CAPTURES)
def test_copy_of_a_real_book_has_no_gap_and_the_real_touch(
    data_dir: Path, name: str, rules: SymbolRules
) -> None:
    """Thousands of real changes on one real snapshot: all follow, nothing crosses, the touch is bookTicker's."""
    book, steps = LocalBook(), list[Step]()
    tops: dict[int, tuple[Decimal, ...]] = {}
    ours: dict[int, tuple[Decimal, ...]] = {}
    for kind, data in messages(data_dir, name):
        if kind == "bookTicker":
            tops[data["u"]] = tuple(Decimal(data[key]) for key in "bBaA")
        elif kind == "":
            assert book.load(depth_snapshot(data, rules)) is Step.APPLIED
        elif kind == "depth":
            steps.append(book.apply(depth_diff(msgspec.convert(data, DepthData), rules)))
            if view := book.view(1, 0):
                (bid, bid_lots), (ask, ask_lots) = view.bids[0], view.asks[0]
                ours[view.update_id] = (
                    rules.price(bid),
                    rules.quantity(bid_lots),
                    rules.price(ask),
                    rules.quantity(ask_lots),
                )
    assert set(steps) <= {Step.WAITING, Step.OLD, Step.APPLIED}
    assert steps.count(Step.APPLIED) > 3000
    both = ours.keys() & tops.keys()
    assert len(both) > 20
    assert {update_id: ours[update_id] for update_id in both} == {
        update_id: tops[update_id] for update_id in both
    }


@pytest.mark.parametrize(("name", "rules"), CAPTURES)
def test_real_trades_are_read(data_dir: Path, name: str, rules: SymbolRules) -> None:
    """Single ones: each has an id above that of the one before, a size, and a price near the others."""
    payloads = [
        msgspec.convert(data, TradeData) for kind, data in messages(data_dir, name) if kind == "trade"
    ]
    trades = [market_trade(data, rules, 0) for data in payloads if data.is_of_market]
    assert len(trades) == len(payloads) > 900
    ids, prices = [trade.trade_id for trade in trades], [trade.price_ticks for trade in trades]
    assert all(before < after for before, after in pairwise(ids))
    assert max(prices) < min(prices) * 1.01
    assert all(trade.lots > 0 for trade in trades)
