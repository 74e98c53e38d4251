"""Where a demo's market comes from: the embedded exchange, one that is served already, or the real public market."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from demo._start import DemoError
from sim.embedded import embedded_exchange
from sim.feeds import FeedSettings
from sim.market import MarketError
from utils.clock import SystemClock
from utils.venue import LIVE, SPOT, Venue, paper_venue

KEY, SECRET = "paper-key", "paper-secret"  # they open nothing but the simulated exchange
LATENCY_MS = 5.0


def feed_settings(options: argparse.Namespace) -> FeedSettings:
    """Return the market that the command line asks of the embedded exchange."""
    return FeedSettings(
        kind="live" if options.live else options.market or "synthetic",
        symbols=(options.symbol,),
        recording=options.recording,
        speed=options.speed,
        seed=options.seed,
    )


@asynccontextmanager
async def served(feed: FeedSettings, wallet_quote: Decimal = Decimal(5000)) -> AsyncIterator[str]:
    """A simulated exchange runs in this process while the context lasts; its origin is given."""
    try:
        async with embedded_exchange(
            feed,
            SystemClock(),
            api_key=KEY,
            api_secret=SECRET,
            wallet_quote=wallet_quote,
            latency_ms=LATENCY_MS,
        ) as origin:
            yield origin
    except MarketError as error:
        raise DemoError(f"The market cannot be opened: {error}") from error


@asynccontextmanager
async def chosen_venue(options: argparse.Namespace) -> AsyncIterator[Venue]:
    """The venue that the command line names is there while the context lasts; nothing is ever ordered there."""
    if options.live:
        yield SPOT if getattr(options, "spot", False) else LIVE
    elif options.url:
        yield paper_venue(options.url)
    else:
        async with served(feed_settings(options)) as origin:
            yield paper_venue(origin)


def no_data(venue: Venue) -> DemoError:
    """Return what to say when a market stays silent."""
    return DemoError(
        f"Nothing came from {venue.rest_origin}: check the network, or leave --live out for the simulated market."
        if venue.rest_origin.startswith("https")
        else f"Nothing came from {venue.rest_origin}: start `python -m sim`, or leave --url out."
    )


def cpu_note(options: argparse.Namespace) -> str:
    """Return what to say beside the CPU of this process where it serves the exchange, too."""
    return "" if options.live or options.url else " with the embedded exchange, which is in this process"
