"""The book as depth replies and depth streams show it: its levels, its update id, and the chain of its changes.

Shown is the market's book less what we have taken from it; our own resting orders are not in it. The levels are those
that ``BookSide.levels`` yields, recorded or modelled (see ``sim.matching``), so a taker meets what is shown. A modelled
level shows the usual size of its side's touch: an average over some 16 whole seconds, followed only when it is half as
much again or a third less, so that a book of a thousand levels does not change with every quote. The update
id is the market's, the same counter as that of bookTicker, jumps included. Where the book has changed without the
market (we have taken from it), the ids of all that follows are raised, so that one id never names two books.

Source: facts section 3.1 (GET depth), 6 (depth streams, local book), 12 (ids with jumps, chain of pu).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sim.market import BookTicker
from sim.matching import BookSide, Matcher, ShownSide
from sim.rules import SymbolRules

Changes = list[tuple[int, int]]

_AVERAGED = 16


@dataclass(frozen=True, slots=True)
class Image:
    """The book at one update id; ``time_ms`` is when it became so."""

    update_id: int
    time_ms: int
    bids: ShownSide
    asks: ShownSide


class Chain:
    """The ids of one depth stream: what it has told last, and the first change since."""

    __slots__ = ("first_id", "last_id")

    def __init__(self, last_id: int) -> None:
        self.last_id = last_id
        self.first_id: int | None = None

    def note(self, update_id: int) -> None:
        """Let the book have changed to ``update_id``."""
        if self.first_id is None and update_id > self.last_id:
            self.first_id = update_id

    def link(self, update_id: int) -> tuple[int, int]:
        """Return ``U`` and ``pu`` of an event that ends at ``update_id``, and go on from there."""
        first_id, previous_id = self.first_id or update_id, self.last_id
        self.first_id, self.last_id = None, update_id
        return first_id, previous_id


class DiffChain(Chain):
    """The ids of a diff stream, and every level that has changed since it was told last, as it is now.

    A level that was seen otherwise in between, by a snapshot, counts as changed even if it is what it was before.
    """

    __slots__ = ("asks", "bids")

    def __init__(self, last_id: int) -> None:
        super().__init__(last_id)
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def collect(self) -> tuple[Changes, Changes]:
        """Return the changes of bids and asks, best first, and forget them."""
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        self.bids, self.asks = {}, {}
        return bids, asks


class ShownBook:
    """What one symbol's depth shows; ``raised`` is what its update ids are above the market's.

    ``quote_raised`` is what they were when the present quote came.
    """

    __slots__ = ("_depth_id", "_last", "_matcher", "_sums", "chains", "diffs", "quote_raised", "raised")

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._sums = [0, 0]
        self._depth_id = 0
        self._last = Image(0, 0, ShownSide(1, recorded={}), ShownSide(-1, recorded={}))
        self.chains: list[Chain] = []
        self.diffs: list[DiffChain] = []
        self.raised = 0
        self.quote_raised = 0

    def settle(self) -> None:
        """Look at the touch once more, at a whole second: what modelled levels show follows what it usually has."""
        for number, side in enumerate((self._matcher.bids, self._matcher.asks)):
            known = self._sums[number] or side.touch_lots * _AVERAGED
            self._sums[number] = known + side.touch_lots - known // _AVERAGED
            _follow(side, self._sums[number] // _AVERAGED)

    def forget(self) -> None:
        """Forget what the touch usually has: modelled levels show what it has from now on."""
        self._sums = [0, 0]
        self._matcher.bids.usual_lots = self._matcher.asks.usual_lots = 0

    def note(self, market_id: int) -> None:
        """Let the market's book have changed to ``market_id``; needed only while there are ``chains``."""
        for chain in self.chains:
            chain.note(market_id + self.raised)

    def note_depth(self, market_id: int) -> None:
        """Let levels behind the touch have changed; their id counts, also where it is ahead of the quote's."""
        self._depth_id = market_id
        self.note(market_id)

    def look(self, quote: BookTicker | None) -> Image:
        """Return the book as it is shown now, under an id that no other book has been shown under."""
        if quote is None:
            return self._last
        last, matcher = self._last, self._matcher
        bids, asks = matcher.bids.shown_levels(), matcher.asks.shown_levels()
        update_id = max(quote.update_id, self._depth_id) + self.raised
        if update_id <= last.update_id:
            if bids == last.bids and asks == last.asks:
                return last
            self.raised += last.update_id + 1 - update_id
            update_id = last.update_id + 1
        self._last = Image(update_id, quote.time_ms, bids, asks)
        for chain in self.chains:
            chain.note(update_id)
        if self.diffs:
            self._tell_changes(last)
        return self._last

    def _tell_changes(self, before: Image) -> None:
        last = self._last
        bids = changes(before.bids.levels(), last.bids.levels())
        asks = changes(before.asks.levels(), last.asks.levels())
        for diff in self.diffs:
            diff.bids.update(bids)
            diff.asks.update(asks)


def _follow(side: BookSide, usual_lots: int) -> None:
    shown = side.usual_lots
    if usual_lots and (not shown or 2 * usual_lots > 3 * shown or 3 * usual_lots < 2 * shown):
        side.usual_lots = usual_lots


def changes(before: dict[int, int], after: dict[int, int]) -> Changes:
    """Return the levels that differ, 0 for those that are gone, in no particular order."""
    if before == after:
        return []
    gone = before.keys() - after.keys()
    return [*(after.items() - before.items()), *((price_ticks, 0) for price_ticks in gone)]


def depth_event(
    rules: SymbolRules,
    image: Image,
    ids: tuple[int, int],
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    now_ms: int,
) -> str:
    """Return the depthUpdate payload as text; ``ids`` are U and pu, u is that of the image."""
    first_id, previous_id = ids
    return (
        f'{{"e":"depthUpdate","E":{now_ms},"T":{image.time_ms},"s":"{rules.symbol}","ps":"{rules.symbol}",'
        f'"U":{first_id},"u":{image.update_id},"pu":{previous_id},'
        f'"b":[{_levels(rules, bids)}],"a":[{_levels(rules, asks)}],"st":1}}'
    )


def _levels(rules: SymbolRules, levels: Iterable[tuple[int, int]]) -> str:
    price, quantity = rules.price_text, rules.quantity_text
    return ",".join(f'["{price(price_ticks)}","{quantity(lots)}"]' for price_ticks, lots in levels)
