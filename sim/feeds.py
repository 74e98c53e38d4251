"""Which market a simulated exchange gets, by the settings that a user gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sim.directed import DirectedMarket
from sim.market import Market, MarketError
from sim.rules import MAINNET, SymbolRules
from sim.script import read_script
from sim.synthetic import SyntheticMarket

RECORDING = "recording"
SYNTHETIC = "synthetic"
LIVE = "live"
KINDS = (RECORDING, SYNTHETIC, LIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """What is traded and where its prices come from.

    `recording` is the folder of a recording or a raw capture, `speed` how many market seconds pass in one. `seed`
    makes a synthetic market repeatable; `events_per_s` is about how many quotes and trades each of its symbols has in a
    second, None as many as the real one has. With `loop` a recording starts again at its end. `events` is a file with
    what shall happen besides (see `sim.script`). `live_url` is a loopback URL that plays mainnet for a live market.
    """

    kind: str = SYNTHETIC
    symbols: Sequence[str] = ("BTCUSDT",)
    recording: Path | None = None
    speed: Fraction = Fraction(1)
    seed: int = 1
    events_per_s: float | None = None
    loop: bool = True
    events: Path | None = None
    live_url: str = ""


def open_market(settings: FeedSettings, start_ms: int) -> Market:
    """The market that `settings` describe is returned; its first event happens at `start_ms`.

    Raises:
        MarketError: an unknown symbol, or a recording or script that is missing or cannot be read.
    """
    script = () if settings.events is None else read_script(settings.events, settings.symbols)
    market = _plain_market(settings, start_ms)
    return DirectedMarket(market, script, start_ms) if script else market


def _plain_market(settings: FeedSettings, start_ms: int) -> Market:
    rules = {symbol: _known_rules(symbol) for symbol in settings.symbols}
    if not rules:
        raise MarketError(f"There is no symbol to trade: name one of {', '.join(MAINNET)}.")
    if settings.speed <= 0:
        raise MarketError(f"The speed {settings.speed} is not above 0: use 1 for real time.")
    _check_rate(settings)
    if settings.kind == LIVE:
        return _live_market(settings, rules)
    if settings.live_url:
        raise MarketError("A live URL is of use for a live market only: add --market live.")
    if settings.kind == SYNTHETIC:
        return SyntheticMarket(
            rules, start_ms, seed=settings.seed, speed=settings.speed, events_per_s=settings.events_per_s
        )
    if settings.recording is None:
        raise MarketError("A recording needs its folder: add --recording DIR.")
    from sim.recording import RecordedMarket  # only a recording pays for archives and tables

    return RecordedMarket(settings.recording, rules, start_ms, speed=settings.speed, loop=settings.loop)


def _live_market(settings: FeedSettings, rules: Mapping[str, SymbolRules]) -> Market:
    from sim.relay import LIVE_SYMBOLS, LiveMarket  # only a live market pays for a client
    from sim.stream_client import UnknownHost, stream_origin

    if settings.speed != 1 or settings.events is not None:
        raise MarketError("A live market runs at its own speed and takes no events: leave both out.")
    if strange := [symbol for symbol in rules if symbol not in LIVE_SYMBOLS]:
        raise MarketError(f"{strange[0]} has no real perpetual: use one of {', '.join(LIVE_SYMBOLS)}.")
    try:
        origin = stream_origin(settings.live_url)
    except UnknownHost as error:
        raise MarketError(str(error)) from error
    return LiveMarket(rules, origin, settings.seed)


def _check_rate(settings: FeedSettings) -> None:
    if settings.events_per_s is None:
        return
    if settings.kind != SYNTHETIC:
        raise MarketError("Only a synthetic market has its rate chosen: leave the events per second out.")
    if not 0 < settings.events_per_s < math.inf:
        raise MarketError(f"{settings.events_per_s} events per second are not above 0: use 20, say.")


def _known_rules(symbol: str) -> SymbolRules:
    rules = MAINNET.get(symbol)
    if rules is None:
        raise MarketError(f"The simulated exchange does not know {symbol}: use one of {', '.join(MAINNET)}.")
    return rules
