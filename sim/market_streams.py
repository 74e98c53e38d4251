"""Market streams that speak at intervals, and when their turns are.

Each has a feed, which works while somebody listens and costs nothing otherwise: it has no timer, and the market's
events pass it by. Intervals are counted from the epoch, so that all listeners of one speed hear at the same times.

Source: facts section 6.
"""

from collections.abc import Callable
from typing import Protocol

from sim.depth_streams import DiffDepth, PartialDepth
from sim.instrument import Instrument
from sim.klines import INTERVALS
from sim.print_stream import PrintStream
from sim.streams import Channel, Hub
from sim.ticker_streams import (
    DayTicker,
    Feed,
    Klines,
    Liquidations,
    Mark,
    Quote,
    Status,
    Together,
    day_event,
    mini_day_event,
)
from sim.venue import Venue

_DEPTH_MS = {"": 250, "@100ms": 100, "@500ms": 500}
_PARTIAL_LEVELS = (5, 10, 20)
_KLINE_MS = 250
_MARK_MS = {"": 3000, "@1s": 1000}
_SECOND_MS = 1000
_TICKER_MS = 2000
_ALL_BOOKS_MS = 5000


class _Timed(Protocol):
    """Whatever speaks at a time of its own."""

    @property
    def due_ms(self) -> int:
        """Return when it speaks next."""

    def beat(self, now_ms: int) -> None:
        """Let it speak."""


class MarketStreams:
    """All feeds of the exchange; ``due_ms`` says when the next one speaks, None while nobody listens.

    ``wake`` is called when that has become earlier. ``time_ms`` tells the exchange's time.
    """

    def __init__(self, venue: Venue, time_ms: Callable[[], int], wake: Callable[[], None]) -> None:
        self._hub = venue.hub
        self._time_ms = time_ms
        self._wake = wake
        self._active: dict[_Timed, None] = {}
        self.prints: dict[str, PrintStream] = {}
        instruments = list(venue.instruments.values())
        for instrument in instruments:
            self._offer(venue, instrument)
            prints = PrintStream(venue.hub, instrument, self._expect, self.rest)
            instrument.trade_channel.watcher = self.prints[instrument.symbol] = prints
        self._offer_all(venue, instruments)

    @property
    def due_ms(self) -> int | None:
        """Return when the next feed speaks."""
        return min((pulse.due_ms for pulse in self._active), default=None)

    def run(self, now_ms: int) -> None:
        """Let the feeds speak that are due at ``now_ms``."""
        for pulse in list(self._active):
            if pulse.due_ms <= now_ms:
                pulse.beat(now_ms)

    def _add(self, stream: str, period_ms: int, feed: Feed) -> None:
        """Offer a stream."""
        channel = self._hub.channel(stream)
        channel.watcher = _Pulse(self, self._hub, channel, period_ms, feed)

    def activate(self, pulse: "_Pulse") -> None:
        """Let the stream have its turns from now on."""
        pulse.aim(self._time_ms())
        self._expect(pulse)

    def _expect(self, stream: _Timed) -> None:
        self._active[stream] = None
        self._wake()

    def rest(self, stream: _Timed) -> None:
        """Let the stream have no more turns."""
        del self._active[stream]

    def _offer(self, venue: Venue, instrument: Instrument) -> None:
        name = f"{instrument.symbol.lower()}@"
        for speed, period_ms in _DEPTH_MS.items():
            self._add(f"{name}depth{speed}", period_ms, DiffDepth(instrument))
            for levels in _PARTIAL_LEVELS:
                self._add(f"{name}depth{levels}{speed}", period_ms, PartialDepth(instrument, levels))
        self._add(f"{name}rpiDepth@500ms", 500, DiffDepth(instrument))  # there are no RPI orders to add to it
        pair = f"{instrument.symbol.lower()}_perpetual@continuousKline_"
        for interval in INTERVALS:
            self._add(f"{name}kline_{interval}", _KLINE_MS, Klines(instrument, interval))
            self._add(f"{pair}{interval}", _KLINE_MS, Klines(instrument, interval, continuous=True))
        for speed, period_ms in _MARK_MS.items():
            self._add(f"{name}markPrice{speed}", period_ms, Mark(instrument))
        self._add(f"{name}ticker", _TICKER_MS, DayTicker(instrument, day_event))
        self._add(f"{name}miniTicker", _TICKER_MS, DayTicker(instrument, mini_day_event))
        self._add(f"{name}forceOrder", _SECOND_MS, Liquidations(instrument, venue.ledger))

    def _offer_all(self, venue: Venue, instruments: list[Instrument]) -> None:
        for speed, period_ms in _MARK_MS.items():
            marks = Together([Mark(each) for each in instruments], array=True)
            self._add(f"!markPrice@arr{speed}", period_ms, marks)
        for name, form in (("ticker", day_event), ("miniTicker", mini_day_event)):
            tickers = Together([DayTicker(each, form) for each in instruments], array=True)
            self._add(f"!{name}@arr", _SECOND_MS, tickers)
        liquidations = [Liquidations(each, venue.ledger) for each in instruments]
        self._add("!forceOrder@arr", _SECOND_MS, Together(liquidations, array=False))
        self._add("!contractInfo", _SECOND_MS, Together([Status(each) for each in instruments], array=False))
        self._add("!bookTicker", _ALL_BOOKS_MS, Together([Quote(each) for each in instruments], array=False))


class _Pulse:
    """Gives one feed its turns while its channel has listeners."""

    __slots__ = ("_channel", "_feed", "_hub", "_period_ms", "_streams", "due_ms")

    def __init__(
        self, streams: MarketStreams, hub: Hub, channel: Channel, period_ms: int, feed: Feed
    ) -> None:
        self._streams = streams
        self._hub = hub
        self._channel = channel
        self._period_ms = period_ms
        self._feed = feed
        self.due_ms = 0

    def joined(self) -> None:
        """Take note of a new listener."""
        if len(self._channel.sessions) == 1:
            self._feed.start()
            self._streams.activate(self)
        self._feed.greet()

    def left(self) -> None:
        """Take note that a listener has gone."""
        if not self._channel.sessions:
            self._feed.stop()
            self._streams.rest(self)

    def aim(self, now_ms: int) -> None:
        """Be due at the next multiple of the period."""
        self.due_ms = now_ms - now_ms % self._period_ms + self._period_ms

    def beat(self, now_ms: int) -> None:
        """Let the feed speak."""
        for payload in self._feed.speak(now_ms):
            self._hub.publish(self._channel, payload, now_ms)
        self.aim(now_ms)
