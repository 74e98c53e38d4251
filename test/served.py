"""A simulated exchange on a loopback socket, for foreign clients; its market is what a test writes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from sim.clockwork import drive
from sim.exchange import ApiKey, Exchange
from sim.market import BookTicker, MarketEvent, Trade
from sim.rules import MAINNET
from sim.server import RunningServer, start_server
from utils.clock import SystemClock

from .sim_factory import KEY, SECRET, ScriptedMarket

SYMBOL = "BTCUSDT"


class Shifted:
    """The system's clock, ahead by `ahead_ms`."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self._clock = SystemClock()
        self._ahead_ms = ahead_ms

    def time_ms(self) -> int:
        """Return the wall time."""
        return self._clock.time_ms() + self._ahead_ms

    def monotonic_ns(self) -> int:
        """Return the time since some moment."""
        return self._clock.monotonic_ns()


CLOCK = Shifted()


class Served:
    """The exchange at `url`, in BTCUSDT at 50000.00 / 50000.10 with ten coins shown on each side."""

    def __init__(
        self, exchange: Exchange, market: ScriptedMarket, server: RunningServer, clock: Shifted
    ) -> None:
        self.exchange = exchange
        self.url = server.url
        self.ws_url = server.url.replace("http", "ws", 1)
        self._market = market
        self._clock = clock
        self._rules = market.rules[SYMBOL]
        self._updates = 0
        self.quote("50000.00", "50000.10")

    def quote(self, bid: str, ask: str, bid_qty: str = "10", ask_qty: str = "10") -> None:
        """Let the best bid and ask become these now."""
        prices = [self._rules.price_ticks(Decimal(price)) for price in (bid, ask)]
        sizes = [self._rules.lots(Decimal(qty)) for qty in (bid_qty, ask_qty)]
        self._happen(
            BookTicker(self._next_ms(), SYMBOL, self._updates, prices[0], sizes[0], prices[1], sizes[1])
        )

    def trade(self, price: str, qty: str, *, sold: bool = True) -> None:
        """Let the market trade now; `sold` says that the taker sold."""
        ticks, lots = self._rules.price_ticks(Decimal(price)), self._rules.lots(Decimal(qty))
        at_ms = self._next_ms()
        self._happen(Trade(at_ms, SYMBOL, self._updates, ticks, lots, self._updates, self._updates, sold))

    def _next_ms(self) -> int:
        self._updates += 1
        return self._clock.time_ms()

    def _happen(self, event: MarketEvent) -> None:
        self._market.events.append(event)
        self.exchange.advance(event.time_ms)


@asynccontextmanager
async def served(*keys: ApiKey, wallet: str = "100000", clock: Shifted = CLOCK) -> AsyncIterator[Served]:
    """An exchange is served, and its time passes; `keys` are keys of its account beside `KEY` and `SECRET`."""
    now_ms = clock.time_ms()
    market = ScriptedMarket({SYMBOL: MAINNET[SYMBOL]})
    exchange = Exchange(
        market, api_key=KEY, api_secret=SECRET, now_ms=now_ms, wallet_quote=Decimal(wallet), keys=keys
    )
    server = await start_server(exchange, clock)
    driving = asyncio.ensure_future(drive(exchange, clock))
    try:
        yield Served(exchange, market, server, clock)
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await server.close()


async def repeated(act: Callable[[], None], waiting: "asyncio.Future[Any]") -> Any:
    """Return what `waiting` brings, while `act` happens every 50 ms, five seconds at most."""
    async with asyncio.timeout(5):
        while not waiting.done():
            act()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    return waiting.result()
