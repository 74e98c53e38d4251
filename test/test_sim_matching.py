"""The book gives us our place in the queue and no fill without a cause."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.matching import BookSide, Fill, Matcher, Resting, Thinning
from sim.orders import StpMode


def book(
    bid: int = 100,
    bid_lots: int = 50,
    ask: int = 101,
    ask_lots: int = 40,
    thinning: Thinning = Thinning.FROM_BEHIND,
) -> Matcher:
    """Return a book that shows these."""
    matcher = Matcher(thinning)
    matcher.on_quote(bid, bid_lots, ask, ask_lots)
    return matcher


def sold(matcher: Matcher, price: int, lots: int) -> list[Fill]:
    """Let a taker sell."""
    return list(matcher.on_trade(price, lots, buyer_is_maker=True))


def bought(matcher: Matcher, price: int, lots: int) -> list[Fill]:
    """Let a taker buy."""
    return list(matcher.on_trade(price, lots, buyer_is_maker=False))


def test_order_at_the_touch_stands_behind_the_shown_size() -> None:
    """A newcomer at the best price has the whole size shown there before it."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.rest(2, 101, 5, is_buy=False)
    assert (matcher.ahead_lots(1), matcher.ahead_lots(2)) == (50, 40)


def test_order_deeper_than_the_touch_learns_its_place_when_the_touch_comes() -> None:
    """Behind the touch the place is unknown; the size shown on first sight is taken to be ahead."""
    matcher = book()
    matcher.rest(1, 98, 5, is_buy=True)
    assert matcher.ahead_lots(1) is None
    matcher.on_quote(98, 33, 99, 10)
    assert matcher.ahead_lots(1) == 33


def test_order_inside_the_spread_stands_first() -> None:
    """Where nobody stands, nothing is ahead."""
    matcher = book(ask=110)
    matcher.rest(1, 105, 5, is_buy=True)
    assert matcher.ahead_lots(1) == 0


def test_trade_eats_the_queue_before_it_fills_us() -> None:
    """50 ahead: a trade of 48 fills nothing, the next of 5 fills three, the rest of our two later."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    assert sold(matcher, 100, 48) == []
    assert sold(matcher, 100, 5) == [Fill(1, 3, 100, maker=True)]
    assert sold(matcher, 100, 9) == [Fill(1, 2, 100, maker=True)]
    assert matcher.ahead_lots(1) is None


def test_trade_that_comes_for_the_other_side_fills_nothing() -> None:
    """A buyer's trade at our bid's price did not hit bids."""
    matcher = book(bid_lots=1)
    matcher.rest(1, 100, 5, is_buy=True)
    assert bought(matcher, 100, 50) == []


def test_trade_through_our_price_fills_us_fully_at_our_price() -> None:
    """A print beyond our price means that our level is gone, whatever stood ahead."""
    matcher = book()
    matcher.rest(1, 99, 5, is_buy=True)
    matcher.rest(2, 103, 7, is_buy=False)
    assert sold(matcher, 98, 1) == [Fill(1, 5, 99, maker=True)]
    assert bought(matcher, 104, 1) == [Fill(2, 7, 103, maker=True)]


@pytest.mark.parametrize("ask", [99, 98])
def test_opposite_touch_at_or_through_our_price_fills_us(ask: int) -> None:
    """An ask that reaches our bid would have hit it."""
    matcher = book()
    matcher.rest(1, 99, 5, is_buy=True)
    assert list(matcher.on_quote(ask - 1, 9, ask, 9)) == [Fill(1, 5, 99, maker=True)]
    assert matcher.bids.orders == []


@pytest.mark.parametrize(
    ("asks", "filled"), [([101, 101, 102], 0), ([101, 100], 5), ([101, 104, 103, 101], 5)]
)
def test_rest_of_an_order_is_filled_by_no_touch_that_it_has_taken(asks: list[int], filled: int) -> None:
    """The market does not know that its ask is gone, and shows it again; one that comes there anew fills."""
    matcher = book()
    matcher.take(1, 101, 45, is_buy=True, stp=StpMode.EXPIRE_MAKER)
    matcher.rest(1, 101, 5, is_buy=True)
    fills = [fill for ask in asks for fill in matcher.on_quote(ask - 2, 50, ask, 90)]
    assert sum(fill.lots for fill in fills) == filled


@pytest.mark.parametrize("is_buy", [True, False])
def test_rest_of_an_order_is_filled_by_no_print_of_what_it_has_taken(is_buy: bool) -> None:
    """Other takers meet in the recording what ours has taken; a print before that touch fills, whoever came for it."""
    matcher = book(*((99, 10, 100, 10) if is_buy else (101, 10, 102, 10)))
    limit = 101 if is_buy else 100
    touch, nearer = (100, 99) if is_buy else (101, 102)
    matcher.take(1, limit, 20, is_buy=is_buy, stp=StpMode.EXPIRE_MAKER)
    for order_id in (1, 2):
        matcher.rest(order_id, limit, 5, is_buy=is_buy)
        assert not matcher.on_trade(touch, 1, buyer_is_maker=not is_buy)
        fills = matcher.on_trade(nearer, 1, buyer_is_maker=is_buy if order_id == 1 else not is_buy)
        assert list(fills) == [Fill(order_id, 5, limit, maker=True)]


def test_opposite_bid_through_our_ask_fills_it() -> None:
    """The same on the other side."""
    matcher = book()
    matcher.rest(1, 102, 5, is_buy=False)
    assert list(matcher.on_quote(102, 9, 103, 9)) == [Fill(1, 5, 102, maker=True)]


def test_touch_that_leaves_our_level_behind_leaves_us_first() -> None:
    """When the best bid falls below ours, nobody is ahead any more; those who come back queue behind us."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(99, 20, 101, 40)
    assert matcher.ahead_lots(1) == 0
    matcher.on_quote(100, 70, 101, 40)
    assert matcher.ahead_lots(1) == 0


