"""What one turn of the event loop reads of the market is taken together, and comes to what it does one by one."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core.context import SymbolContext
from core.events import BookEvent, EventBus
from core.gateway import Gateway
from core.market import MarketDataWorker
from core.model import BookTop
from sim.transport import InMemoryWs, Link
from sim.virtual_time import VirtualClock, run_virtual
from test.sim_factory import Rig
from utils.http import BinanceRest

from .examples import BTC, MARKET_DATA, RISK, context
from .test_gateway import RigLine

MAX_AGE_MS = 3000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LIMITS = replace(RISK, max_price_change=Decimal("0.03"), price_change_window_s=60)


@dataclass(frozen=True)
class Seen:
    """What is known in the end of one symbol."""

    book: BookTop | None
    proven_ns: int
    reasons: tuple[str, ...]
    told_half_ticks: int
    change_bps: object


class Market:
    """A worker for two symbols whose messages a test hands over, with what it has told."""

    def __init__(self) -> None:
        rig = Rig()
        line = RigLine(rig)
        self.now_ms = rig.now_ms
        self.moves: list[tuple[str, int]] = []
        self.told: list[BookEvent] = []
        self.contexts = [self._context(symbol) for symbol in SYMBOLS]
        bus = EventBus(line)
        bus.subscribe(self.told.append, BookEvent)
        self.worker = MarketDataWorker(
            self.contexts,
            Gateway(BinanceRest(line, line), line),
            InMemoryWs(Link(rig.exchange, line)),
            bus,
            line,
            random.Random(1),
            MAX_AGE_MS,
            MARKET_DATA,
        )
        for market in self.worker._markets.values():
            market.learn_mark_price(market.state.mark_price, market.context.rules)
            for text in (f"{price + tenths / 10}" for price in PRICES for tenths in (-1, 0, 1, 3)):
                market.reader.bids.units(text)
                market.reader.asks.units(text)
            for text in ("1.000", "2", "2.000"):
                market.reader.lots.units(text)

    def _context(self, symbol: str) -> SymbolContext:
        made = context(rules=replace(BTC, symbol=symbol), limits=LIMITS)
        made.state.symbol, made.state.book = symbol, None
        made.on_book = lambda of, mid_half_ticks: self.moves.append((of.symbol, mid_half_ticks))
        return made

    def seen(self, context: SymbolContext) -> Seen:
        """What the worker has made of the messages so far."""
        market = self.worker._markets[context.symbol]
        return Seen(
            context.state.book,
            context.state.book_proven_ns,
            context.gate.reasons,
            market.told_half_ticks,
            context.prices.change_bps,
        )

    def books(self, symbol: str) -> list[BookTop]:
        """The books of one symbol that were told of, in the order of their ids and prices."""
        return sorted((fact.book for fact in self.told if fact.symbol == symbol), key=str)

    async def read(self, messages: Sequence[str], *, together: bool) -> None:
        """Have messages read in one turn of the event loop, or each in one of its own."""
        for message in messages:
            self.worker._on_book(message)
            if not together:
                await asyncio.sleep(0)
        await asyncio.sleep(0)


def message(now_ms: int, **changes: Any) -> str:
    """A bookTicker as the stream brings it, at 80 000 unless said otherwise."""
    data = {"e": "bookTicker", "u": 1, "E": now_ms, "T": now_ms, "s": "BTCUSDT"}
    data |= {"b": "80000.0", "B": "1.000", "a": "80000.2", "A": "2.000", **changes}
    return json.dumps({"stream": "x", "data": data})


PRICES = (79_999, 80_000, 80_001, 95_000)
USUALLY = {"u": 9, "late_ms": 0, "s": "BTCUSDT", "bid": 80_000, "tenths": 1, "B": "1.000"}
AT_TIMES = {
    "u": (8, 9, 10),
    "late_ms": (5000,),
    "s": ("ETHUSDT", "XRPUSDT"),
    "bid": PRICES,
    "tenths": (0, -1, 3),
    "B": ("0.000", "-1", "2", "no number"),
}


@st.composite
def some_messages(draw: st.DrawFn) -> list[str]:
    """Ordinary books; one in two is old, late, crossed, empty, too far away, of another symbol, or unreadable."""
    now_ms, made = Rig().now_ms, []
    for _ in range(draw(st.integers(2, 12))):
        values: dict[str, Any] = dict(USUALLY)
        for name in draw(st.sampled_from([(), (), (), *((each,) for each in AT_TIMES), ("u", "late_ms")])):
            values[name] = draw(st.sampled_from(AT_TIMES[name]))
        bid_tenths = 10 * values["bid"]
        changes = {
            "b": f"{bid_tenths / 10}",
            "a": f"{(bid_tenths + values['tenths']) / 10}",
            "B": values["B"],
        }
        made.append(message(now_ms, u=values["u"], E=now_ms - values["late_ms"], s=values["s"], **changes))
        made.extend(["{"] * draw(st.sampled_from([0] * 9 + [1])))
    return made


@given(bursts=st.lists(st.tuples(some_messages(), st.booleans()), min_size=1, max_size=3))
def test_messages_of_one_turn_come_to_what_they_come_to_one_by_one(
    bursts: list[tuple[list[str], bool]],
) -> None:
    """Books, proof, gate and moves; also where the connection is a new one in between."""

    async def play(_clock: VirtualClock) -> None:
        one, other = Market(), Market()
        for messages, is_new in bursts:
            for market, together in ((one, True), (other, False)):
                if is_new:
                    market.worker._books_up()
                await market.read(messages, together=together)
        for _ in range(3):
            await asyncio.sleep(0)
        assert one.moves == other.moves
        for mine, theirs in zip(one.contexts, other.contexts, strict=True):
            assert one.seen(mine) == other.seen(theirs)
            assert one.books(mine.symbol) == other.books(mine.symbol)

    run_virtual(play)


def test_messages_of_the_connection_before_are_not_taken_for_the_new_ones() -> None:
    """They wait for the end of their turn when it comes up."""

    async def play(_clock: VirtualClock) -> None:
        market = Market()
        market.worker._on_book(message(market.now_ms, u=7))
        market.worker._on_book(message(market.now_ms, u=8))
        market.worker._books_up()
        assert market.contexts[0].state.book is not None
        assert market.contexts[0].state.book.update_id == 8
        await market.read([message(market.now_ms, u=3)], together=True)
        assert market.contexts[0].state.book.update_id == 3

    run_virtual(play)


def test_fault_over_a_message_that_came_with_others_ends_the_delivery_at_the_next() -> None:
    """The worker ends by it and is started again, as by a fault over any other message."""

    async def play(_clock: VirtualClock) -> None:
        market = Market()

        def fails(_context: SymbolContext, _mid_half_ticks: int) -> None:
            raise RuntimeError("the orders cannot be looked at")

        market.worker._on_book(message(market.now_ms))
        market.contexts[0].on_book = fails
        market.worker._on_book(message(market.now_ms, u=2, a="80000.4"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="cannot be looked at"):
            market.worker._on_book(message(market.now_ms, u=3))
        market.contexts[0].on_book = lambda _context, _mid_half_ticks: None
        await market.read([message(market.now_ms, u=4)], together=True)
        assert market.contexts[0].state.book is not None
        assert market.contexts[0].state.book.update_id == 4

    run_virtual(play)


@pytest.mark.parametrize("compared", SYMBOLS)
def test_burst_that_comes_behind_a_comparison_is_digested_with_all_that_follows(compared: str) -> None:
    """What that has brought is digested in the middle of the burst, before the rest of it is read."""

    async def play(_clock: VirtualClock) -> None:
        market = Market()
        await market.read([message(market.now_ms, s=symbol) for symbol in SYMBOLS], together=True)
        known = market.worker._markets[compared]
        assert known.state.book is not None
        market.worker._take(known, structs.replace(known.state.book, update_id=2), False)
        for number in range(3, 9):
            ask = f"80000.{number}"
            await market.read([message(market.now_ms, u=number, a=ask)] * 2, together=True)
        await asyncio.sleep(0)
        assert [market.undigested for market in market.worker._markets.values()] == [[], []]
        assert market.books("BTCUSDT")[-1].update_id == 8
        assert market.contexts[0].prices.change_bps > 0

    run_virtual(play)
