"""The market by asking for it again and again, through ccxt."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import ccxt.async_support as ccxt  # type: ignore[import-untyped]

from demo._desk import time_text
from demo._measure import Measure, Samples
from demo._source import no_data
from demo._start import DemoError
from utils.clock import Clock, ServerClock
from utils.venue import Environment, Venue

TICKER, BOOK, TRADES = "ticker", "book", "trades"
KINDS = (TICKER, BOOK, TRADES)
LEVELS = 5
MOST_TRADES = 1000
CLOCK_SAMPLES = 3
USED_WEIGHT = "x-mbx-used-weight-1m"

Json = dict[str, Any]


@asynccontextmanager
async def client_at(venue: Venue) -> AsyncIterator[Any]:
    """Give ccxt's client of the perpetuals, which has no keys; what it raises leaves the context as one sentence."""
    client = _new_client(venue)
    try:
        yield client
    except ccxt.NetworkError as error:
        raise no_data(venue) from error
    except ccxt.ExchangeError as error:
        raise DemoError(f"The exchange refused: {str(error)[:200]}") from error
    finally:
        await client.close()


def _new_client(venue: Venue) -> Any:
    """Return a client of which only the URLs change for a simulated exchange."""
    client = ccxt.binanceusdm({"options": {"fetchCurrencies": False}})
    if venue.environment is Environment.PAPER:
        api = client.urls["api"]
        for name, address in list(api.items()):
            if name != "ws":
                api[name] = f"{venue.rest_origin}/{'/'.join(address.split('/')[3:])}"
    return client


@dataclass(slots=True)
class Endpoint:
    """What one kind of request has cost: round trips, waits for ccxt's limiter, and weight as the exchange counts."""

    round_trips_ms: Samples
    waits_ms: Samples
    weight: int = 0


class Poller:
    """Asks for ticker, order book and trades in turn, and measures how old the answers are."""

    def __init__(
        self, client: Any, symbol: str, clock: Clock, kinds: tuple[str, ...], cpu_s: Callable[[], float]
    ) -> None:
        self.weight_limit = 0
        self.used_weight = 0
        self.errors: Counter[str] = Counter()
        self.news: deque[str] = deque(maxlen=400)
        self.prices: deque[str] = deque(maxlen=12)
        self.endpoints = {kind: Endpoint(Samples(), Samples()) for kind in kinds}
        self.ticker: Json = {}
        self.book: Json = {}
        self.missed_trades = 0
        self.server_clock = ServerClock(clock)
        self.measure = Measure(clock.monotonic_ns(), cpu_s())
        self._client = client
        self._id = symbol
        self._market = ""
        self._clock = clock
        self._cpu_s = cpu_s
        self._last_trade_id = 0
        self._waited_ns = 0
        self._throttle: Callable[..., Awaitable[None]] = client.throttle
        client.throttle = self._timed_throttle

    async def prepare(self) -> None:
        """The markets are known, the exchange's clock and its limit, too; from now on it is measured."""
        await self._client.load_markets()
        self._market = self._client.safe_market(self._id)["symbol"]
        info = await self._client.fapiPublicGetExchangeInfo()
        for limit in info["rateLimits"]:
            if limit["rateLimitType"] == "REQUEST_WEIGHT":
                self.weight_limit = int(limit["limit"])
        for _ in range(CLOCK_SAMPLES):
            self._waited_ns = 0
            sent_ms = self._clock.time_ms()
            server_ms = await self._client.fetch_time()
            sent_ms += self._waited_ns // 1_000_000
            self.server_clock.learn(
                sent_ms=sent_ms, received_ms=self._clock.time_ms(), server_ms=int(server_ms)
            )
        self._newly_used()
        self.measure = Measure(self._clock.monotonic_ns(), self._cpu_s())

    async def run(self, interval_s: float) -> None:
        """Ask, one round at each interval or as fast as the limiter lets it, until cancelled."""
        asks = {TICKER: self._ask_ticker, BOOK: self._ask_book, TRADES: self._ask_trades}
        while True:
            began_ns = self._clock.monotonic_ns()
            for kind in self.endpoints:
                try:
                    await self._timed(kind, asks[kind])
                except ccxt.NetworkError as error:  # also a limit that was reached
                    self._failed(error)
            passed_s = (self._clock.monotonic_ns() - began_ns) / 1e9
            await asyncio.sleep(max(interval_s - passed_s, 0.0))

    def _failed(self, error: Exception) -> None:
        name = type(error).__name__
        if not self.errors[name]:
            self.news.append(f"{time_text(self._clock.time_ms())}  {name}: {str(error)[:160]}")
        self.errors[name] += 1

    async def _timed_throttle(self, cost: Any = None) -> None:
        began_ns = self._clock.monotonic_ns()
        await self._throttle(cost)
        self._waited_ns += self._clock.monotonic_ns() - began_ns

    async def _timed(self, kind: str, ask: Callable[[], Awaitable[str]]) -> None:
        endpoint, began_ns, self._waited_ns = self.endpoints[kind], self._clock.monotonic_ns(), 0
        self.measure.requests += 1
        told = await ask()
        took_ns = self._clock.monotonic_ns() - began_ns
        endpoint.waits_ms.add(self._waited_ns / 1e6)
        endpoint.round_trips_ms.add((took_ns - self._waited_ns) / 1e6)
        endpoint.weight = self._newly_used() or endpoint.weight
        self.measure.messages += 1
        text = f"{time_text(self._clock.time_ms())}  {kind:<6}  {told}"
        self.news.append(text)
        self.prices.append(text)

    def _newly_used(self) -> int:
        """Return what the exchange has counted since the reply before; 0 when it has begun a new minute since."""
        headers = {name.lower(): value for name, value in (self._client.last_response_headers or {}).items()}
        text, before = headers.get(USED_WEIGHT, ""), self.used_weight
        if text.isdigit():
            self.used_weight = int(text)
        return max(self.used_weight - before, 0)

    async def _ask_ticker(self) -> str:
        self.ticker = await self._client.fetch_ticker(self._market)
        last, change = self.ticker["last"], self.ticker["percentage"]
        return f"last {last}, {change:+.3f} % in 24 h" if last is not None else "nobody has traded yet"

    async def _ask_book(self) -> str:
        self.book = await self._client.fetch_order_book(self._market, LEVELS)
        now_ms = self.server_clock.time_ms()
        self.measure.quote(int(self.book["timestamp"]), now_ms)
        (bid, bid_size), (ask, ask_size) = self.book["bids"][0][:2], self.book["asks"][0][:2]
        return f"{bid_size} @ {bid}  |  {ask_size} @ {ask}  {now_ms - self.book['timestamp']} ms old"

    async def _ask_trades(self) -> str:
        params = {"fromId": self._last_trade_id + 1} if self._last_trade_id else {}
        limit = MOST_TRADES if self._last_trade_id else 1
        trades = await self._client.fetch_trades(self._market, None, limit, params)
        now_ms = self.server_clock.time_ms()
        is_first = not self._last_trade_id
        for trade in trades:
            number = int(trade["id"])
            if self._last_trade_id and number > self._last_trade_id + 1:
                self.missed_trades += number - self._last_trade_id - 1
            self._last_trade_id = max(number, self._last_trade_id)
            if not is_first:  # the first was made before anybody asked
                self.measure.trade(int(trade["timestamp"]), now_ms)
        if not trades:
            return "no new ones"
        last = trades[-1]
        return f"{len(trades)} new, last {last['side']} {last['amount']} @ {last['price']}"