def test_size_that_joins_the_level_queues_behind_us() -> None:
    """Growth of the shown size does not push us back."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(100, 500, 101, 40)
    assert matcher.ahead_lots(1) == 50


def test_cancellations_come_from_behind_by_default() -> None:
    """Of 50 ahead and 50 behind, 30 vanish: all 50 are still taken to be ahead; at 40 shown the cap bites."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(100, 100, 101, 40)
    matcher.on_quote(100, 70, 101, 40)
    assert matcher.ahead_lots(1) == 50
    matcher.on_quote(100, 40, 101, 40)
    assert matcher.ahead_lots(1) == 40


def test_cancellations_thin_proportionally_when_chosen() -> None:
    """Of 50 ahead and 50 behind, 30 vanish: 15 of them were ahead."""
    matcher = book(thinning=Thinning.PROPORTIONAL)
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(100, 100, 101, 40)
    matcher.on_quote(100, 70, 101, 40)
    assert matcher.ahead_lots(1) == 35


def test_traded_size_does_not_count_as_cancelled() -> None:
    """A quote that shrinks by what has just traded thins nothing on top."""
    matcher = book(thinning=Thinning.PROPORTIONAL)
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(100, 100, 101, 40)
    sold(matcher, 100, 20)
    matcher.on_quote(100, 80, 101, 40)
    assert matcher.ahead_lots(1) == 30


def test_unknown_place_is_not_filled_by_a_trade_at_its_price() -> None:
    """Without a place in the queue the volume proves nothing; going through does."""
    matcher = book()
    matcher.rest(1, 98, 5, is_buy=True)
    assert sold(matcher, 98, 10_000) == []
    assert sold(matcher, 97, 1) == [Fill(1, 5, 98, maker=True)]


def test_earlier_order_at_a_price_is_filled_first() -> None:
    """Price-time priority among our own: the older first, then what others put between, then the younger."""
    matcher = book(bid_lots=10)
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_quote(100, 16, 101, 40)
    matcher.rest(2, 100, 5, is_buy=True)
    assert sold(matcher, 100, 18) == [Fill(1, 5, 100, maker=True)]
    assert matcher.ahead_lots(2) == 3
    assert sold(matcher, 100, 4) == [Fill(2, 1, 100, maker=True)]


def test_better_order_takes_its_share_of_the_volume_first() -> None:
    """What our better order took in passing is not left for the one at the print's price."""
    matcher = book(bid=90, ask=110)
    matcher.rest(1, 101, 6, is_buy=True)
    matcher.rest(2, 100, 5, is_buy=True)
    assert sold(matcher, 100, 8) == [Fill(1, 6, 101, maker=True), Fill(2, 2, 100, maker=True)]


