"""How a command is connected to the exchange of its environment, and the name of the account there."""

import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any, TypeVar

from commands.signals import signals_go_to
from core.runs import unless_stopped
from core.settings import Settings
from core.shutdown import StopRequest
from core.state import SharedState
from core.wiring import Wiring
from utils.background import in_daemon_thread
from utils.clock import ServerClock, SystemClock
from utils.config_loader import Config, resolve_path
from utils.errors import StartRefused
from utils.http import AiohttpTransport, BinanceRest
from utils.machine import THIS_MACHINE
from utils.venue import LIVE, TESTNET, Environment, Venue, paper_venue
from utils.ws_sockets import socket_transport

T = TypeVar("T")

log = logging.getLogger("quant_pmm")

PAPER_KEY = "paper-key"
PAPER_SECRET = "paper-secret"  # noqa: S105 - opens nothing but the simulated exchange
EMBEDDED_ACCOUNT = "paper-embedded"
_OF_AN_ACCOUNT = re.compile(r"[A-Za-z0-9]{64}").fullmatch
"""What Binance's own keys and secrets look like."""


async def until_stopped(
    settings: Settings,
    config: Config,
    work: Callable[[Wiring], Coroutine[Any, Any, T]],
    *,
    live_confirmed: bool,
) -> T | None:
    """Return what ``work`` makes of an exchange, None if a signal has broken it off."""
    stop = StopRequest()
    with signals_go_to(stop.ask):
        async with wired(settings, config, SharedState(), live_confirmed=live_confirmed) as wiring:
            return await unless_stopped(stop, work(wiring))


@asynccontextmanager
async def wired(
    settings: Settings, config: Config, state: SharedState, *, live_confirmed: bool
) -> AsyncIterator[Wiring]:
    """Connect a command to its exchange; the embedded simulated one lives as long as the context."""
    clock = SystemClock()
    async with _venue(settings) as (venue, account):
        embedded = account == EMBEDDED_ACCOUNT
        key, secret = _keys(settings, config, embedded=embedded)
        server_clock = ServerClock(clock)
        clients = [
            BinanceRest(
                AiohttpTransport(origin),
                clock,
                api_key=key,
                api_secret=secret,
                timeout_s=settings.safety.request_timeout_s,
                server_clock=server_clock,
            )
            for origin in (venue.rest_origin, venue.wallet_origin)
            if origin
        ]
        try:
            yield Wiring(
                state=state,
                rest=clients[0],
                wallet=clients[1] if len(clients) > 1 else None,
                streams=socket_transport(venue.stream_origin),
                clock=clock,
                rng=random.Random(),
                run_blocking=in_daemon_thread,
                account=account,
                is_shared=not embedded,
                has_keys=bool(key and secret),
                live_confirmed=live_confirmed,
                machine=THIS_MACHINE,
                order_api=socket_transport(venue.api_origin) if venue.api_origin else None,
            )
        finally:
            for client in clients:
                await client.close()


def _keys(settings: Settings, config: Config, *, embedded: bool) -> tuple[str, str]:
    """Return key and secret for the exchange of the environment.

    A simulated one never gets those of an account: what they sign counts at the real exchange, whoever passes it on.
    """
    key, secret = config.BINANCE_API_KEY, config.BINANCE_SECRET_KEY
    if settings.environment is not Environment.PAPER:
        return key, secret
    if embedded or not key:
        return PAPER_KEY, PAPER_SECRET
    if any(_OF_AN_ACCOUNT(each.reveal()) for each in (key, secret)):
        log.info("the keys that are set look like those of an account: paper trading goes by made-up ones")
        return PAPER_KEY, PAPER_SECRET
    return key, secret


@asynccontextmanager
async def _venue(settings: Settings) -> AsyncIterator[tuple[Venue, str]]:
    """Give the origins of the environment and a name for the account there."""
    if settings.environment is Environment.LIVE:
        yield LIVE, "live"
    elif settings.environment is Environment.TESTNET:
        yield TESTNET, "testnet"
    elif settings.paper_url:
        yield paper_venue(settings.paper_url), paper_account(settings.paper_url)
    else:
        async with _embedded(settings) as origin:
            yield paper_venue(origin), EMBEDDED_ACCOUNT


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[str]:
    """Give the origin of a simulated exchange inside this process, with a new account."""
    from sim.embedded import embedded_exchange  # only paper trading pays for these imports
    from sim.feeds import FeedSettings
    from sim.market import MarketError

    paper = settings.paper
    feed = FeedSettings(
        kind=paper.market,
        symbols=settings.symbols,
        recording=resolve_path(paper.recording) if paper.recording else None,
        speed=Fraction(paper.speed),
        seed=paper.seed,
        loop=True,
    )
    try:
        async with embedded_exchange(
            feed,
            SystemClock(),
            api_key=PAPER_KEY,
            api_secret=PAPER_SECRET,
            wallet_quote=settings.risk.capital_quote,
            latency_ms=paper.latency_ms,
        ) as origin:
            yield origin
    except MarketError as error:
        raise StartRefused(f"paper market: {error}") from error


def paper_account(paper_url: str) -> str:
    """Return a name for the account on the simulated exchange at this address, fit for a file name."""
    return "paper-" + paper_url.removeprefix("http://").rstrip("/").replace(":", "-").strip("[]")


def account_of(settings: Settings) -> str:
    """Return the name of the account that the environment trades on."""
    accounts = {Environment.LIVE: "live", Environment.TESTNET: "testnet"}
    paper = paper_account(settings.paper_url) if settings.paper_url else EMBEDDED_ACCOUNT
    return accounts.get(settings.environment, paper)
