"""The market by listening: native streams, and what the daemon's own statistics make of them."""

import random
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from core.analysis import MarketAnalysis
from core.market_model import MarketTrade
from core.market_wire import TradeData, market_trade
from core.model import BookTop, SymbolRules
from core.price_window import PriceWindow
from core.settings import MarketDataSettings
from core.wire import symbol_rules, units_of
from demo._desk import time_text
from demo._measure import Measure
from demo._start import DemoError
from utils.clock import Clock
from utils.http import BinanceRest
from utils.venue import SPOT, Venue, market_target, public_target
from utils.ws import Backoff, Stream, WsTransport

Json = dict[str, Any]


class QuoteData(msgspec.Struct):
    """The payload of a bookTicker stream. Spot's has neither event nor transaction time."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    T: int = 0


class QuoteMessage(msgspec.Struct):
    """A quote as a combined stream wraps it."""

    stream: str
    data: QuoteData


class TradeMessage(msgspec.Struct):
    """A trade as a combined stream wraps it: ``aggTrade`` of the perpetuals, ``trade`` of spot."""

    stream: str
    data: TradeData


async def rules_of(rest: BinanceRest, venue: Venue, symbol: str) -> SymbolRules:
    """Return the symbol's rules; DemoError if the exchange does not list it."""
    if venue is SPOT:
        info: Json = await rest.call("GET", "/api/v3/exchangeInfo", {"symbol": symbol}, timeout_s=10)
    else:
        info = await rest.call("GET", "/fapi/v1/exchangeInfo", timeout_s=10)
    for entry in info["symbols"]:
        if entry["symbol"] == symbol:
            return spot_rules(entry) if venue is SPOT else symbol_rules(entry)
    raise DemoError(f"The exchange does not list {symbol}: choose another with --symbol.")


async def measure_clock(rest: BinanceRest, venue: Venue, clock: Clock) -> None:
    """The exchange's clock is known, by the best of a few samples."""
    if venue is not SPOT:
        await rest.synchronise_clock()
        return
    for _ in range(3):
        sent_ms = clock.time_ms()
        reply: Json = await rest.call("GET", "/api/v3/time")
        rest.server_clock.learn(
            sent_ms=sent_ms, received_ms=clock.time_ms(), server_ms=int(reply["serverTime"])
        )


def spot_rules(entry: Json) -> SymbolRules:
    """Return what spot's exchangeInfo says of prices and sizes; bounds of orders are left open, for none is sent."""
    filters = {each["filterType"]: each for each in entry["filters"]}
    price, lot = filters["PRICE_FILTER"], filters["LOT_SIZE"]
    return SymbolRules(
        symbol=entry["symbol"],
        base_asset=entry["baseAsset"],
        quote_asset=entry["quoteAsset"],
        status=entry["status"],
        tick_size=Decimal(price["tickSize"]).normalize(),
        step_size=Decimal(lot["stepSize"]).normalize(),
        min_price=Decimal(0),
        max_price=Decimal(0),
        min_lots=0,
        max_lots=0,
        market_max_lots=0,
        min_notional_quote=Decimal(0),
        multiplier_up=Decimal(0),
        multiplier_down=Decimal(0),
        max_open_orders=0,
    )