def test_taker_walks_the_touch_and_modelled_levels() -> None:
    """Every further tick shows the touch's size."""
    taking = book().take(1, None, 90, is_buy=True, stp=StpMode.NONE)
    assert [(fill.price_ticks, fill.lots) for fill in taking.fills] == [(101, 40), (102, 40), (103, 10)]


def test_taken_size_stays_taken_until_the_next_quote() -> None:
    """A second taker starts where the first ended; the next quote shows the market afresh."""
    matcher = book()
    matcher.take(1, None, 50, is_buy=False, stp=StpMode.NONE)
    assert next(matcher.bids.levels(1)) == (99, 50)
    matcher.take(2, 99, 10, is_buy=False, stp=StpMode.NONE)
    assert list(matcher.bids.levels(2)) == [(99, 40), (98, 50)]
    matcher.on_quote(100, 50, 101, 40)
    assert next(matcher.bids.levels(1)) == (100, 50)


def test_levels_end_at_zero_price() -> None:
    """No level is modelled at or below zero."""
    assert len(list(book(bid=3, ask=4).bids.levels(1000))) == 3


def test_limit_stops_the_walk() -> None:
    """A limit order takes nothing beyond its price."""
    taking = book().take(1, 102, 500, is_buy=True, stp=StpMode.NONE)
    assert sum(fill.lots for fill in taking.fills) == 80


def test_unquoted_book_gives_nothing() -> None:
    """Before the first quote there is nothing to take, and no place is known."""
    matcher = Matcher()
    assert not matcher.quoted
    assert matcher.take(1, None, 5, is_buy=True, stp=StpMode.NONE).fills == []
    matcher.rest(2, 100, 5, is_buy=True)
    assert matcher.ahead_lots(2) is None


@pytest.mark.parametrize(
    ("stp", "expired", "taker_expired", "taken"),
    [
        (StpMode.EXPIRE_MAKER, [7], False, 60),
        (StpMode.EXPIRE_TAKER, [], True, 40),
        (StpMode.EXPIRE_BOTH, [7], True, 40),
    ],
)
def test_self_trade_prevention_follows_the_takers_mode(
    stp: StpMode, expired: list[int], taker_expired: bool, taken: int
) -> None:
    """Meeting our own ask behind 40 others expires maker, taker or both (facts 4.4)."""
    matcher = book()
    matcher.rest(7, 101, 5, is_buy=False)
    taking = matcher.take(8, None, 60, is_buy=True, stp=stp)
    assert list(taking.expired_makers) == expired
    assert taking.taker_expired is taker_expired
    assert sum(fill.lots for fill in taking.fills) == taken


def test_self_trade_happens_when_nothing_prevents_it() -> None:
    """Mode NONE fills both sides at the maker's price."""
    matcher = book(ask=110)
    matcher.rest(7, 105, 5, is_buy=False)
    taking = matcher.take(8, 105, 3, is_buy=True, stp=StpMode.NONE)
    assert list(taking.fills) == [Fill(8, 3, 105, maker=False), Fill(7, 3, 105, maker=True)]
    matcher.take(9, 105, 3, is_buy=True, stp=StpMode.NONE)
    assert matcher.asks.orders == []


def test_own_orders_at_one_price_count_once_for_what_can_be_filled() -> None:
    """Two inside the spread, beside each other and before the touch."""
    matcher = book(ask=110, ask_lots=5)
    for order_id in (1, 2):
        matcher.rest(order_id, 105, 3, is_buy=False)
    assert matcher.fillable(105, 6, is_buy=True)
    assert not matcher.fillable(105, 7, is_buy=True)
    assert not matcher.fillable(110, 12, is_buy=True)


def test_own_order_beyond_all_levels_is_met_too() -> None:
    """Where the market shows nothing, our own opposite order can still be crossed."""
    matcher = Matcher()
    matcher.rest(7, 105, 5, is_buy=False)
    assert matcher.would_take(105, is_buy=True)
    assert not matcher.would_take(104, is_buy=True)
    assert matcher.fillable(None, 5, is_buy=True)
    assert not matcher.fillable(None, 6, is_buy=True)


