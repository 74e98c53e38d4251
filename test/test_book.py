"""Our copy of the book, against the exchange's, whatever is lost, late or told twice on the way."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.book import LocalBook, Step
from core.market_model import DepthDiff, DepthSnapshot, Levels

Books = tuple[dict[int, int], dict[int, int]]


def best_first(levels: dict[int, int], *, is_bid: bool) -> Levels:
    """The levels of a side in their order."""
    return tuple(sorted(levels.items(), reverse=is_bid))


@dataclass
class TheirBook:
    """The exchange's book: bids below 100, asks above, an id that jumps, and the changes not told yet."""

    bids: dict[int, int] = field(default_factory=lambda: {99: 5, 98: 7})
    asks: dict[int, int] = field(default_factory=lambda: {101: 4, 103: 9})
    update_id: int = 1000
    told_id: int = 1000
    first_id: int | None = None
    changed: Books = field(default_factory=lambda: ({}, {}))
    history: dict[int, Books] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.remember()

    def remember(self) -> None:
        """Keep what the book is at this id."""
        self.history[self.update_id] = (dict(self.bids), dict(self.asks))

    def change(self, price: int, lots: int, jump: int) -> None:
        """One level changes, and the id goes on by ``jump``."""
        side, changed = (self.bids, self.changed[0]) if price < 100 else (self.asks, self.changed[1])
        side.pop(price, None)
        if lots:
            side[price] = lots
        changed[price] = lots
        self.update_id += jump
        self.first_id = self.first_id or self.update_id
        self.remember()

    def tell(self) -> DepthDiff:
        """The event with everything since the one before."""
        bids, asks = (tuple(levels.items()) for levels in self.changed)
        diff = DepthDiff(
            bids, asks, self.first_id or self.update_id, self.update_id, self.told_id, self.update_id
        )
        self.told_id, self.first_id, self.changed = self.update_id, None, ({}, {})
        return diff

    def snapshot(self) -> DepthSnapshot:
        """What REST answers now."""
        return DepthSnapshot(
            best_first(self.bids, is_bid=True), best_first(self.asks, is_bid=False), self.update_id
        )


def equals_theirs(book: LocalBook, theirs: TheirBook) -> bool:
    """Tell whether our book is what theirs was at the same id."""
    bids, asks = theirs.history[book.last_id]
    return book.levels(1000) == (best_first(bids, is_bid=True), best_first(asks, is_bid=False))


changes = st.tuples(st.just("change"), st.integers(90, 110), st.integers(0, 9), st.integers(1, 4))
steps = st.one_of(
    changes,
    changes,
    st.tuples(st.just("tell")),
    st.tuples(st.just("tell")),
    st.tuples(st.sampled_from(["lose", "repeat", "ask", "answer", "reconnect"])),
)


class Wire:
    """What is between the exchange's book and ours, and what can happen to it."""

    def __init__(self) -> None:
        self.theirs, self.book = TheirBook(), LocalBook()
        self.under_way: DepthSnapshot | None = None
        self.last: DepthDiff | None = None

    def change(self, price: int, lots: int, jump: int) -> None:
        """Have the exchange's book change; there is nothing at 100, which keeps the sides apart."""
        if price != 100:
            self.theirs.change(price, lots, jump)

    def tell(self) -> None:
        """Have an event arrive."""
        self.last = self.theirs.tell()
        assert self.book.apply(self.last) is not Step.CROSSED

    def lose(self) -> None:
        """Have an event lost."""
        self.theirs.tell()

    def repeat(self) -> None:
        """Have the last event arrive again, which is to change nothing."""
        was_useless = self.book.needs_snapshot
        if self.last is not None:
            self.book.apply(self.last)
        assert self.book.needs_snapshot is was_useless

    def ask(self) -> None:
        """Have a snapshot made, which is under way for a while."""
        self.under_way = self.theirs.snapshot()

    def answer(self) -> None:
        """Have the snapshot arrive."""
        if self.under_way is not None and self.book.needs_snapshot:
            self.book.load(self.under_way)
        self.under_way = None

    def reconnect(self) -> None:
        """Have a new connection begin."""
        self.book.clear()
        self.last = None


@settings(max_examples=300)
@given(st.lists(steps, max_size=120))
def test_book_is_always_one_that_the_exchange_had(story: list[tuple[Any, ...]]) -> None:
    """After any sequence of events, losses, repetitions, late snapshots and new connections; and it catches up."""
    wire = Wire()
    theirs, book = wire.theirs, wire.book
    for name, *values in story:
        getattr(wire, name)(*values)
        assert book.needs_snapshot or equals_theirs(book, theirs)
    theirs.change(95, 3, 1)
    wire.tell()
    if book.needs_snapshot:
        assert book.load(theirs.snapshot()) is Step.APPLIED
    assert book.last_id == theirs.update_id
    assert equals_theirs(book, theirs)


