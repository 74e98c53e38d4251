"""Which of Binance's deployments the exchange imitates: mainnet or the demo site, which differ in filters and limits.

Demo has finer lots on BTCUSDT than the recorded markets, which count in mainnet's; a market is therefore read through
``deployed``, which counts its quantities in the lots of the deployment. Prices have the same ticks on both.

Source: facts section 3.2 (request limits), 10 (both tables of filters); rule zero: they differ.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum

from msgspec import structs

from sim.limits import LimitSizes
from sim.market import BookTicker, DepthChange, Levels, Market, MarketEvent, Trade
from sim.rules import SymbolRules


class Deployment(StrEnum):
    """The deployments."""

    MAINNET = "mainnet"
    DEMO = "demo"

    @property
    def limits(self) -> LimitSizes:
        """Return the sizes of the request limits."""
        return LimitSizes() if self is Deployment.MAINNET else LimitSizes(weight_per_minute=6000)

    def rules(self, mainnet: SymbolRules) -> SymbolRules:
        """Return the rules of a symbol of which mainnet's are given."""
        if self is Deployment.MAINNET:
            return mainnet
        fields = {"liquidation_fee": Decimal("0.020000"), "market_take_bound": Decimal("0.10")}
        return replace(mainnet, **{**fields, **_DEMO.get(mainnet.symbol, {})})  # type: ignore[arg-type]


_DEMO: Mapping[str, Mapping[str, object]] = {
    "BTCUSDT": {
        "step_size": Decimal("0.0001"),
        "min_qty": Decimal("0.0001"),
        "quantity_precision": 4,
        "max_num_orders": 10_000,
        "market_take_bound": Decimal("0.30"),
    },
    "ETHUSDT": {"market_max_qty": Decimal(10_000), "max_num_orders": 10_000},
    "SOLUSDT": {"market_max_qty": Decimal(6000)},
    "DOGEUSDT": {"max_qty": Decimal(10_000_000), "max_num_orders": 199},
}


def deployed(market: Market, deployment: Deployment) -> Market:
    """Return the market as the deployment shows it."""
    return market if deployment is Deployment.MAINNET else _Deployed(market, deployment)


class _Deployed:
    """A market whose quantities are counted in other lots."""

    def __init__(self, market: Market, deployment: Deployment) -> None:
        self._market = market
        self.rules = {symbol: deployment.rules(rules) for symbol, rules in market.rules.items()}
        self._factors = {
            symbol: int(rules.step_size / self.rules[symbol].step_size)
            for symbol, rules in market.rules.items()
        }

    def peek_ms(self) -> int | None:
        """The exchange time of the next event in epoch milliseconds is returned; None once the market has ended."""
        return self._market.peek_ms()

    def take(self) -> MarketEvent:
        """The next event is returned and consumed."""
        event = self._market.take()
        factor = self._factors[event.symbol]
        return event if factor == 1 else _multiplied(event, factor)


def _multiplied(event: MarketEvent, factor: int) -> MarketEvent:
    if isinstance(event, BookTicker):
        return structs.replace(event, bid_lots=event.bid_lots * factor, ask_lots=event.ask_lots * factor)
    if isinstance(event, Trade):
        return structs.replace(event, lots=event.lots * factor)
    if isinstance(event, DepthChange):
        return structs.replace(event, bids=_levels(event.bids, factor), asks=_levels(event.asks, factor))
    return event


def _levels(levels: Levels, factor: int) -> Levels:
    return tuple((price_ticks, lots * factor) for price_ticks, lots in levels)