def test_taker_that_ends_ahead_of_our_order_leaves_it_alone() -> None:
    """Within the queue ahead of ours there is no meeting."""
    matcher = book()
    matcher.rest(7, 101, 5, is_buy=False)
    taking = matcher.take(8, None, 40, is_buy=True, stp=StpMode.EXPIRE_MAKER)
    assert list(taking.expired_makers) == []


def test_own_order_with_unknown_place_counts_as_last_of_its_level() -> None:
    """A deeper own ask is met after the modelled size of its level."""
    matcher = book()
    matcher.rest(7, 102, 5, is_buy=False)
    assert list(matcher.take(8, None, 80, is_buy=True, stp=StpMode.EXPIRE_MAKER).expired_makers) == []
    matcher.on_quote(100, 50, 101, 40)
    assert list(matcher.take(9, None, 81, is_buy=True, stp=StpMode.EXPIRE_MAKER).expired_makers) == [7]


def test_shrink_leaves_the_place_in_the_queue() -> None:
    """A reduce-only order cut to the position keeps its place; it never grows."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.shrink(1, 2)
    matcher.shrink(1, 9)
    assert (matcher.bids.orders[0].lots, matcher.ahead_lots(1)) == (2, 50)


def test_removed_order_is_gone() -> None:
    """Removing tells whether the order was there."""
    matcher = book()
    matcher.rest(1, 100, 5, is_buy=True)
    assert matcher.remove(1)
    assert not matcher.remove(1)


def test_hot_path_leaves_deeper_orders_alone() -> None:
    """Quotes that do not reach our orders change nothing about them."""
    matcher = book()
    matcher.rest(1, 90, 5, is_buy=True)
    matcher.rest(2, 120, 5, is_buy=False)
    assert matcher.on_quote(101, 5, 102, 5) == ()
    assert matcher.on_trade(101, 5, buyer_is_maker=True) == ()
    assert (matcher.ahead_lots(1), matcher.ahead_lots(2)) == (None, None)


PRICES = st.integers(min_value=95, max_value=105)
LOTS = st.integers(min_value=1, max_value=30)
STEP = st.one_of(
    st.tuples(st.just("rest"), PRICES, LOTS, st.booleans()),
    st.tuples(st.just("quote"), PRICES, LOTS, LOTS),
    st.tuples(st.just("trade"), PRICES, LOTS, st.booleans()),
    st.tuples(st.just("take"), PRICES, LOTS, st.booleans()),
    st.tuples(st.just("remove"), LOTS, LOTS, st.booleans()),
)


class Watched:
    """A book that is checked after each step for what must hold of every book."""

    def __init__(self, thinning: Thinning) -> None:
        self.matcher = Matcher(thinning)
        self.left: dict[int, int] = {}
        self.price: dict[int, tuple[int, bool]] = {}
        self.count = 0

    def step(self, kind: str, a: int, b: int, c: int) -> None:
        """Do one thing and look at the whole book."""
        getattr(self, kind)(a, b, c)
        self.check_order_of_the_queue()

    def rest(self, price: int, lots: int, is_buy: bool) -> None:
        """Put an order to rest unless it would take."""
        if self.matcher.would_take(price, is_buy=is_buy):
            return
        self.count += 1
        self.left[self.count], self.price[self.count] = lots, (price, is_buy)
        self.matcher.rest(self.count, price, lots, is_buy=is_buy)

    def quote(self, bid: int, bid_lots: int, ask_lots: int) -> None:
        """Only an opposite touch at or through our price fills, and fully."""
        for fill in self.matcher.on_quote(bid, bid_lots, bid + 1, ask_lots):
            price, is_buy = self.price[fill.order_id]
            assert bid + 1 <= price if is_buy else bid >= price
            assert fill.lots == self.left[fill.order_id]
            self.settle(fill)

    def trade(self, price: int, lots: int, sold: bool) -> None:
        """At our price at most volume less queue fills, through our price everything."""
        sides = {True: self.matcher.bids, False: self.matcher.asks}
        ahead = {i: self.matcher.ahead_lots(i) for i in self.left}
        at_price = 0
        for fill in self.matcher.on_trade(price, lots, buyer_is_maker=sold):
            own, is_buy = self.price[fill.order_id]
            if own == price:
                at_price += fill.lots
                before = ahead[fill.order_id]
                assert is_buy is sold
                assert before is not None
                assert fill.lots <= lots - before
            else:
                assert own > price if is_buy else own < price
                assert fill.lots == self.left[fill.order_id]
            self.settle(fill)
        assert at_price <= lots
        for order in (*sides[True].orders, *sides[False].orders):
            before = ahead[order.order_id]
            assert order.ahead_lots == before or (before is not None and order.ahead_lots is not None)
            assert (order.ahead_lots or 0) >= (before or 0) - lots

    def take(self, price: int, lots: int, is_buy: bool) -> None:
        """A taker gets no more than it asked for, within its limit, best price first."""
        self.count += 1
        taking = self.matcher.take(self.count, price, lots, is_buy=is_buy, stp=StpMode.EXPIRE_MAKER)
        assert sum(fill.lots for fill in taking.fills) <= lots
        for fill in taking.fills:
            assert fill.order_id == self.count
            assert fill.price_ticks <= price if is_buy else fill.price_ticks >= price
        prices = [fill.price_ticks for fill in taking.fills]
        assert prices == sorted(prices, reverse=not is_buy)
        for order_id in taking.expired_makers:
            del self.left[order_id]

    def remove(self, order_id: int, _lots: int, _flag: bool) -> None:
        """What rests can be removed once."""
        assert self.matcher.remove(order_id) is (self.left.pop(order_id, None) is not None)

    def settle(self, fill: Fill) -> None:
        """Book a fill: at our price, as maker, within what is left."""
        assert fill.maker
        assert fill.price_ticks == self.price[fill.order_id][0]
        assert 0 < fill.lots <= self.left[fill.order_id]
        self.left[fill.order_id] -= fill.lots
        if not self.left[fill.order_id]:
            del self.left[fill.order_id]

    def check_order_of_the_queue(self) -> None:
        """Orders stand by price, then age, and exactly those that should."""
        seen: dict[int, int] = {}
        for side in (self.matcher.bids, self.matcher.asks):
            scores = [side.toward * order.price_ticks for order in side.orders]
            assert scores == sorted(scores, reverse=True)
            self.check_level(side)
            seen |= {order.order_id: order.lots for order in side.orders}
        assert seen == self.left

    def check_level(self, side: BookSide) -> None:
        """Within a price the older stands before the younger."""
        for older, younger in zip(side.orders, side.orders[1:], strict=False):
            if older.price_ticks == younger.price_ticks:
                assert older.order_id < younger.order_id
                if older.ahead_lots is not None and younger.ahead_lots is not None:
                    assert older.ahead_lots <= younger.ahead_lots
        if side.orders:
            assert side.best_ticks == side.orders[0].price_ticks


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(Thinning), st.lists(STEP, max_size=40))
def test_no_sequence_of_events_flatters_us(
    thinning: Thinning, steps: list[tuple[str, int, int, int]]
) -> None:
    """Fills need a cause, never exceed the volume less the queue, keep price-time priority and conserve lots."""
    watched = Watched(thinning)
    for kind, a, b, c in steps:
        watched.step(kind, a, b, c)


@given(st.integers(min_value=0, max_value=60), LOTS, st.lists(LOTS, max_size=10))
def test_fills_at_a_level_are_what_the_volume_leaves_after_the_queue(
    ahead: int, lots: int, trades: list[int]
) -> None:
    """Over any trades at our price we receive min(our lots, volume - queue), to the lot."""
    side = BookSide(1, Thinning.FROM_BEHIND)
    side.insert(Resting(1, 100, lots, ahead))
    filled = sum(fill.lots for trade in trades for fill in side.trade(100, trade, hits=True))
    assert filled == min(lots, max(0, sum(trades) - ahead))


SNAPSHOT = (((100, 50), (99, 7), (97, 20)), ((101, 40), (103, 5)))


def test_order_joins_behind_the_size_that_the_depth_shows() -> None:
    """Where the market shows its levels the place is known at once: 20 at 97, nobody at 98, unknown below the last."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    for order_id, price in enumerate((97, 98, 96), 1):
        matcher.rest(order_id, price, 5, is_buy=True)
    assert [matcher.ahead_lots(order_id) for order_id in (1, 2, 3)] == [20, 0, None]


