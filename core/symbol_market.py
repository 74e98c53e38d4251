"""What is kept of one symbol's market while its streams are listened to: where it goes, and what was seen of it."""

from decimal import Decimal
from operator import attrgetter

from core import wire
from core.analysis import MarketAnalysis
from core.context import SymbolContext
from core.model import BookTop, SymbolRules
from core.settings import MarketDataSettings

SANE_SHARE = Decimal("0.1")
"""A mid farther than this share from the mark price is a fault of one of the two, or no market to quote on."""


class SymbolMarket:
    """One symbol's part of what the market data worker knows; everything that a message touches is at one place."""

    __slots__ = (
        "_prices",
        "analysis",
        "burst",
        "compare_due_ns",
        "context",
        "first_asked",
        "is_new_connection",
        "is_overdue",
        "known_asks",
        "known_bids",
        "known_lots",
        "must_deliver",
        "objections",
        "reader",
        "refused",
        "sane_from_half_ticks",
        "sane_to_half_ticks",
        "state",
        "symbol",
        "told_half_ticks",
        "undigested",
        "undigested_late",
        "undigested_moves",
    )

    def __init__(self, context: SymbolContext, settings: MarketDataSettings) -> None:
        self.context = context
        self.state = context.state
        self.symbol = context.symbol
        self.reader = reader = wire.BookReader(context.rules)
        self.known_bids, self.known_asks = reader.bids.known, reader.asks.known
        self.known_lots = reader.lots.known
        self.analysis = context.state.analysis = MarketAnalysis(context.rules, settings)
        self._prices = context.prices
        self.objections = context.gate.own_reasons
        self.undigested: list[BookTop] = []
        """The books since the last digestion; those that came late, which prove nothing, are kept apart."""
        self.undigested_moves: list[BookTop] = []
        """Those of them that moved the mid."""
        self.undigested_late: list[BookTop] = []
        self.must_deliver = False
        """Whether the exchange's book was newer than what the stream had brought: no answer over REST proves ours."""
        self.is_new_connection = False
        self.first_asked: BookTop | None = None
        """What the exchange's book was when it was first asked for on a connection that has brought nothing yet."""
        self.is_overdue = False
        """Whether, of what the stream must deliver, the present connection should have brought something already."""
        self.refused: BookTop | None = None
        """What the present connection has brought last, if it was not taken because it cannot be true."""
        self.compare_due_ns = 0
        """Monotonic time from which on the book is compared again while the gate is closed for it."""
        self.sane_from_half_ticks: int = 0
        self.sane_to_half_ticks: float = float("inf")
        """The mids that can be true beside the mark price; any until that is known."""
        self.burst = 0
        """The last burst of messages of which a book was taken as the present one, unless something was wrong since."""
        self.told_half_ticks = 0
        """The mid that the orders were told of last: a book that came late has told nobody, and may prove true yet."""

    def begin_connection(self) -> None:
        """The stream of the book has a new connection, which has brought nothing yet."""
        self.is_new_connection = True
        self.first_asked = None
        self.is_overdue = False
        self.refused = None

    def objection(self, book: BookTop) -> str:
        """Return why a book cannot be true, or an empty string."""
        if not book.is_sane:
            return "the book is crossed or empty"
        if not self.sane_from_half_ticks <= book.bid_ticks + book.ask_ticks <= self.sane_to_half_ticks:
            return "the book is too far from the mark price to be true"
        return ""

    def digest(self) -> list[BookTop]:
        """Work out what follows from the books that wait for it, and return them."""
        books, moves, late = self.undigested, self.undigested_moves, self.undigested_late
        self.undigested, self.undigested_moves, self.undigested_late = [], [], []
        self.burst = 0  # the next book of it is not the next of these: it has to have itself digested
        if late:
            self.analysis.on_books(late)
        if books:
            self.analysis.on_book(books[0])  # moves nothing, unless the one before was late
            if moves:
                self._digest_moves(moves)
            self._prices.add(books[-1].received_ns, books[-1].mid_half_ticks)
        return late + books if late else books

    def _digest_moves(self, moves: list[BookTop]) -> None:
        """Work out what follows from books that moved the mid; of a burst only its extremes limit the price."""
        self.analysis.on_books(moves)
        mids_half_ticks = [book.bid_ticks + book.ask_ticks for book in moves]
        highest = moves[mids_half_ticks.index(max(mids_half_ticks))]
        lowest = moves[mids_half_ticks.index(min(mids_half_ticks))]
        extremes = (
            [highest] if highest is lowest else sorted((highest, lowest), key=attrgetter("received_ns"))
        )
        for book in extremes:
            self._prices.add(book.received_ns, book.mid_half_ticks)

    def learn_mark_price(self, price: Decimal, rules: SymbolRules) -> None:
        """The mark price is this; a mid much farther from it cannot be true."""
        self.state.mark_price = price
        half_ticks = 2 * price / rules.tick_size
        self.sane_from_half_ticks = int(half_ticks * (1 - SANE_SHARE))
        self.sane_to_half_ticks = int(half_ticks * (1 + SANE_SHARE))


def has_moved_on(ours: BookTop, theirs: BookTop) -> bool:
    """Tell whether the exchange's book is a later and a different one than ours."""
    return theirs.update_id > ours.update_id and not has_same_best(ours, theirs)


def has_begun_anew(ours: BookTop, theirs: BookTop) -> bool:
    """Tell whether the exchange began to count anew between two books: the id is lower, the time is later."""
    return 0 < theirs.update_id < ours.update_id and theirs.exchange_ms > ours.exchange_ms


def has_same_best(ours: BookTop, theirs: BookTop) -> bool:
    """Tell whether two books have the same best bid and ask, and as much there."""
    return (ours.bid_ticks, ours.bid_lots, ours.ask_ticks, ours.ask_lots) == (
        theirs.bid_ticks,
        theirs.bid_lots,
        theirs.ask_ticks,
        theirs.ask_lots,
    )
