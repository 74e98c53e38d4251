"""Our own copy of the exchange's book, made of a snapshot and the changes since, and proven at every step. Pure.

Source: binance-futures, "How to manage a local order book correctly".
"""

from bisect import bisect_left, insort
from collections import deque
from enum import Enum

from core.market_model import DepthDiff, DepthSnapshot, DepthView, Levels


class Step(Enum):
    """What an event has done to the book."""

    APPLIED = "applied"
    OLD = "old"
    """It tells nothing new."""
    WAITING = "waiting"
    """It is kept until there is a snapshot that it goes with."""
    GAP = "gap"
    """Something before it is missing; the book is of no use until there is a new snapshot."""
    CROSSED = "crossed"
    """The best bid would be at or above the best ask; the book is of no use until there is a new snapshot."""


class _BookSide:
    """The levels of one side: prices with their lots, and the prices in order, the best last."""

    __slots__ = ("_scores", "_sign", "lots")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._scores: list[int] = []
        self.lots: dict[int, int] = {}

    def load(self, levels: Levels) -> None:
        """The side holds exactly these levels."""
        self.lots = {price: lots for price, lots in levels if lots > 0}
        self._scores = sorted(self._sign * price for price in self.lots)

    def apply(self, levels: Levels) -> None:
        """Each of these levels has these lots; with 0 it is gone."""
        for price, lots in levels:
            if lots:
                if price not in self.lots:
                    insort(self._scores, self._sign * price)
                self.lots[price] = lots
            elif self.lots.pop(price, None) is not None:
                del self._scores[bisect_left(self._scores, self._sign * price)]

    def forget_beyond(self, levels: int) -> None:
        """Keep only so many of the best levels."""
        for score in self._scores[:-levels]:
            del self.lots[self._sign * score]
        del self._scores[:-levels]

    def best(self, levels: int) -> Levels:
        """Return so many of the best levels."""
        sign, lots = self._sign, self.lots
        return tuple((sign * score, lots[sign * score]) for score in self._scores[: -levels - 1 : -1])

    @property
    def best_ticks(self) -> int | None:
        """The best price, None while the side is empty."""
        return self._sign * self._scores[-1] if self._scores else None


class LocalBook:
    """A snapshot and the changes since: ``apply`` each event, ``load`` a snapshot whenever ``needs_snapshot``.

    Events before the snapshot are kept and applied to it. The first event after it must cover the snapshot's id, or
    follow it directly; each one after that must follow the one before. Anything else is a gap, and the book is of no
    use until there is a new snapshot. Levels outside of the snapshot are unknown until they change.
    """

    MOST_WAITING = 1000
    """Events that are kept without a snapshot, more than a minute's at ten a second; older ones are of no use then."""
    MOST_LEVELS = 4000
    """Levels kept of a side; when there are twice as many, the farthest are forgotten: the price has moved on."""

    def __init__(self) -> None:
        self._bids = _BookSide(1)
        self._asks = _BookSide(-1)
        self._waiting: deque[DepthDiff] = deque(maxlen=self.MOST_WAITING)
        self._is_loaded = False
        self._is_bridged = False
        self.last_id = 0
        """The update id that the book is at."""
        self.exchange_ms = 0

    @property
    def needs_snapshot(self) -> bool:
        """Tell whether the book is of no use until it is given a snapshot."""
        return not self._is_loaded

    def clear(self) -> None:
        """Nothing is known, as on a new connection."""
        self._waiting.clear()
        self._is_loaded = False

    def load(self, snapshot: DepthSnapshot) -> Step:
        """Begin at this snapshot and apply what has waited; GAP if it is too old for that: a newer one is needed."""
        while self._waiting and self._waiting[0].last_id < snapshot.update_id:
            self._waiting.popleft()
        if self._waiting and not _covers(self._waiting[0], snapshot.update_id):
            return Step.GAP
        self._bids.load(snapshot.bids)
        self._asks.load(snapshot.asks)
        self.last_id = snapshot.update_id
        self._is_loaded, self._is_bridged = True, False
        waiting = list(self._waiting)
        self._waiting.clear()
        for diff in waiting:
            step = self.apply(diff)
            if step in (Step.GAP, Step.CROSSED):
                return step
        return Step.APPLIED

    def apply(self, diff: DepthDiff) -> Step:
        """Bring the book up to the event, if it follows."""
        if not self._is_loaded:
            return self._wait(diff)
        if diff.last_id < self.last_id or (self._is_bridged and diff.last_id == self.last_id):
            return Step.OLD
        if not (diff.previous_id == self.last_id or (not self._is_bridged and _covers(diff, self.last_id))):
            return self._give_up(diff, Step.GAP)
        self._bids.apply(diff.bids)
        self._asks.apply(diff.asks)
        self._is_bridged = True
        self.last_id, self.exchange_ms = diff.last_id, diff.exchange_ms
        bid, ask = self._bids.best_ticks, self._asks.best_ticks
        if bid is not None and ask is not None and bid >= ask:
            return self._give_up(diff, Step.CROSSED)
        for side in (self._bids, self._asks):
            if len(side.lots) > 2 * self.MOST_LEVELS:
                side.forget_beyond(self.MOST_LEVELS)
        return Step.APPLIED

    def _wait(self, diff: DepthDiff) -> Step:
        """Keep an event for a snapshot to come; what does not lead to it is of no use."""
        if self._waiting and self._waiting[-1].last_id != diff.previous_id:
            if diff.last_id <= self._waiting[-1].last_id:
                return Step.OLD
            self._waiting.clear()
        self._waiting.append(diff)
        return Step.WAITING

    def _give_up(self, diff: DepthDiff, step: Step) -> Step:
        self.clear()
        self._waiting.append(diff)
        return step

    def levels(self, count: int) -> tuple[Levels, Levels]:
        """Return so many of the best bids and asks."""
        return self._bids.best(count), self._asks.best(count)

    def view(self, count: int, received_ns: int) -> DepthView | None:
        """Return so many of the best levels of each side, None while the book is of no use."""
        if not self._is_loaded:
            return None
        bids, asks = self.levels(count)
        return DepthView(bids, asks, self.last_id, self.exchange_ms, received_ns)


def _covers(diff: DepthDiff, update_id: int) -> bool:
    """Tell whether the event begins at or before the id and ends at or after it, or follows it directly."""
    return diff.first_id <= update_id <= diff.last_id or diff.previous_id == update_id