def diff(first: int, last: int, previous: int, *, bids: Levels = (), asks: Levels = ()) -> DepthDiff:
    """An event from the one id to the other."""
    return DepthDiff(bids, asks, first, last, previous, last)


SNAPSHOT = DepthSnapshot(((99, 5), (98, 7)), ((101, 4),), 150)


def loaded() -> LocalBook:
    """A book at id 150."""
    book = LocalBook()
    assert book.load(SNAPSHOT) is Step.APPLIED
    return book


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (diff(120, 149, 119), Step.OLD),
        (diff(120, 150, 119), Step.APPLIED),
        (diff(150, 160, 149), Step.APPLIED),
        (diff(140, 160, 130), Step.APPLIED),
        (diff(152, 160, 150), Step.APPLIED),
        (diff(152, 160, 151), Step.GAP),
    ],
)
def test_first_event_has_to_cover_the_snapshot_or_follow_it(event: DepthDiff, step: Step) -> None:
    """U <= lastUpdateId <= u as the exchange demands, or pu == lastUpdateId, which proves the same."""
    assert loaded().apply(event) is step


def test_later_event_has_to_follow_the_one_before() -> None:
    """By pu; that ids jump is no gap, and one that is told again changes nothing."""
    book = loaded()
    assert book.apply(diff(149, 155, 148, bids=((99, 6),))) is Step.APPLIED
    assert book.apply(diff(170, 180, 155, asks=((102, 1),))) is Step.APPLIED
    assert book.apply(diff(170, 180, 155, asks=((102, 8),))) is Step.OLD
    assert book.levels(5) == (((99, 6), (98, 7)), ((101, 4), (102, 1)))
    assert book.apply(diff(182, 190, 181)) is Step.GAP
    assert book.needs_snapshot
    assert book.view(20, 0) is None


def test_snapshot_older_than_what_waits_is_refused() -> None:
    """A newer one is needed; what has waited waits on and is applied to that."""
    book = LocalBook()
    assert book.apply(diff(160, 170, 155, bids=((97, 1),))) is Step.WAITING
    assert book.load(SNAPSHOT) is Step.GAP
    assert book.needs_snapshot
    assert book.apply(diff(171, 180, 170, bids=((96, 2),))) is Step.WAITING
    assert book.load(DepthSnapshot(((99, 5),), ((101, 4),), 165)) is Step.APPLIED
    assert book.last_id == 180
    assert book.levels(5)[0] == ((99, 5), (97, 1), (96, 2))


def test_level_without_lots_is_gone() -> None:
    """Also one that was never there, which is normal."""
    book = loaded()
    assert book.apply(diff(149, 155, 148, bids=((99, 0), (50, 0)))) is Step.APPLIED
    assert book.levels(5)[0] == ((98, 7),)


def test_book_that_would_be_crossed_is_given_up() -> None:
    """It cannot be the exchange's; a new snapshot mends it, and events since are applied to that."""
    book = loaded()
    assert book.apply(diff(149, 155, 148, bids=((101, 1),))) is Step.CROSSED
    assert book.needs_snapshot
    assert book.apply(diff(156, 160, 155, asks=((105, 2),))) is Step.WAITING
    assert book.load(DepthSnapshot(((99, 5),), ((101, 4),), 158)) is Step.APPLIED
    assert book.levels(5) == (((99, 5),), ((101, 4), (105, 2)))


def test_events_wait_for_the_snapshot_within_bounds() -> None:
    """The newest thousand; the oldest are of no use to a snapshot that takes so long."""
    book = LocalBook()
    for number in range(5000):
        assert book.apply(diff(number + 1, number + 1, number)) is Step.WAITING
    assert len(book._waiting) == LocalBook.MOST_WAITING
    assert book.load(DepthSnapshot((), (), 4500)) is Step.APPLIED
    assert book.last_id == 5000


def test_levels_far_away_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best stay; memory is bounded however far the price wanders."""
    monkeypatch.setattr(LocalBook, "MOST_LEVELS", 3)
    book = loaded()
    deep = tuple((price, price) for price in range(80, 96))
    assert book.apply(diff(149, 155, 148, bids=deep)) is Step.APPLIED
    assert book.levels(99)[0] == ((99, 5), (98, 7), (95, 95))


def test_view_tells_when_it_was_received() -> None:
    """With the exchange's time and id of the last event."""
    book = loaded()
    book.apply(diff(149, 155, 148))
    view = book.view(1, 77)
    assert view is not None
    assert (view.bids, view.asks, view.update_id, view.exchange_ms, view.received_ns) == (
        ((99, 5),),
        ((101, 4),),
        155,
        155,
        77,
    )
    assert view.is_sane
