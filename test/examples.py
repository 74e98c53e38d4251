"""Example values that the tests talk about: the real rules of BTCUSDT, a book, settings, an order's report, a fill."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from core.analysis import MarketAnalysis
from core.context import SymbolContext
from core.gate import Gate
from core.market_model import DepthView, MarketTrade
from core.model import BookTop, Fill, OrderReport, OrderStatus, Quote, Side, SymbolRules
from core.settings import ManageSettings, MarketDataSettings, QuoteSettings, RiskSettings
from core.state import SymbolState

BTC = SymbolRules(
    symbol="BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    status="TRADING",
    tick_size=Decimal("0.1"),
    step_size=Decimal("0.001"),
    min_price=Decimal("556.8"),
    max_price=Decimal(4529764),
    min_lots=1,
    max_lots=1_000_000,
    market_max_lots=120_000,
    min_notional_quote=Decimal(50),
    multiplier_up=Decimal("1.05"),
    multiplier_down=Decimal("0.95"),
    max_open_orders=200,
)
"""Mainnet, September 2026 (binance-futures exchangeInfo)."""

BOOK = BookTop(
    bid_ticks=799_999,
    bid_lots=4218,
    ask_ticks=800_001,
    ask_lots=6128,
    update_id=5001,
    exchange_ms=1_790_000_000_120,
    received_ns=1_000_000_000,
)
"""80 000 in the middle, two ticks wide."""

MARK = Decimal(80_000)

QUOTES = QuoteSettings(
    symbol="BTCUSDT",
    levels=3,
    size_quote=Decimal(250),
    offset_percent=Decimal("0.1"),
    refresh_interval_s=5.0,
    refresh_mode="replace",
    min_spread=Decimal("0.0001"),
    max_spread=Decimal("0.2"),
    on_move=True,
    min_requote_interval_ms=250,
)
"""What the shipped config.yaml asks for."""

MANAGE = ManageSettings(
    modify_threshold=Decimal("0.0001"),
    max_modify_deviation=Decimal("0.01"),
    patience_bps_s=0.0,
    reset_interval_s=300.0,
    max_pending_modifications=10,
    modification_timeout_s=5.0,
    cleanup_interval_s=60.0,
)
"""Keep up to one basis point, amend up to one percent."""

RISK = RiskSettings(
    capital_quote=Decimal(2000),
    leverage=5,
    max_net_position_ratio=Decimal("0.2"),
    check_interval_s=1.0,
    drift_buffer_percent=Decimal(2),
)
"""A position limit of 2000."""

MARKET_DATA = MarketDataSettings(
    depth="top20",
    trades=True,
    significant_trade_quote=Decimal(100_000),
    significant_trade_interval_s=5,
    volatility_samples=100,
    volatility_half_life_s=60,
    flow_window_s=60,
)
"""Levels and trades, with the spans of the shipped config.yaml."""


def analysis_of_a_market(now_ns: int = 1_250_000_000) -> MarketAnalysis:
    """A mid that rose by a basis point, one trade of 4000 to buy, and a level on each side, all of now."""
    analysis = MarketAnalysis(BTC, MARKET_DATA)
    analysis.on_book(structs.replace(BOOK, bid_ticks=799_919, ask_ticks=799_921, received_ns=0))
    analysis.on_book(BOOK)
    analysis.on_trade(MarketTrade(800_000, 50, is_buy=True, trade_id=1, exchange_ms=0, received_ns=now_ns))
    analysis.depth = DepthView(((799_999, 30),), ((800_001, 10),), 1, 0, now_ns)
    return analysis


def quote(side: Side = Side.BUY, level: int = 1, price_ticks: int = 799_000, lots: int = 3) -> Quote:
    """A quote of about 240 USDT, below the book unless told otherwise."""
    return Quote(side, level, price_ticks, lots)


def report(**changes: Any) -> OrderReport:
    """What the exchange says of a buy of 10 lots at 799 000 ticks that has just been accepted."""
    accepted = OrderReport(
        symbol="BTCUSDT",
        client_id="qpmm-mm1-1-1",
        order_id=7,
        side=Side.BUY,
        status=OrderStatus.ACTIVE,
        price_ticks=799_000,
        lots=10,
        executed_lots=0,
        reduce_only=False,
        time_in_force="GTX",
        update_ms=1_790_000_000_000,
    )
    return replace(accepted, **changes)


def fill(trade_id: int = 1, side: Side = Side.BUY, quantity: str = "0.003", **changes: Any) -> Fill:
    """A maker's trade at 79 900 with its fee of 0.02 percent."""
    trade = Fill(
        symbol="BTCUSDT",
        trade_id=trade_id,
        order_id=7,
        client_id="qpmm-mm1-1-1",
        side=side,
        price=Decimal(79_900),
        quantity=Decimal(quantity),
        commission=Decimal("0.047940"),
        commission_asset="USDT",
        realized_pnl_quote=Decimal(0),
        is_maker=True,
        time_ms=1_790_000_000_000,
    )
    return replace(trade, **changes)


def context(**changes: Any) -> SymbolContext:
    """BTCUSDT with nothing resting, nothing held and an open gate."""
    parts: dict[str, Any] = {
        "settings": QUOTES,
        "rules": BTC,
        "state": SymbolState(symbol="BTCUSDT", mark_price=MARK, book=BOOK),
        "gate": Gate(),
        "limits": RISK,
    }
    return SymbolContext(**{**parts, **changes})


def _rules(
    tick: Decimal, step: Decimal, notional: int, min_lots: int, multiplier_percent: int
) -> SymbolRules:
    return replace(
        BTC,
        tick_size=tick,
        step_size=step,
        min_notional_quote=Decimal(notional),
        min_lots=min_lots,
        max_lots=10**12,
        min_price=tick,
        max_price=Decimal(0),
        multiplier_up=Decimal(100 + multiplier_percent) / 100,
        multiplier_down=Decimal(100 - multiplier_percent) / 100,
    )


UNITS = st.sampled_from([Decimal(text) for text in ("1", "0.5", "0.1", "0.01", "0.001", "0.0001", "0.00001")])
SOME_RULES = st.builds(
    _rules,
    tick=UNITS,
    step=UNITS,
    notional=st.integers(0, 100),
    min_lots=st.integers(0, 50),
    multiplier_percent=st.integers(5, 15),
)
"""Rules as exchanges have them: any tick and step, minimums from none to large, a band of 5 to 15 percent."""


@st.composite
def some_books(draw: st.DrawFn, highest_ticks: int = 10_000_000) -> BookTop:
    """A sane book anywhere between one tick and `highest_ticks`."""
    bid_ticks = draw(st.integers(1, highest_ticks))
    ask_ticks = bid_ticks + draw(st.integers(1, 1000))
    return structs.replace(BOOK, bid_ticks=bid_ticks, ask_ticks=ask_ticks)
