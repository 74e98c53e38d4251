"""A market to which a script happens (see `sim.script`), whatever market it is."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from sim.market import (
    BookTicker,
    DepthChange,
    FundingTerms,
    Levels,
    Market,
    MarketEvent,
    StreamMarket,
    Trade,
)
from sim.rules import SymbolRules
from sim.script import Drought, FundingSpike, Halt, Happening, Move

# In a drought the first part of each such stretch is heard, and nothing of the rest.
_DROUGHT_SLICE_MS = 1000
# One in so many: hundredths of a basis point, times a thousandth of a move.
_WHOLE = 10_000 * 100 * 1000


class DirectedMarket(StreamMarket):
    """The events of `market` as they are under `script`, whose times count from `start_ms`.

    Raises:
        MarketError: here or while reading: what `market` raises.
    """

    def __init__(self, market: Market, script: Sequence[Happening], start_ms: int) -> None:
        self._market = market
        self._directors = {
            symbol: _Director(rules, script, start_ms) for symbol, rules in market.rules.items()
        }
        super().__init__(market.rules, self._play(_funding(script, market.rules, start_ms)))

    def _play(self, funding: Sequence[FundingTerms]) -> Iterator[MarketEvent]:
        due = list(funding)
        peek, take, directors = self._market.peek_ms, self._market.take, self._directors
        while (next_ms := peek()) is not None:
            while due and due[0].time_ms <= next_ms:
                yield due.pop(0)
            event = take()
            yield from directors[event.symbol].play(event)
        yield from due


class _Director:
    """What the script makes of one symbol's events."""

    def __init__(self, rules: SymbolRules, script: Sequence[Happening], start_ms: int) -> None:
        self._symbol = rules.symbol
        self._start_ms = start_ms
        own = [each for each in script if each.symbol in (None, rules.symbol)]
        moves = sorted((each for each in own if isinstance(each, Move)), key=lambda each: each.at_ms)
        self._coming = deque(_Moving(each) for each in moves)
        self._moving: list[_Moving] = []
        self._moved_ticks = 0
        self._droughts = sorted(
            (each for each in own if isinstance(each, Drought)), key=lambda each: each.at_ms
        )
        self._halts = sorted((each for each in own if isinstance(each, Halt)), key=lambda each: each.at_ms)
        self._shift_ticks = 0
        self._shown: BookTicker | None = None
        self._quote_missed = False
        self._calm_until_ms: float = 0
        """Until then the script does nothing that it has not done yet."""
        self._has_depth = False
        self._prints = 0
        self._last_trade_id = 0
        self._last_single_id = 0

    def play(self, event: MarketEvent) -> Sequence[MarketEvent]:
        """The event as it happens, or nothing; a move prints what it takes."""
        past_ms = event.time_ms - self._start_ms
        if isinstance(event, BookTicker):
            if past_ms < self._calm_until_ms and event.bid_ticks + self._shift_ticks > 0:
                return self._calm_quote(event)
            return self._quote(event, past_ms)
        if isinstance(event, Trade):
            return self._trade(event, past_ms)
        if isinstance(event, DepthChange):
            return self._depth(event, past_ms)
        return (event,)

    def _quote(self, event: BookTicker, past_ms: int) -> Sequence[MarketEvent]:
        factor = self._factor(past_ms)
        if self._is_halted(past_ms, prints=False) or _is_unheard(past_ms, factor):
            self._quote_missed = True
            return ()
        self._quote_missed = False
        was_ticks, self._shift_ticks = self._shift_ticks, self._shift(event, past_ms)
        shift_ticks, before = self._shift_ticks, self._shown
        self._calm_until_ms = self._begins_ms(past_ms)
        self._shown = shown = BookTicker(
            event.time_ms,
            event.symbol,
            event.update_id,
            event.bid_ticks + shift_ticks,
            event.bid_lots if factor == 1 else _smaller(event.bid_lots, factor),
            event.ask_ticks + shift_ticks,
            event.ask_lots if factor == 1 else _smaller(event.ask_lots, factor),
        )
        if before is None or was_ticks == shift_ticks:
            return (shown,)
        swept = self._sweep(before, event.time_ms, falls=shift_ticks < was_ticks)
        if self._has_depth:
            return (swept, self._forgotten(event.time_ms, before), shown)
        return (swept, shown)

    def _calm_quote(self, event: BookTicker) -> Sequence[MarketEvent]:
        """The quote while nothing happens to it but what moves have left behind."""
        shift_ticks = self._shift_ticks
        if shift_ticks:
            event = structs.replace(
                event, bid_ticks=event.bid_ticks + shift_ticks, ask_ticks=event.ask_ticks + shift_ticks
            )
        self._shown = event
        return (event,)

    def _begins_ms(self, past_ms: int) -> float:
        """When the script does the next thing; 0 while it does something."""
        if self._moving or self._shift_ticks != self._moved_ticks:
            return 0
        begins_ms = [move.at_ms for move in self._coming]
        spells: tuple[Drought | Halt, ...] = (*self._droughts, *self._halts)
        for each in spells:
            if each.at_ms > past_ms:
                begins_ms.append(each.at_ms)
            elif past_ms < each.end_ms:
                return 0
        return min(begins_ms, default=math.inf)

    def _shift(self, event: BookTicker, past_ms: int) -> int:
        """How far all moves together have taken the price, in ticks; what is over stays as it was in the end."""
        coming, moving = self._coming, self._moving
        while coming and coming[0].at_ms <= past_ms:
            moving.append(coming.popleft())
        shift_ticks = self._moved_ticks
        if moving:
            mid_ticks = (event.bid_ticks + event.ask_ticks) // 2 + self._shift_ticks
            for move in tuple(moving):
                ticks = move.ticks(mid_ticks, past_ms)
                shift_ticks += ticks
                if past_ms >= move.end_ms:
                    self._moved_ticks += ticks
                    moving.remove(move)
        return max(shift_ticks, 1 - event.bid_ticks)

    def _sweep(self, shown: BookTicker, time_ms: int, *, falls: bool) -> Trade:
        """The touch that is in the way of a move has been taken."""
        self._prints += 1
        ticks, lots = (shown.bid_ticks, shown.bid_lots) if falls else (shown.ask_ticks, shown.ask_lots)
        trade_id, single_id = self._last_trade_id + self._prints, self._last_single_id + self._prints
        return Trade(time_ms, shown.symbol, trade_id, ticks, lots, single_id, single_id, buyer_is_maker=falls)

    def _trade(self, event: Trade, past_ms: int) -> Sequence[MarketEvent]:
        self._last_trade_id, self._last_single_id = event.trade_id, event.last_id
        factor = self._factor(past_ms)
        if self._quote_missed or self._is_halted(past_ms, prints=True) or _is_unheard(past_ms, factor):
            return ()
        played = structs.replace(
            event,
            trade_id=event.trade_id + self._prints,
            price_ticks=event.price_ticks + self._shift_ticks,
            lots=_smaller(event.lots, factor),
            first_id=event.first_id + self._prints,
            last_id=event.last_id + self._prints,
        )
        return (played,)

    def _depth(self, event: DepthChange, past_ms: int) -> Sequence[MarketEvent]:
        factor = self._factor(past_ms)
        if self._is_halted(past_ms, prints=False) or _is_unheard(past_ms, factor):
            return (self._forgotten(event.time_ms, self._shown),) if self._has_depth else ()
        self._has_depth = True
        bids, asks = (self._levels(each, factor) for each in (event.bids, event.asks))
        return (structs.replace(event, bids=bids, asks=asks),)

    def _forgotten(self, time_ms: int, shown: BookTicker | None) -> DepthChange:
        """The levels known so far, up to what was shown last, are no longer what they were."""
        self._has_depth = False
        last_id = 0 if shown is None else shown.update_id
        return DepthChange(time_ms, self._symbol, last_id, (), (), snapshot=True)

    def _levels(self, levels: Levels, factor: int) -> Levels:
        return tuple(
            (price_ticks + self._shift_ticks, _smaller(lots, factor) if lots else 0)
            for price_ticks, lots in levels
            if price_ticks + self._shift_ticks > 0
        )

    def _is_halted(self, past_ms: int, *, prints: bool) -> bool:
        for each in self._halts:
            if past_ms < each.at_ms:
                return False  # the others begin later still
            if past_ms < each.end_ms and (prints or not each.prints_only):
                return True
        return False

    def _factor(self, past_ms: int) -> int:
        """How many times rarer and smaller everything is by the worst of the droughts."""
        factor = 1
        for each in self._droughts:
            if past_ms < each.at_ms:
                break  # the others begin later still
            if past_ms < each.end_ms and each.factor > factor:
                factor = each.factor
        return factor