def test_level_seen_for_the_first_time_is_taken_to_be_ahead() -> None:
    """A change below the snapshot tells what stands there; so it does without any snapshot."""
    matcher = book()
    matcher.rest(1, 90, 5, is_buy=True)
    matcher.on_depth(((90, 12),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 12


def test_shrinking_level_caps_the_queue_of_a_deeper_order() -> None:
    """Size that vanishes stood behind us, but what is ahead cannot exceed what is shown; growth is behind us."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.rest(1, 97, 5, is_buy=True)
    matcher.on_depth(((97, 33),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 20
    matcher.on_depth(((97, 8),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 8
    matcher.on_depth(((97, 0),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 0


def test_proportional_thinning_counts_no_traded_size_as_vanished() -> None:
    """Of 20 shown 10 traded: the depth that then shows 10 has lost nothing; 10 to 5 halves what is left ahead."""
    matcher = book(thinning=Thinning.PROPORTIONAL)
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.rest(1, 97, 5, is_buy=True)
    assert sold(matcher, 97, 10) == []
    assert matcher.ahead_lots(1) == 10
    matcher.on_depth(((97, 10),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 10
    matcher.on_depth(((97, 5),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 5


def test_sweep_to_a_deeper_level_eats_its_queue_and_then_fills() -> None:
    """20 ahead at 97: a print of 22 there fills two of our five before any quote shows it."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.rest(1, 97, 5, is_buy=True)
    assert sold(matcher, 97, 22) == [Fill(1, 2, 97, maker=True)]


def test_depth_at_the_touch_or_before_it_changes_no_queue() -> None:
    """Quotes are ahead of the depth (bookTicker is usually ahead), so an older size must not thin the touch's queue."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.rest(1, 100, 5, is_buy=True)
    matcher.on_depth(((100, 3),), (), snapshot=False)
    assert matcher.ahead_lots(1) == 50


def test_former_touch_is_remembered_when_a_better_one_comes() -> None:
    """The quote's size at 100 is newer than the depth's."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.on_quote(100, 44, 102, 10)
    matcher.on_quote(101, 5, 102, 10)
    matcher.rest(1, 100, 5, is_buy=True)
    assert matcher.ahead_lots(1) == 44


def test_taker_walks_the_levels_that_are_shown() -> None:
    """40 at 101, nothing at 102, 5 at 103, and beyond the last known level the modelled ones."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    taking = matcher.take(9, None, 50, is_buy=True, stp=StpMode.NONE)
    assert [(fill.price_ticks, fill.lots) for fill in taking.fills] == [(101, 40), (103, 5), (104, 5)]
    assert next(iter(matcher.asks.levels(1))) == (104, 35)


def test_depth_that_is_forgotten_leaves_the_model() -> None:
    """A snapshot without levels says that nothing is known any more: every tick shows the touch's size again."""
    matcher = book()
    matcher.on_depth(*SNAPSHOT, snapshot=True)
    matcher.rest(1, 97, 5, is_buy=True)
    matcher.on_depth((), (), snapshot=True)
    assert matcher.ahead_lots(1) == 20
    assert list(matcher.bids.levels(3)) == [(100, 50), (99, 50), (98, 50)]


@given(
    st.dictionaries(st.integers(80, 99), st.integers(1, 50), max_size=12),
    st.lists(st.tuples(st.integers(80, 99), st.integers(0, 50)), max_size=30),
)
def test_depth_is_the_snapshot_with_the_changes_applied(
    start: dict[int, int], changes: list[tuple[int, int]]
) -> None:
    """Quantities are absolute and 0 deletes (How to manage a local order book correctly)."""
    matcher = book()
    matcher.on_depth(((80, 1), *start.items()), (), snapshot=True)
    expected = {80: 1, **start}
    for price, lots in changes:
        matcher.on_depth(((price, lots),), (), snapshot=False)
        expected[price] = lots
    shown = {price: lots for price, lots in matcher.bids.levels(1000) if price >= 80}
    assert shown == {100: 50, **{price: lots for price, lots in expected.items() if lots}}
