"""A recording of a real market, replayed from a given moment at a given speed, in a loop if wanted.

It is a folder of Binance's public files, or a raw capture with the depth of the book (see `sim.raw_capture`).

Each pass of a loop is stitched to the one before: its prices are shifted by whole ticks so that it begins at
the mid price where the last one ended, and its ids go on counting. Spreads, sizes and time gaps are those of
the recording.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from msgspec import structs

from sim.market import BookTicker, DepthChange, Levels, MarketError, MarketEvent, StreamMarket, Trade
from sim.public_files import find_days, read_tape
from sim.raw_capture import find_captures, is_capture, read_captures
from sim.rules import SymbolRules

# Recorded time between the last event of a pass and the first of the next one.
SEAM_MS = 100
# A recording that rises would rise with every pass. Where a pass would lead further away from the first price
# than this part of it, the pass is played upside down.
MAX_DRIFT = Fraction(1, 10)
# A recording that is looped and has no more events than this is kept in memory, where they take some 30 MB.
KEPT_EVENTS = 200_000


class RecordedMarket(StreamMarket):
    """The recording of the symbols in `rules` in `source`, a folder or a capture; it begins at `start_ms`.

    `speed` divides the recorded gaps. With `loop` it never ends.

    Raises:
        MarketError: here or while reading: a file is missing or has a bad line.
    """

    def __init__(
        self,
        source: Path,
        rules: Mapping[str, SymbolRules],
        start_ms: int,
        *,
        speed: Fraction = Fraction(1),
        loop: bool = True,
    ) -> None:
        read = _tape(source, rules)
        self._events_of_a_pass: Callable[[], Iterable[MarketEvent]] = _KeptTape(read).events if loop else read
        self._start_ms = start_ms
        self._slowness = speed.denominator, speed.numerator
        super().__init__(rules, self._play(rules, loop=loop))
        if self.peek_ms() is None:
            raise MarketError(f"The recording in {source} holds no quote: use another one.")

    def _play(self, rules: Mapping[str, SymbolRules], *, loop: bool) -> Iterator[MarketEvent]:
        stitches = {symbol: _Stitch() for symbol in rules}
        start_ms, (numerator, denominator) = self._start_ms, self._slowness
        played_ms = 0
        while True:
            first_ms = last_ms = None
            for event in self._events_of_a_pass():
                stitch = stitches[event.symbol]
                if isinstance(event, Trade) and stitch.first_quote is None:
                    continue  # there is no quote yet that it could have happened at
                last_ms = event.time_ms
                if first_ms is None:
                    first_ms = last_ms
                recorded_ms = played_ms + last_ms - first_ms
                yield stitch.apply(event, start_ms + recorded_ms * numerator // denominator)
            if not loop or first_ms is None or last_ms is None:
                return
            played_ms += last_ms - first_ms + SEAM_MS
            for symbol, stitch in stitches.items():
                if stitch.has_depth:
                    yield stitch.forgotten(symbol, start_ms + played_ms * numerator // denominator)
            stitches = {symbol: stitch.following() for symbol, stitch in stitches.items()}


class _KeptTape:
    """A recording that is read once if it is short, and anew for each pass if it is not."""

    def __init__(self, read: Callable[[], Iterator[MarketEvent]]) -> None:
        self._read = read
        self._kept: list[MarketEvent] | None = None

    def events(self) -> Iterable[MarketEvent]:
        """The recorded events are returned, from the first to the last."""
        return self._read_and_keep() if self._kept is None else self._kept

    def _read_and_keep(self) -> Iterator[MarketEvent]:
        kept: list[MarketEvent] | None = []
        for event in self._read():
            if kept is not None:
                kept.append(event)
                if len(kept) > KEPT_EVENTS:
                    kept = None
            yield event
        self._kept = kept


@dataclass(slots=True)
class _Stitch:
    """How one pass of one symbol is fitted to the one before: `price = offset + sign * recorded price`."""

    sign: int = 1
    offset_ticks: int = 0
    update_id_offset: int = 0
    trade_id_offset: int = 0
    single_id_offset: int = 0
    origin_ticks: int | None = None
    first_quote: BookTicker | None = None
    last_quote: BookTicker | None = None
    first_trade: Trade | None = None
    last_trade: Trade | None = None
    lowest_ticks: int = 0
    highest_ticks: int = 0
    has_depth: bool = False

    def apply(self, event: MarketEvent, time_ms: int) -> MarketEvent:
        """The event as it happens in this pass is returned."""
        if isinstance(event, BookTicker):
            return self._quote(event, time_ms)
        if isinstance(event, Trade):
            return self._trade(event, time_ms)
        if isinstance(event, DepthChange):
            return self._depth(event, time_ms)
        return structs.replace(event, time_ms=time_ms)

    def _quote(self, recorded: BookTicker, time_ms: int) -> BookTicker:
        if self.first_quote is None:
            self.first_quote = recorded
            self.lowest_ticks, self.highest_ticks = recorded.bid_ticks, recorded.ask_ticks
        self.last_quote = recorded
        bid_ticks, ask_ticks = recorded.bid_ticks, recorded.ask_ticks
        if bid_ticks < self.lowest_ticks:
            self.lowest_ticks = bid_ticks
        if ask_ticks > self.highest_ticks:
            self.highest_ticks = ask_ticks
        bid_lots, ask_lots = recorded.bid_lots, recorded.ask_lots
        if self.sign < 0:
            bid_ticks, bid_lots, ask_ticks, ask_lots = -ask_ticks, ask_lots, -bid_ticks, bid_lots
        return BookTicker(
            time_ms,
            recorded.symbol,
            recorded.update_id + self.update_id_offset,
            self.offset_ticks + bid_ticks,
            bid_lots,
            self.offset_ticks + ask_ticks,
            ask_lots,
        )

    def _trade(self, recorded: Trade, time_ms: int) -> Trade:
        self.first_trade = self.first_trade or recorded
        self.last_trade = recorded
        return Trade(
            time_ms,
            recorded.symbol,
            recorded.trade_id + self.trade_id_offset,
            self.offset_ticks + self.sign * recorded.price_ticks,
            recorded.lots,
            recorded.first_id + self.single_id_offset,
            recorded.last_id + self.single_id_offset,
            buyer_is_maker=recorded.buyer_is_maker == (self.sign > 0),
        )

    def _depth(self, recorded: DepthChange, time_ms: int) -> DepthChange:
        self.has_depth = True
        bids, asks = self._levels(recorded.bids), self._levels(recorded.asks)
        if self.sign < 0:
            bids, asks = asks, bids
        update_id = recorded.last_id + self.update_id_offset
        return DepthChange(time_ms, recorded.symbol, update_id, bids, asks, recorded.snapshot)

    def _levels(self, recorded: Levels) -> Levels:
        shifted = ((self.offset_ticks + self.sign * price_ticks, lots) for price_ticks, lots in recorded)
        return tuple((price_ticks, lots) for price_ticks, lots in shifted if price_ticks > 0)

    def forgotten(self, symbol: str, time_ms: int) -> DepthChange:
        """The end of all that is known of the book: the pass has ended in another one than the next begins with."""
        last_id = 0 if self.last_quote is None else self.last_quote.update_id + self.update_id_offset
        return DepthChange(time_ms, symbol, last_id, (), (), snapshot=True)

    def following(self) -> "_Stitch":
        """The stitch of the pass after this one, which has been played to its end."""
        following = _Stitch(
            update_id_offset=self.update_id_offset,
            trade_id_offset=self.trade_id_offset,
            single_id_offset=self.single_id_offset,
        )
        if self.first_trade is not None and self.last_trade is not None:
            following.trade_id_offset += self.last_trade.trade_id - self.first_trade.trade_id + 1
            following.single_id_offset += self.last_trade.last_id - self.first_trade.first_id + 1
        if self.first_quote is not None and self.last_quote is not None:
            following.update_id_offset += self.last_quote.update_id - self.first_quote.update_id + 1
            self._join(following, _twice_mid(self.first_quote), _twice_mid(self.last_quote))
        return following

    def _join(self, following: "_Stitch", first: int, last: int) -> None:
        reached = 2 * self.offset_ticks + self.sign * last
        origin = first if self.origin_ticks is None else self.origin_ticks
        upright_drift = abs(reached + last - first - origin)
        mirrored_drift = abs(reached - last + first - origin)
        following.origin_ticks = origin
        if upright_drift > MAX_DRIFT * origin and mirrored_drift < upright_drift:
            following.sign = -1
        following.offset_ticks = (reached - following.sign * first) // 2
        if self._leaves_the_market(following):
            following.sign, following.offset_ticks = 1, 0

    def _leaves_the_market(self, following: "_Stitch") -> bool:
        """Whether a price would fall to zero; such a wild recording starts again at its own prices instead."""
        extreme = self.lowest_ticks if following.sign > 0 else self.highest_ticks
        return following.offset_ticks + following.sign * extreme <= 0


def _tape(source: Path, rules: Mapping[str, SymbolRules]) -> Callable[[], Iterator[MarketEvent]]:
    if not is_capture(source):
        days = {symbol: find_days(source, symbol) for symbol in rules}
        return lambda: read_tape(days, rules)
    captures = {symbol: find_captures(source, symbol) for symbol in rules}
    return lambda: read_captures(captures, rules)


def _twice_mid(quote: BookTicker) -> int:
    return quote.bid_ticks + quote.ask_ticks
