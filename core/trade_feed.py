"""The market's trades: counted, measured and told, and watched for what is missing. Quoting never waits for them."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from core.analysis import MarketAnalysis
from core.context import SymbolContext
from core.events import (
    ConnectionEvent,
    ConnectionKind,
    EventBus,
    GapEvent,
    SignificantTradeEvent,
    TradeEvent,
)
from core.market_model import MarketTrade
from core.market_queries import newest_trade_id
from core.market_streams import MarketStreams
from core.market_wire import TradeMessage, market_trade
from core.wire import UNREADABLE
from utils.errors import ExchangeError
from utils.http import BinanceRest
from utils.venue import market_target

log = logging.getLogger(__name__)


class TradeFeed:
    """Feeds the analysis of every symbol with the trades of its ``aggTrade`` stream.

    A market in which nobody trades and a silent stream look the same. So after ``SILENT_AFTER_S`` without a trade the
    exchange is asked for its last one; if that is newer than ours, the stream is silent and a new connection is made. A
    stream that has not told a trade yet is held to the last one that the exchange knows of.
    """

    NAME = "trades"
    WATCH_EVERY_S = 5.0
    SILENT_AFTER_S = 30.0
    ASK_TIMEOUT_S = 2.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        analyses: dict[str, MarketAnalysis],
        streams: MarketStreams,
        rest: BinanceRest,
    ) -> None:
        self._contexts = {context.symbol: context for context in contexts}
        self._analyses = analyses
        self._bus: EventBus = streams.bus
        self._clock = streams.clock
        self._rest = rest
        self._last_id: dict[str, int] = {}
        self._heard_ns: dict[str, int] = {}
        self._is_new: set[str] = set()
        self._is_stale: set[str] = set()
        self._unreadable = 0
        self._decode = msgspec.json.Decoder(TradeMessage).decode
        self.stream = streams.open(
            self.NAME, market_target, "aggTrade", self._contexts, self._on_message, on_up=self._up
        )

    async def run(self) -> None:
        """Follow the trades until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.stream.run(), name="trade stream")
            for symbol in self._contexts:
                group.create_task(self._watch(symbol), name=f"trade watch {symbol}")

    def _up(self) -> None:
        self._is_new.update(self._contexts)
        for symbol in self._contexts:
            self._heard_ns[symbol] = self._clock.monotonic_ns()  # gives the connection its own time

    def _on_message(self, message: str | bytes) -> None:
        try:
            data = self._decode(message).data
            context = self._contexts.get(data.s)
            if context is None or not data.is_of_market:
                return
            trade = market_trade(data, context.rules, self._clock.monotonic_ns())
        except UNREADABLE as error:
            self._unreadable += 1
            if self._unreadable == 1:
                log.warning("a trade of the market could not be read and was left out: %s", error)
            return
        if trade.price_ticks > 0 and trade.lots > 0 and self._follows(data.s, trade.trade_id):
            self._take(data.s, trade)

    def _follows(self, symbol: str, trade_id: int) -> bool:
        """Tell whether the trade is a new one; note what is missing before it."""
        last_id = self._last_id.get(symbol)
        is_new = symbol in self._is_new
        self._is_new.discard(symbol)
        if last_id is not None and trade_id <= last_id and not is_new:
            return False  # told twice; on a new connection the exchange may have begun to count anew
        self._last_id[symbol] = trade_id
        if last_id is not None and trade_id > last_id + 1:
            self._analyses[symbol].trade_gaps += 1
            details = f"{trade_id - last_id - 1} trades are missing"
            self._bus.publish(GapEvent(symbol, self.NAME, last_id, details))
        return True

    def _take(self, symbol: str, trade: MarketTrade) -> None:
        self._heard_ns[symbol] = trade.received_ns
        analysis, bus = self._analyses[symbol], self._bus
        why = analysis.on_trade(trade)
        if bus.wants(TradeEvent):
            bus.publish(TradeEvent(symbol, trade))
        if why and bus.wants(SignificantTradeEvent):
            notional = analysis.notional_quote(trade.notional_units)
            bus.publish(SignificantTradeEvent(symbol, trade, notional, why))
        if symbol in self._is_stale:
            self._is_stale.discard(symbol)
            bus.publish(ConnectionEvent(self.NAME, ConnectionKind.FRESH, symbol=symbol))

    async def _watch(self, symbol: str) -> None:
        while True:
            await asyncio.sleep(self.WATCH_EVERY_S)
            silent_s = (self._clock.monotonic_ns() - self._heard_ns.get(symbol, 0)) / 1e9
            is_known = symbol in self._last_id
            if self.stream.is_up and (silent_s > self.SILENT_AFTER_S or not is_known):
                await self._compare(symbol, silent_s)

    async def _compare(self, symbol: str, silent_s: float) -> None:
        """Ask the exchange for its last trade: ours is the last one, or the stream is silent."""
        asked_ns, known_id = self._clock.monotonic_ns(), self._last_id.get(symbol)
        try:
            newest_id = await newest_trade_id(self._rest, symbol, self.ASK_TIMEOUT_S)
        except ExchangeError as error:
            log.debug("%s: could not compare the trades: %s", symbol, error)
            return
        if self._last_id.get(symbol) != known_id:
            return  # the stream has spoken meanwhile
        if known_id is None:
            self._last_id[symbol] = newest_id  # what comes next has to be newer
            return
        self._heard_ns[symbol] = asked_ns
        if newest_id <= known_id:
            return
        details = f"{newest_id - known_id} trades were not told in {silent_s:.0f} s"
        log.warning("%s: the trade stream is silent: %s", symbol, details)
        self._is_stale.add(symbol)
        self._bus.publish(ConnectionEvent(self.NAME, ConnectionKind.STALE, details, symbol))
        self.stream.drop("silent while the market traded")
