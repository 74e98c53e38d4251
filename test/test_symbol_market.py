"""What is kept of one symbol's market, and what is worked out from a burst of its books."""

from dataclasses import replace
from decimal import Decimal
from operator import attrgetter

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core.analysis import MarketAnalysis
from core.model import BookTop
from core.price_watch import PriceWatch
from core.symbol_market import SymbolMarket

from .examples import BOOK, BTC, MARKET_DATA, RISK, context

LIMITS = replace(RISK, max_price_change=Decimal("0.03"), price_change_window_s=60)
MOVES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


def books(moves: list[int], first_ns: int) -> list[BookTop]:
    """A microsecond apart; the spread stays, the mid moves by these ticks."""
    made, bid = [], BOOK.bid_ticks
    for number, move in enumerate(moves):
        bid += move
        received_ns = first_ns + 1000 * number
        made.append(structs.replace(BOOK, bid_ticks=bid, ask_ticks=bid + 2, received_ns=received_ns))
    return made


def take(market: SymbolMarket, burst: list[BookTop]) -> None:
    """Have the market hold books as the worker does that takes them."""
    for book in burst:
        if book.mid_half_ticks != market.told_half_ticks:
            market.told_half_ticks = book.mid_half_ticks
            market.undigested_moves.append(book)
        market.undigested.append(book)


@given(bursts=st.lists(MOVES, min_size=1, max_size=5))
def test_burst_says_of_the_market_what_its_books_say_one_by_one(bursts: list[list[int]]) -> None:
    """Statistics get every book; the window of prices gets what can matter to it, and finds the same change."""
    market = SymbolMarket(context(limits=LIMITS), MARKET_DATA)
    analysis = MarketAnalysis(BTC, MARKET_DATA)
    watch = PriceWatch(LIMITS.max_price_change, LIMITS.price_change_window_s)
    for number, moves in enumerate(bursts):
        burst = books(moves, 1 + number * 40 * 1_000_000_000)
        take(market, burst)
        assert market.digest() == burst
        for book in burst:
            analysis.on_book(book)
            watch.add(book.received_ns, book.mid_half_ticks)
        now_ns = burst[-1].received_ns
        assert market.analysis.values(BOOK, now_ns) == analysis.values(BOOK, now_ns)
        assert market.context.prices.change_bps == watch.change_bps
    assert market.digest() == []


def test_book_that_came_late_is_counted_in_the_statistics_and_not_in_the_limit_of_the_price() -> None:
    """It proves nothing of the present, which is what the limit is about."""
    market = SymbolMarket(context(limits=LIMITS), MARKET_DATA)
    late, present = books([0, -5000], 1), books([0], 10_000)
    market.undigested_late.extend(late)
    take(market, present)
    assert sorted(market.digest(), key=attrgetter("received_ns")) == [*late, *present]
    assert len(market.analysis.mids) == 2
    assert market.context.prices.change_bps == 0


def test_mid_that_was_told_before_a_late_book_is_counted_after_it() -> None:
    """The late one has told nobody, so the next one moves nothing; but the statistics had another mid meanwhile."""
    market = SymbolMarket(context(limits=LIMITS), MARKET_DATA)
    first, late, again = books([0], 1), books([4], 5000), books([0], 10_000)
    take(market, first)
    market.digest()
    market.undigested_late.extend(late)
    market.digest()
    take(market, again)
    assert market.undigested_moves == []
    market.digest()
    assert len(market.analysis.mids) == 2
    assert market.context.prices.change_bps == 0


def test_any_mid_can_be_true_until_a_mark_price_is_known() -> None:
    """From then on it is within a tenth of the mark price."""
    market = SymbolMarket(context(limits=LIMITS), MARKET_DATA)
    assert market.sane_from_half_ticks <= 2 < 10**9 <= market.sane_to_half_ticks
    market.learn_mark_price(Decimal(80_000), BTC)
    assert (market.sane_from_half_ticks, market.sane_to_half_ticks) == (1_440_000, 1_760_000)
    assert market.state.mark_price == 80_000
