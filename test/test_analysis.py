"""What is known of a market besides best bid and ask."""

from dataclasses import replace
from decimal import Decimal

from msgspec import structs

from core.analysis import MarketAnalysis
from core.market_model import MarketTrade

from .examples import BOOK, BTC, MARKET_DATA

SETTINGS = replace(
    MARKET_DATA, significant_trade_quote=Decimal(1000), significant_trade_interval_s=0, volatility_samples=10
)


def trade(lots: int, *, is_buy: bool = True, received_ns: int = 0) -> MarketTrade:
    """So many lots of 80 USDT each."""
    return MarketTrade(800_000, lots, is_buy, 1, 0, received_ns)


def test_return_counts_only_when_the_middle_has_moved() -> None:
    """That sizes change is no return of zero."""
    analysis = MarketAnalysis(BTC, SETTINGS)
    for bid_lots in range(1, 50):
        analysis.on_book(structs.replace(BOOK, bid_lots=bid_lots))
    assert len(analysis.mids) == 0
    analysis.on_book(structs.replace(BOOK, bid_ticks=799_998))
    analysis.on_book(BOOK)
    assert len(analysis.mids) == 2


def test_trade_is_significant_from_the_threshold_in_quote_on() -> None:
    """13 lots are 1040 USDT, 12 are 960: the threshold is 1000."""
    analysis = MarketAnalysis(BTC, SETTINGS)
    assert [analysis.on_trade(trade(lots)) for lots in (12, 13)] == ["", "size"]
    assert (analysis.trades, analysis.significant_trades) == (2, 1)


def test_flow_is_told_in_the_quote_asset() -> None:
    """3 lots bought at 80 USDT each, and one sold."""
    analysis = MarketAnalysis(BTC, SETTINGS)
    analysis.on_trade(trade(3))
    analysis.on_trade(trade(1, is_buy=False))
    found = analysis.values(BOOK, 1_000_000_000)
    assert (found["flow_bought"], found["flow_sold"], found["flow_imbalance"]) == (240, 80, 0.5)
    assert found["trade_age"] == 1000
    later = analysis.values(BOOK, 61_000_000_000)
    assert (later["flow_bought"], later["flow_trades"], later["market_trades"]) == (0, 0, 2)