class _Moving:
    """A move, and the mid in ticks from which it began."""

    def __init__(self, move: Move) -> None:
        self._move = move
        self._from_ticks: int | None = None
        self.at_ms = move.at_ms
        self.end_ms = move.at_ms + move.fall_ms + move.stay_ms + move.recover_ms
        """From then on the part that is in force stays the same."""

    def ticks(self, mid_ticks: int, past_ms: int) -> int:
        """The part of the move that is in force, in ticks, once it has begun."""
        permille = self._move.permille(past_ms)
        if self._from_ticks is None:
            self._from_ticks = mid_ticks
        return self._from_ticks * self._move.hundredths_bps * permille // _WHOLE


def _is_unheard(past_ms: int, factor: int) -> bool:
    """Tell whether an event falls into the part of each slice of a drought in which nothing is heard."""
    return factor > 1 and past_ms % _DROUGHT_SLICE_MS >= max(1, _DROUGHT_SLICE_MS // factor)


def _smaller(lots: int, factor: int) -> int:
    return lots if factor == 1 else max(1, lots // factor)


def _funding(
    script: Sequence[Happening], rules: Mapping[str, SymbolRules], start_ms: int
) -> list[FundingTerms]:
    terms: list[FundingTerms] = []
    for spike in script:
        if not isinstance(spike, FundingSpike):
            continue
        due_ms = None if spike.due_ms is None else start_ms + spike.due_ms
        for symbol in rules if spike.symbol is None else (spike.symbol,):
            terms.append(FundingTerms(start_ms + spike.at_ms, symbol, spike.rate, due_ms))
            if spike.end_ms is not None:
                terms.append(FundingTerms(start_ms + spike.end_ms, symbol, None))
    return sorted(terms, key=lambda each: each.time_ms)