class Listener:
    """Hears quotes and trades of one symbol, keeps the statistics, and measures how late they come.

    ``time_ms`` is the exchange's time as it is known here.
    """

    PRICE_WINDOW_S = 60.0

    def __init__(
        self,
        rules: SymbolRules,
        settings: MarketDataSettings,
        clock: Clock,
        time_ms: Callable[[], int],
        measure: Measure,
    ) -> None:
        self.rules = rules
        self.analysis = MarketAnalysis(rules, settings)
        self.prices = PriceWindow(self.PRICE_WINDOW_S)
        self.measure = measure
        self.book: BookTop | None = None
        self.raw: deque[str] = deque(maxlen=400)
        self.significant: deque[str] = deque(maxlen=400)
        self.new_raw: deque[str] = deque(maxlen=5000)
        self.new_significant: deque[str] = deque(maxlen=400)
        self.unreadable = 0
        self._clock = clock
        self._time_ms = time_ms
        self._decode_quote = msgspec.json.Decoder(QuoteMessage).decode
        self._decode_trade = msgspec.json.Decoder(TradeMessage).decode

    def hear(self, message: str | bytes) -> None:
        """Take note of a message: a quote or a trade."""
        self.measure.messages += 1
        kind = b"@bookTicker" if isinstance(message, bytes) else "@bookTicker"
        try:
            if kind in message[:120]:  # type: ignore[operator]  # both are text, or both are bytes
                self._on_quote(self._decode_quote(message).data)
            else:
                self._on_trade(self._decode_trade(message).data)
        except ValueError:  # msgspec's errors are ValueErrors, too
            self.unreadable += 1

    def _on_quote(self, data: QuoteData) -> None:
        tick, step = self.rules.tick_size, self.rules.step_size
        now_ns = self._clock.monotonic_ns()
        book = BookTop(
            units_of(data.b, tick),
            units_of(data.B, step),
            units_of(data.a, tick),
            units_of(data.A, step),
            data.u,
            data.T,
            now_ns,
        )
        if not book.is_sane:
            return
        self.book = book
        self.analysis.on_book(book)
        self.prices.add(now_ns, book.mid_half_ticks)
        if data.T:
            self.measure.quote(data.T, self._time_ms())
        self._tell(f"quote  {data.B} @ {data.b}  |  {data.A} @ {data.a}")

    def _on_trade(self, data: TradeData) -> None:
        trade = market_trade(data, self.rules, self._clock.monotonic_ns())
        if trade.price_ticks <= 0 or trade.lots <= 0:
            return
        now_ms = self._time_ms()
        self.measure.trade(data.T, now_ms)
        text = self._trade_text(trade)
        if why := self.analysis.on_trade(trade):
            worth = self.analysis.notional_quote(trade.notional_units)
            line = f"{time_text(now_ms)}  {text}  = {worth:,.0f} {self.rules.quote_asset}  ({why})"
            self.significant.append(line)
            self.new_significant.append(line)
        self._tell(f"trade  {text}  {now_ms - data.T} ms late")

    def _trade_text(self, trade: MarketTrade) -> str:
        side = "buy " if trade.is_buy else "sell"
        return f"{side} {self.rules.quantity_text(trade.lots)} @ {self.rules.price_text(trade.price_ticks)}"

    def _tell(self, text: str) -> None:
        line = f"{time_text(self._time_ms())}  {text}"
        self.raw.append(line)
        self.new_raw.append(line)


def streams_of(
    venue: Venue,
    symbol: str,
    transport: WsTransport,
    clock: Clock,
    on_message: Callable[[str | bytes], None],
    *,
    spot: bool,
) -> list[Stream]:
    """Return the connections that bring quotes and trades of the symbol.

    The perpetuals have routes: quotes on one, aggregate trades on another. Spot has one without a route, and single
    trades; the simulated exchange serves those of the perpetual under the same name and in the same shape.
    """
    name = symbol.lower()
    if spot and venue is SPOT:
        targets = {"market": f"/stream?streams={name}@bookTicker/{name}@trade"}
    elif spot:
        targets = {"market": public_target([f"{name}@bookTicker", f"{name}@trade"])}
    else:
        targets = {
            "quote": public_target([f"{name}@bookTicker"]),
            "trade": market_target([f"{name}@aggTrade"]),
        }
    return [
        _stream(what, target, transport, clock, on_message, random.Random())
        for what, target in targets.items()
    ]


def _stream(
    name: str,
    target: str,
    transport: WsTransport,
    clock: Clock,
    on_message: Callable[[str | bytes], None],
    rng: random.Random,
) -> Stream:
    async def fixed_target() -> str:
        return target

    return Stream(
        name,
        transport,
        clock,
        Backoff(rng),
        target=fixed_target,
        on_message=on_message,
        on_up=lambda: None,
        on_down=lambda _reason: None,
    )
