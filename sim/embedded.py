"""The simulated exchange inside another program's event loop, on a loopback port of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from decimal import Decimal

from sim.clockwork import drive
from sim.exchange import Exchange
from sim.feeds import LIVE, FeedSettings, open_market
from sim.market import Market
from sim.server import start_server
from utils.clock import Clock

log = logging.getLogger(__name__)


@asynccontextmanager
async def embedded_exchange(
    feed: FeedSettings,
    clock: Clock,
    *,
    api_key: str,
    api_secret: str,
    wallet_quote: Decimal,
    latency_ms: float,
) -> AsyncIterator[str]:
    """An exchange runs on 127.0.0.1 while the context lasts; its origin is given.

    Raises MarketError where the market cannot be opened.
    """
    market = open_market(feed, clock.time_ms())
    exchange = Exchange(
        market,
        api_key=api_key,
        api_secret=api_secret,
        now_ms=clock.time_ms(),
        wallet_quote=wallet_quote,
    )
    server = await start_server(exchange, clock, "127.0.0.1", 0, latency_ms)
    driving = asyncio.ensure_future(drive(exchange, clock))
    driving.add_done_callback(_tell_failure)
    try:
        async with _fed(feed, market, clock):
            yield server.url
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await server.close()


def _fed(feed: FeedSettings, market: Market, clock: Clock) -> AbstractAsyncContextManager[None]:
    """A context is returned while which the market gets its events."""
    if feed.kind != LIVE:
        return nullcontext()
    from sim.relay import relayed  # only a live market pays for a client

    return relayed(market, clock)


def _tell_failure(driving: "asyncio.Future[None]") -> None:
    if not driving.cancelled() and (error := driving.exception()) is not None:
        log.error("the simulated market has stopped: %s", error)
