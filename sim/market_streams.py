"""Market streams that speak at intervals: depth, klines, tickers.

Each has a feed, which works while somebody listens and costs nothing otherwise: it has no timer, and the market's
events pass it by. Intervals are counted from the epoch, so that all listeners of one speed hear at the same times.

Source: facts section 6.
"""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from sim.depth import Chain, DiffChain, depth_event
from sim.instrument import Instrument
from sim.klines import INTERVALS, kline_event
from sim.payloads import encode
from sim.streams import Channel, Hub
from sim.venue import Venue

_SPEEDS_MS = {"": 250, "@100ms": 100, "@500ms": 500}
_PARTIAL_LEVELS = (5, 10, 20)
_KLINE_MS = 250

Publish = Callable[[Channel, str, int], None]


class Feed(Protocol):
    """What one stream says. ``start`` is called before the first listener, ``stop`` after the last."""

    def start(self) -> None:
        """Look at the market as it is now."""

    def stop(self) -> None:
        """Look no more."""

    def greet(self) -> None:
        """Speak at the next interval even if nothing will have changed: there is a new listener."""

    def speak(self, now_ms: int) -> list[str]:
        """Return the payloads of this interval."""


class DiffDepth:
    """Changes of the book since the event before; nothing is said while the book shows the same."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._chain = DiffChain(0)

    def start(self) -> None:
        """Begin the chain at the present book."""
        shown = self._instrument.shown
        self._chain = DiffChain(shown.look(self._instrument.quote).update_id)
        shown.chains.append(self._chain)
        shown.diffs.append(self._chain)

    def stop(self) -> None:
        """End the chain."""
        shown = self._instrument.shown
        shown.chains.remove(self._chain)
        shown.diffs.remove(self._chain)

    def greet(self) -> None:
        """Do nothing: a diff tells changes only."""

    def speak(self, now_ms: int) -> list[str]:
        """Return what has changed since the event before, if anything shows."""
        instrument = self._instrument
        image = instrument.shown.look(instrument.quote)
        bids, asks = self._chain.collect()
        if not bids and not asks:
            return []
        ids = self._chain.link(image.update_id)
        return [depth_event(instrument.rules, image, ids, bids, asks, now_ms)]


class PartialDepth:
    """The best levels in full, whenever the book has another id."""

    def __init__(self, instrument: Instrument, levels: int) -> None:
        self._instrument = instrument
        self._levels = levels
        self._chain = Chain(0)
        self._greets = False

    def start(self) -> None:
        """Begin the chain at the present book."""
        shown = self._instrument.shown
        self._chain = Chain(shown.look(self._instrument.quote).update_id)
        shown.chains.append(self._chain)

    def stop(self) -> None:
        """End the chain."""
        self._instrument.shown.chains.remove(self._chain)

    def greet(self) -> None:
        """Tell the levels once more."""
        self._greets = True

    def speak(self, now_ms: int) -> list[str]:
        """Return the best levels if they are news."""
        instrument, limit = self._instrument, self._levels
        image = instrument.shown.look(instrument.quote)
        if instrument.quote is None or (image.update_id == self._chain.last_id and not self._greets):
            return []
        self._greets = False
        ids = self._chain.link(image.update_id)
        bids, asks = islice(image.bids.items(), limit), islice(image.asks.items(), limit)
        return [depth_event(instrument.rules, image, ids, bids, asks, now_ms)]


class Klines:
    """The open candle whenever it has changed, and each candle once more when it has ended."""

    def __init__(self, instrument: Instrument, interval: str) -> None:
        self._instrument = instrument
        self._interval = interval
        self._open_ms: int | None = None
        self._trades = 0

    def start(self) -> None:
        """Begin with the open candle."""
        self._open_ms = None

    def stop(self) -> None:
        """Nothing is kept of the listeners."""

    def greet(self) -> None:
        """Tell the open candle once more."""
        self._trades = -1

    def speak(self, now_ms: int) -> list[str]:
        """Return the candles that have ended since, and the open one if it has traded."""
        instrument, interval = self._instrument, self._interval
        candles = instrument.candles
        candles.roll(now_ms)
        current = candles.current(interval)
        if current is None:
            return []
        ended = []
        for candle in candles.closed(interval):
            if self._open_ms is None or candle.open_ms < self._open_ms:
                break
            ended.append(kline_event(candle, interval, instrument.rules, now_ms, closed=True))
        told = ended[::-1]
        if ended:
            self._trades = 0
        if current.trades != self._trades:
            told.append(kline_event(current, interval, instrument.rules, now_ms, closed=False))
        self._open_ms, self._trades = current.open_ms, current.trades
        return [encode(event) for event in told]


class MarketStreams:
    """All feeds of the exchange; ``due_ms`` says when the next one speaks, None while nobody listens.

    ``wake`` is called when that has become earlier. ``time_ms`` tells the exchange's time.
    """

    def __init__(self, venue: Venue, time_ms: Callable[[], int], wake: Callable[[], None]) -> None:
        self._hub = venue.hub
        self._time_ms = time_ms
        self._wake = wake
        self._active: dict[_Pulse, None] = {}
        for instrument in venue.instruments.values():
            self._offer(instrument)

    @property
    def due_ms(self) -> int | None:
        """Return when the next feed speaks."""
        return min((pulse.due_ms for pulse in self._active), default=None)

    def run(self, now_ms: int) -> None:
        """Let the feeds speak that are due at ``now_ms``."""
        for pulse in list(self._active):
            if pulse.due_ms <= now_ms:
                pulse.beat(now_ms)

    def add(self, stream: str, period_ms: int, feed: Feed) -> None:
        """Offer a stream."""
        channel = self._hub.channel(stream)
        channel.watcher = _Pulse(self, self._hub, channel, period_ms, feed)

    def activate(self, pulse: "_Pulse") -> None:
        """Let the stream have its turns from now on."""
        pulse.aim(self._time_ms())
        self._active[pulse] = None
        self._wake()

    def rest(self, pulse: "_Pulse") -> None:
        """Let the stream have no more turns."""
        del self._active[pulse]

    def _offer(self, instrument: Instrument) -> None:
        name = instrument.symbol.lower()
        for speed, period_ms in _SPEEDS_MS.items():
            self.add(f"{name}@depth{speed}", period_ms, DiffDepth(instrument))
            for levels in _PARTIAL_LEVELS:
                self.add(f"{name}@depth{levels}{speed}", period_ms, PartialDepth(instrument, levels))
        for interval in INTERVALS:
            self.add(f"{name}@kline_{interval}", _KLINE_MS, Klines(instrument, interval))


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
