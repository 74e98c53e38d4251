"""The market's trades, one message at a time: what counts, what is missing, what is told twice."""

import json
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from core.analysis import MarketAnalysis
from core.events import ConnectionEvent, ConnectionKind, EventBus, Fact, GapEvent, TradeEvent
from core.market_streams import MarketStreams
from core.trade_feed import TradeFeed
from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import Disconnected, NotSent
from utils.http import BinanceRest, HttpResponse
from utils.ws import WsConnection

from .examples import BTC, MARKET_DATA, context


class NoNetwork:
    """Neither connections nor requests."""

    async def connect(self, target: str) -> WsConnection:
        """Refuse."""
        raise Disconnected("there is no network here")

    async def request(self, *_: Any, **__: Any) -> HttpResponse:
        """Refuse."""
        raise NotSent("there is no network here")

    async def close(self) -> None:
        """Have nothing to close."""


class Bench:
    """A feed that is given messages by hand."""

    def __init__(self, clock: VirtualClock) -> None:
        self.bus, self.heard = EventBus(clock), list[Fact]()
        self.bus.subscribe(self.heard.append)
        self.analysis = MarketAnalysis(BTC, MARKET_DATA)
        streams = MarketStreams(NoNetwork(), clock, random.Random(1), self.bus)
        rest = BinanceRest(NoNetwork(), clock)
        self.feed = TradeFeed([context()], {"BTCUSDT": self.analysis}, streams, rest)

    def connect(self) -> None:
        """Have a new connection."""
        self.feed.stream._on_up()

    def tell(self, trade_id: int, **changes: Any) -> None:
        """Have a trade arrive."""
        data = {
            "E": 1,
            "T": 1,
            "s": "BTCUSDT",
            "p": "80000.1",
            "q": "0.5",
            "m": True,
            "a": trade_id,
            **changes,
        }
        self.feed.stream._on_message(json.dumps({"stream": "x", "data": data}))

    @property
    def ids(self) -> list[int]:
        """The trades that were told on."""
        return [fact.trade.trade_id for fact in self.heard if isinstance(fact, TradeEvent)]

    @property
    def gaps(self) -> list[tuple[int, str]]:
        """The gaps that were told."""
        return [(fact.last_id, fact.details) for fact in self.heard if isinstance(fact, GapEvent)]


def bench(scene: Callable[[Bench], None]) -> Bench:
    """Play a scene on virtual time; return what is left of it."""

    async def main(clock: VirtualClock) -> Bench:
        made = Bench(clock)
        scene(made)
        return made

    return run_virtual(main)


def test_missing_trades_are_counted_and_told() -> None:
    """On one connection, and from one to the next."""

    def scene(made: Bench) -> None:
        made.connect()
        for trade_id in (7, 8, 12):
            made.tell(trade_id)
        made.connect()
        made.tell(14)

    played = bench(scene)
    assert played.ids == [7, 8, 12, 14]
    assert played.gaps == [(8, "3 trades are missing"), (12, "1 trades are missing")]
    assert played.analysis.trade_gaps == 2


def test_trade_that_is_told_twice_counts_once() -> None:
    """Also one of long ago; a new connection may begin to count anew."""

    def scene(made: Bench) -> None:
        made.connect()
        for trade_id in (7, 8, 8, 7, 9):
            made.tell(trade_id)
        made.connect()
        made.tell(2)
        made.tell(3)

    played = bench(scene)
    assert played.ids == [7, 8, 9, 2, 3]
    assert played.gaps == []


@pytest.mark.parametrize(
    "changes",
    [
        {"p": "0"},
        {"q": "0"},
        {"s": "ETHUSDT"},
        {"p": "80000.15"},
        {"p": "many"},
        {"m": "yes"},
        {"X": "INSURANCE_FUND"},
    ],
)
def test_what_is_no_trade_of_ours_is_left_out(changes: dict[str, Any]) -> None:
    """No price, no size, another symbol, or a text that cannot be read; the next one counts."""

    def scene(made: Bench) -> None:
        made.connect()
        made.tell(7, **changes)
        made.tell(8)

    assert bench(scene).ids == [8]


def test_trades_that_cannot_be_read_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A broken stream must not fill the disk."""

    def scene(made: Bench) -> None:
        made.connect()
        for trade_id in range(5):
            made.tell(trade_id, p="many")

    with caplog.at_level(logging.WARNING):
        bench(scene)
    assert len([record for record in caplog.records if "could not be read" in record.getMessage()]) == 1


def test_silence_is_compared_and_an_exchange_that_cannot_be_asked_changes_nothing() -> None:
    """Without an answer there is no verdict: no event, and the next round asks again."""

    async def main(clock: VirtualClock) -> Bench:
        made = Bench(clock)
        made.connect()
        await made.feed._compare("BTCUSDT", 35)
        return made

    played = run_virtual(main)
    assert not [
        fact
        for fact in played.heard
        if isinstance(fact, ConnectionEvent) and fact.kind is not ConnectionKind.UP
    ]
