"""The real daemon on an embedded exchange, with made-up keys: it can reach no other account."""

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from core.settings import Settings, settings_from
from core.state import SharedState
from core.wiring import Wiring
from demo._source import KEY, SECRET, feed_settings, served
from demo._start import DemoError
from utils.background import in_daemon_thread
from utils.clock import ServerClock, SystemClock
from utils.config_loader import (
    Config,
    LoggingConfig,
    OrderConfig,
    OrderManagementConfig,
    RefreshConfig,
)
from utils.http import AiohttpTransport, BinanceRest, HttpResponse, HttpTransport
from utils.venue import paper_venue
from utils.ws_sockets import socket_transport

FIRST_QUOTE_WITHIN_S = 10.0
QUOTE_USDT = 250
OFFSET_PERCENT = 0.02
"""Nearer to the mid than the shipped setting, as ``patience_bps_s`` 0 follows more moves than it, so that there is
something to be seen within half a minute."""


class CountingHttp:
    """A transport that counts what is sent, by method and path; ``on_request`` is called before each leaves."""

    def __init__(self, inner: HttpTransport, on_request: Callable[[], None]) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self._inner = inner
        self._on_request = on_request

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply; see ``utils.http.HttpTransport``."""
        self.sent[method, path] += 1
        self._on_request()
        return await self._inner.request(method, path, query, headers, timeout_s)

    async def close(self) -> None:
        """Release the connections."""
        await self._inner.close()


def demo_settings(options: argparse.Namespace, folder: Path) -> Settings:
    """Return the settings of a lively desk in ``refresh_mode: amend``, as the command line has it; no file is read."""
    config = Config(
        symbol=options.symbol,
        initial_capital=max(2000, 3 * QUOTE_USDT * options.levels),
        state_directory=str(folder),
        status_interval=3600,
        order_config=OrderConfig(
            levels=options.levels, quantity_per_order_usdt=QUOTE_USDT, price_offset_percent=OFFSET_PERCENT
        ),
        refresh_config=RefreshConfig(refresh_mode="amend"),
        order_management=OrderManagementConfig(reset_interval=options.reset_interval, patience_bps_s=0),
        logging=LoggingConfig(log_to_csv=False, log_directory=str(folder)),
    )
    return settings_from(config)


async def market_has_begun(rest: BinanceRest, symbol: str) -> None:
    """The exchange has a quote on both sides; DemoError if there is none for long."""
    try:
        async with asyncio.timeout(FIRST_QUOTE_WITHIN_S):
            while True:
                quote = await rest.call("GET", "/fapi/v1/ticker/bookTicker", {"symbol": symbol})
                if Decimal(quote["bidPrice"]) and Decimal(quote["askPrice"]):
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise DemoError(
            "No quote came from the market: check the network, or leave --live out for the simulated market."
        ) from None


@asynccontextmanager
async def wired(
    options: argparse.Namespace, settings: Settings, on_request: Callable[[], None]
) -> AsyncIterator[tuple[Wiring, CountingHttp]]:
    """The wiring of a daemon on an embedded exchange of its own is given, with the count of its requests."""
    async with served(feed_settings(options), settings.risk.capital_quote) as origin:
        clock, venue = SystemClock(), paper_venue(origin)
        http = CountingHttp(AiohttpTransport(venue.rest_origin), on_request)
        rest = BinanceRest(
            http,
            clock,
            api_key=KEY,
            api_secret=SECRET,
            timeout_s=settings.safety.request_timeout_s,
            server_clock=ServerClock(clock),
        )
        try:
            yield (
                Wiring(
                    state=SharedState(),
                    rest=rest,
                    wallet=None,
                    streams=socket_transport(venue.stream_origin),
                    clock=clock,
                    rng=random.Random(),
                    run_blocking=in_daemon_thread,
                    account="demo",
                    is_shared=False,
                    has_keys=True,
                    live_confirmed=False,
                ),
                http,
            )
        finally:
            await rest.close()
