"""The price-time book of one symbol: where our orders stand in a market that we only see the top of.

The recorded market does not know of our orders; this model says how it would have met them, and leans to our
disadvantage wherever the recording leaves a choice:

- An order that joins the touch stands behind the whole size shown; deeper likewise, where the market shows its
  depth. Without depth its place there is unknown until the touch comes to its level; the size then shown is taken to
  be ahead of it. Inside the spread nothing is ahead.
- A trade at our price eats the queue ahead, then fills us with what is left of it. Where the place is unknown it
  fills nothing.
- Size that vanishes from our level without a trade is taken to have stood behind us (``Thinning.FROM_BEHIND``);
  what is ahead is only capped by what is still shown. ``Thinning.PROPORTIONAL`` spreads it evenly instead.
- A trade through our price, or an opposite touch that comes to it or through it, fills us fully, at our price, as
  maker. One that stood there when the order came to rest is what that has taken: the market does not know, and
  still shows it, and trades it with others.
- A taker walks the touch and then the levels that the market has shown; beyond those, or without depth, modelled ones:
  every further tick shows the size that the touch usually has (``BookSide.usual_lots``, settled once a second by
  ``sim.depth``; until then what it has now). What it has taken stays taken until the next quote.

Prices are ticks, sizes are lots. "Toward" is +1 for bids and -1 for asks: ``toward × price`` is higher where a price
is better for its side, which lets one class serve both sides.

Source: design section 6; facts section 4.1, 4.4 (time in force, self-trade prevention).
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count, islice

from msgspec import Struct

from sim.market import Levels
from sim.orders import StpMode

MODEL_LEVELS = 1000
"""Levels that a side is modelled to have; the deepest that ``GET /fapi/v1/depth`` can show."""

_NO_BID = -1
_NO_ASK = 1 << 62


class Thinning(Enum):
    """Where in the queue the size stood that vanished from our level without a trade."""

    FROM_BEHIND = "from_behind"
    PROPORTIONAL = "proportional"


@dataclass(frozen=True, slots=True)
class Fill:
    """`lots` of the order have traded at `price_ticks`."""

    order_id: int
    lots: int
    price_ticks: int
    maker: bool


@dataclass(frozen=True, slots=True)
class Taking:
    """What an incoming order met: fills in their order, own makers to expire, and whether it expires itself."""

    fills: Sequence[Fill]
    expired_makers: Sequence[int]
    taker_expired: bool


@dataclass(slots=True)
class Resting:
    """One of our orders in the book; `ahead_lots` of others stand before it, None where that is unknown."""

    order_id: int
    price_ticks: int
    lots: int
    ahead_lots: int | None


@dataclass(slots=True)
class _Walk:
    """An incoming order on its way through the opposite side."""

    order_id: int
    lots: int
    stp: StpMode
    fills: list[Fill] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    stopped: bool = False

    def fill(self, lots: int, price_ticks: int) -> None:
        if lots:
            self.fills.append(Fill(self.order_id, lots, price_ticks, maker=False))
            self.lots -= lots


class ShownSide(Struct):
    """The levels of one side at a moment: ``recorded`` ones, or the touch and modelled ones that all show the same.

    Modelled ones are only written out when somebody wants them all.
    """

    toward: int
    touch_ticks: int = 0
    touch_lots: int = 0
    behind_lots: int = 0
    recorded: dict[int, int] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShownSide):
            return NotImplemented
        if self.recorded is None and other.recorded is None:
            return (self.touch_ticks, self.touch_lots, self.behind_lots) == (
                other.touch_ticks,
                other.touch_lots,
                other.behind_lots,
            )
        return self.levels() == other.levels()

    __hash__ = None  # type: ignore[assignment]  # what it holds may be large

    def best(self, limit: int) -> list[tuple[int, int]]:
        """Return price in ticks and lots of at most so many levels, the best first."""
        if self.recorded is not None:
            return list(islice(self.recorded.items(), limit))
        behind = ((price_ticks, self.behind_lots) for price_ticks in self._prices()[1:limit])
        return [(self.touch_ticks, self.touch_lots), *behind]

    def levels(self) -> dict[int, int]:
        """Return all levels as price in ticks → lots, the best first."""
        if self.recorded is None:
            self.recorded = dict.fromkeys(self._prices(), self.behind_lots)
            self.recorded[self.touch_ticks] = self.touch_lots
        return self.recorded

    def _prices(self) -> range:
        touch, step = self.touch_ticks, -self.toward
        return range(touch, max(touch - MODEL_LEVELS, 0) if step < 0 else touch + MODEL_LEVELS, step)


class BookSide:
    """One side: the touch as shown, what we have taken from it, and our resting orders, best and oldest first."""

    __slots__ = (
        "best_ticks",
        "orders",
        "seen_to_ticks",
        "shown_lots",
        "taken_lots",
        "thinning",
        "touch_lots",
        "touch_ticks",
        "toward",
        "traded_lots",
        "usual_lots",
    )

    def __init__(self, toward: int, thinning: Thinning) -> None:
        self.toward = toward
        self.thinning = thinning
        self.touch_ticks = 0
        self.touch_lots = 0
        self.taken_lots = 0
        self.traded_lots = 0
        self.usual_lots = 0
        self.orders: list[Resting] = []
        self.best_ticks = _NO_BID if toward > 0 else _NO_ASK
        self.shown_lots: dict[int, int] = {}
        self.seen_to_ticks: int | None = None

    @property
    def shown(self) -> bool:
        """Tell whether the market shows anything on this side."""
        return self.touch_lots > 0

    def insert(self, order: Resting) -> None:
        """Queue ``order`` behind all that are as good."""
        toward, score = self.toward, self.toward * order.price_ticks
        place = sum(1 for other in self.orders if toward * other.price_ticks >= score)
        self.orders.insert(place, order)
        self._note_best()

    def remove(self, order_id: int) -> Resting | None:
        """Take the order out of the book and return it, None if it does not rest here."""
        for place, order in enumerate(self.orders):
            if order.order_id == order_id:
                del self.orders[place]
                self._note_best()
                return order
        return None

    def queue_ahead(self, price_ticks: int) -> int | None:
        """Return the lots of others before a newcomer at ``price_ticks``, None where they cannot be seen."""
        if not self.shown:
            return None
        if self.toward * price_ticks < self.toward * self.touch_ticks:
            return self._lots_behind_touch(price_ticks)
        return self.touch_lots if price_ticks == self.touch_ticks else 0

    def _lots_behind_touch(self, price_ticks: int) -> int | None:
        """What a deeper level shows: nothing where all levels so far down are known, None where it was never seen."""
        shown = self.shown_lots.get(price_ticks)
        if shown is None and self.seen_to_ticks is not None:
            return 0 if self.toward * price_ticks >= self.toward * self.seen_to_ticks else None
        return shown

    def show(self, levels: Levels, *, snapshot: bool) -> None:
        """Take what the levels show; with ``snapshot`` they are all, down to the worst of them."""
        was_lots = {order.price_ticks: self.shown_lots.get(order.price_ticks, 0) for order in self.orders}
        if snapshot:
            self.shown_lots = {}
            self.seen_to_ticks = (
                self.toward * min(self.toward * level[0] for level in levels) if levels else None
            )
        for price_ticks, lots in levels:
            if lots or self.seen_to_ticks is None:
                self.shown_lots[price_ticks] = lots
            else:
                self.shown_lots.pop(price_ticks, None)
        self._thin_deeper(was_lots, None if snapshot else {price_ticks for price_ticks, _ in levels})

    def _thin_deeper(self, was_lots: Mapping[int, int], changed: Container[int] | None) -> None:
        """Follow the levels behind the touch; the touch is followed by its quotes, which are ahead of the depth."""
        for order in self.orders:
            price_ticks = order.price_ticks
            if self.toward * price_ticks < self.toward * self.touch_ticks and (
                changed is None or price_ticks in changed
            ):
                now_lots = self._lots_behind_touch(price_ticks)
                if now_lots is not None:
                    order.ahead_lots = self._thinned(order.ahead_lots, was_lots[price_ticks], now_lots)

    def leave_touch(self, ticks: int, lots: int) -> None:
        """Remember what the former touch showed, where depth is known and the new touch is before it."""
        if self.seen_to_ticks is not None and self.toward * ticks < self.toward * self.touch_ticks:
            self.shown_lots[ticks] = lots

    def requote(
        self, was_ticks: int, was_lots: int, opposite: "BookSide", met_ticks: int | None
    ) -> list[Fill]:
        """Follow the new touches (already set): queues thin, and orders that the opposite one comes to are filled.

        ``met_ticks`` is where the opposite touch was, None if there was none: what it reached there is there already.
        """
        toward, touch = self.toward, self.toward * self.touch_ticks
        reach = toward * opposite.touch_ticks
        comes = opposite.shown and (met_ticks is None or reach < toward * met_ticks)
        fills: list[Fill] = []
        for order in self.orders:
            score = toward * order.price_ticks
            if comes and score >= reach:
                fills.append(Fill(order.order_id, order.lots, order.price_ticks, maker=True))
                order.lots = 0
            elif score > touch:
                order.ahead_lots = 0
            elif score == touch:
                seen = was_lots - self.traded_lots if was_ticks == self.touch_ticks else 0
                order.ahead_lots = self._thinned(order.ahead_lots, seen, self.touch_lots)
            else:
                break
        self.traded_lots = 0
        self._drop_filled(fills)
        return fills

    def trade(self, price_ticks: int, lots: int, *, hits: bool) -> list[Fill]:
        """Let a trade happen at ``price_ticks``; ``hits`` says that its taker came for this side."""
        toward, at = self.toward, self.toward * price_ticks
        volume = lots if hits else 0
        eaten = 0
        fills: list[Fill] = []
        for order in self.orders:
            score = toward * order.price_ticks
            if score > at:
                fills.append(Fill(order.order_id, order.lots, order.price_ticks, maker=True))
                volume = max(0, volume - order.lots)
                order.lots = 0
            elif score < at or not hits or order.ahead_lots is None:
                break
            else:
                gap = min(volume, max(0, order.ahead_lots - eaten))
                eaten += gap
                filled = min(volume - gap, order.lots)
                volume -= gap + filled
                if filled:
                    fills.append(Fill(order.order_id, filled, order.price_ticks, maker=True))
                    order.lots -= filled
        self._eat(price_ticks, eaten)
        if hits and price_ticks == self.touch_ticks:
            self.traded_lots += lots
        elif hits and price_ticks in self.shown_lots:
            self.shown_lots[price_ticks] = max(0, self.shown_lots[price_ticks] - lots)
        self._drop_filled(fills)
        return fills

    def walk(self, walk: _Walk, limit_ticks: int | None) -> None:
        """Let the incoming order trade against this side, level by level, as far as its limit allows."""
        for price_ticks, available in self._meetings(limit_ticks):
            self._meet_level(walk, price_ticks, available)
            if walk.stopped or not walk.lots:
                return

    def levels(self, limit: int) -> Iterator[tuple[int, int]]:
        """Yield (price_ticks, lots) from the touch outwards, less what we have taken, at most ``limit`` levels."""
        if not self.shown:
            return
        taken_lots = self.taken_lots
        for price_ticks, lots in islice(self._market_levels(), MODEL_LEVELS):
            if taken_lots >= lots:
                taken_lots -= lots
                continue
            yield price_ticks, lots - taken_lots
            taken_lots = 0
            limit -= 1
            if not limit:
                return

    def shown_levels(self) -> ShownSide:
        """Return all of ``levels`` as they are now, the best first."""
        recorded = self.shown_lots or self.seen_to_ticks is not None
        if recorded or self.taken_lots >= self.touch_lots:
            return ShownSide(self.toward, recorded=dict(self.levels(MODEL_LEVELS)))
        left_lots = self.touch_lots - self.taken_lots
        return ShownSide(self.toward, self.touch_ticks, left_lots, self.usual_lots or self.touch_lots)

    def _market_levels(self) -> Iterator[tuple[int, int]]:
        """Yield the touch, the levels shown behind it, and without end the modelled ones behind those."""
        yield self.touch_ticks, self.touch_lots
        toward, deepest = self.toward, self.toward * self.touch_ticks
        if self.seen_to_ticks is not None:
            floor = toward * self.seen_to_ticks
            known = (toward * price_ticks for price_ticks in self.shown_lots)
            for score in sorted((score for score in known if floor <= score < deepest), reverse=True):
                yield toward * score, self.shown_lots[toward * score]
            deepest = min(deepest, floor)
        modelled_lots = self.usual_lots or self.touch_lots
        for score in count(deepest - 1, -1):
            if toward * score <= 0:
                return
            yield toward * score, self.shown_lots.get(toward * score, modelled_lots)

    def reachable_lots(self, limit_ticks: int | None, enough: int) -> int:
        """Return how many lots an incoming order could trade within its limit, counting no further than ``enough``."""
        found = 0
        for price_ticks, available in self._meetings(limit_ticks):
            found += available + sum(order.lots for order in self.orders if order.price_ticks == price_ticks)
            if found >= enough:
                break
        return found

    def takes(self, price_ticks: int) -> bool:
        """Tell whether an incoming order at ``price_ticks`` would trade against this side."""
        toward, limit = self.toward, self.toward * price_ticks
        if toward * self.touch_ticks < limit and toward * self.best_ticks < limit:
            return False
        return any(True for _ in self._meetings(price_ticks))

    def _meetings(self, limit_ticks: int | None) -> Iterator[tuple[int, int]]:
        """Yield (price, lots of others) of every price, best first, where the market or one of ours stands."""
        own = list(dict.fromkeys(order.price_ticks for order in self.orders))
        toward = self.toward
        for price_ticks, available in self.levels(MODEL_LEVELS):
            while own and toward * own[0] > toward * price_ticks:
                yield from self._within(own.pop(0), 0, limit_ticks)
            while own and own[0] == price_ticks:
                own.pop(0)
            if limit_ticks is not None and toward * price_ticks < toward * limit_ticks:
                return
            yield price_ticks, available
        for price_ticks in own:
            yield from self._within(price_ticks, 0, limit_ticks)

    def _within(self, price_ticks: int, lots: int, limit_ticks: int | None) -> Iterator[tuple[int, int]]:
        if limit_ticks is None or self.toward * price_ticks >= self.toward * limit_ticks:
            yield price_ticks, lots

    def _meet_level(self, walk: _Walk, price_ticks: int, available: int) -> None:
        for order in [order for order in self.orders if order.price_ticks == price_ticks]:
            before = available if order.ahead_lots is None else min(available, order.ahead_lots)
            available -= self._take(walk, price_ticks, before)
            if not walk.lots:
                return
            self._meet_own(walk, order)
            if walk.stopped or not walk.lots:
                return
        self._take(walk, price_ticks, available)

    def _take(self, walk: _Walk, price_ticks: int, available: int) -> int:
        lots = min(walk.lots, available)
        walk.fill(lots, price_ticks)
        self.taken_lots += lots
        return lots

    def _meet_own(self, walk: _Walk, order: Resting) -> None:
        if walk.stp is StpMode.NONE:
            lots = min(walk.lots, order.lots)
            walk.fill(lots, order.price_ticks)
            walk.fills.append(Fill(order.order_id, lots, order.price_ticks, maker=True))
            order.lots -= lots
            if not order.lots:
                self.remove(order.order_id)
            return
        if walk.stp is not StpMode.EXPIRE_TAKER:
            self.remove(order.order_id)
            walk.expired.append(order.order_id)
        walk.stopped = walk.stp is not StpMode.EXPIRE_MAKER

    def _thinned(self, ahead_lots: int | None, was_lots: int, now_lots: int) -> int:
        if ahead_lots is None:
            return now_lots
        vanished = was_lots - now_lots
        if self.thinning is Thinning.PROPORTIONAL and vanished > 0:
            ahead_lots -= vanished * ahead_lots // max(was_lots, ahead_lots, 1)
        return min(ahead_lots, now_lots)

    def _eat(self, price_ticks: int, eaten: int) -> None:
        for order in self.orders:
            if eaten and order.price_ticks == price_ticks and order.ahead_lots is not None:
                order.ahead_lots = max(0, order.ahead_lots - eaten)

    def _drop_filled(self, fills: list[Fill]) -> None:
        if fills:
            self.orders = [order for order in self.orders if order.lots]
            self._note_best()

    def _note_best(self) -> None:
        if self.orders:
            self.best_ticks = self.orders[0].price_ticks
        else:
            self.best_ticks = _NO_BID if self.toward > 0 else _NO_ASK


class Matcher:
    """The book of one symbol: the quote in force and our orders around it."""

    __slots__ = ("asks", "bids")

    def __init__(self, thinning: Thinning = Thinning.FROM_BEHIND) -> None:
        self.bids = BookSide(1, thinning)
        self.asks = BookSide(-1, thinning)

    @property
    def quoted(self) -> bool:
        """Tell whether the market has shown both sides."""
        return self.bids.shown and self.asks.shown

    def on_quote(self, bid_ticks: int, bid_lots: int, ask_ticks: int, ask_lots: int) -> Sequence[Fill]:
        """Take the new best bid and ask; return the fills that they cause."""
        bids, asks = self.bids, self.asks
        was = bids.touch_ticks, bids.touch_lots, asks.touch_ticks, asks.touch_lots
        bids.touch_ticks, bids.touch_lots, bids.taken_lots = bid_ticks, bid_lots, 0
        asks.touch_ticks, asks.touch_lots, asks.taken_lots = ask_ticks, ask_lots, 0
        if was[0] != bid_ticks:
            bids.leave_touch(was[0], was[1])
        if was[2] != ask_ticks:
            asks.leave_touch(was[2], was[3])
        if (
            bids.best_ticks < bid_ticks
            and bids.best_ticks < ask_ticks
            and asks.best_ticks > ask_ticks
            and asks.best_ticks > bid_ticks
        ):
            bids.traded_lots = asks.traded_lots = 0
            return ()
        fills = bids.requote(was[0], was[1], asks, was[2] if was[3] else None)
        return fills + asks.requote(was[2], was[3], bids, was[0] if was[1] else None)

    def on_depth(self, bids: Levels, asks: Levels, *, snapshot: bool) -> None:
        """Take what levels beyond the touch show: a change, or with ``snapshot`` all that is known."""
        self.bids.show(bids, snapshot=snapshot)
        self.asks.show(asks, snapshot=snapshot)

    def on_trade(self, price_ticks: int, lots: int, *, buyer_is_maker: bool) -> Sequence[Fill]:
        """Let the market trade; return the fills that this causes to us."""
        bids, asks = self.bids, self.asks
        fills: Sequence[Fill] = ()
        if price_ticks <= bids.best_ticks and (
            buyer_is_maker or not asks.shown or price_ticks < asks.touch_ticks
        ):
            fills = bids.trade(price_ticks, lots, hits=buyer_is_maker)
        if price_ticks >= asks.best_ticks and (
            not buyer_is_maker or not bids.shown or price_ticks > bids.touch_ticks
        ):
            fills = [*fills, *asks.trade(price_ticks, lots, hits=not buyer_is_maker)]
        return fills

    def would_take(self, price_ticks: int, *, is_buy: bool) -> bool:
        """Tell whether a limit order would trade on arrival, with the market or with an order of our own."""
        return (self.asks if is_buy else self.bids).takes(price_ticks)

    def fillable(self, limit_ticks: int | None, lots: int, *, is_buy: bool) -> bool:
        """Tell whether ``lots`` could trade at once within the limit: the question of a FOK order."""
        return (self.asks if is_buy else self.bids).reachable_lots(limit_ticks, lots) >= lots

    def take(
        self, order_id: int, limit_ticks: int | None, lots: int, *, is_buy: bool, stp: StpMode
    ) -> Taking:
        """Let an incoming order trade at once as far as its limit allows (None: no limit); nothing comes to rest."""
        walk = _Walk(order_id, lots, stp)
        (self.asks if is_buy else self.bids).walk(walk, limit_ticks)
        return Taking(walk.fills, walk.expired, walk.stopped)

    def rest(self, order_id: int, price_ticks: int, lots: int, *, is_buy: bool) -> None:
        """Put an order into the book, at the tail of its level."""
        side = self.bids if is_buy else self.asks
        side.insert(Resting(order_id, price_ticks, lots, side.queue_ahead(price_ticks)))

    def remove(self, order_id: int) -> bool:
        """Take an order out of the book; tell whether it was there."""
        return (self.bids.remove(order_id) or self.asks.remove(order_id)) is not None

    def shrink(self, order_id: int, lots: int) -> None:
        """Leave ``lots`` of an order in the book; it keeps its place."""
        for order in (*self.bids.orders, *self.asks.orders):
            if order.order_id == order_id:
                order.lots = min(order.lots, lots)

    def ahead_lots(self, order_id: int) -> int | None:
        """Return the lots of others before the order, None where that is unknown or the order does not rest."""
        for order in (*self.bids.orders, *self.asks.orders):
            if order.order_id == order_id:
                return order.ahead_lots
        return None
