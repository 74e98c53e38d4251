"""Levels and trades on the whole daemon: what is missed is noticed and mended, and the quotes stay out there."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from core.analysis import MarketAnalysis
from core.depth_feed import DepthFeed
from core.events import (
    BookEvent,
    ConnectionEvent,
    ConnectionKind,
    DepthEvent,
    EventBus,
    Fact,
    GapEvent,
    SignificantTradeEvent,
    TradeEvent,
)
from core.exit_code import ExitCode
from core.market import MarketDataWorker
from core.market_model import MarketTrade
from core.model import BookTop
from core.symbol_market import SymbolMarket
from utils.clock import Clock
from utils.http import HttpResponse

from . import examples
from .daemon import Sent, World, in_a_world, json_reply

Listen = Callable[[], EventBus]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Listen:
    """Return the bus of the daemon that was started last."""
    made: list[EventBus] = []

    def make(clock: Clock) -> EventBus:
        made.append(EventBus(clock))
        return made[-1]

    monkeypatch.setattr("core.engine.EventBus", make)
    return lambda: made[-1]


def analysis(world: World) -> MarketAnalysis:
    """What the daemon knows of the market."""
    found = world.state.of(world.symbol).analysis
    assert found is not None
    return found


def with_depth(kind: str) -> dict[str, Any]:
    """The configuration with levels."""
    return {"market_data": {"depth": kind}}


async def until_equal(world: World) -> None:
    """Wait until our best levels and the exchange's are of the same update, and compare them."""

    def theirs() -> dict[str, Any]:
        found: dict[str, Any] = world.control("GET", "/fapi/v1/depth", symbol=world.symbol, limit=20)
        return found

    def same_update() -> bool:
        view = analysis(world).depth
        return view is not None and view.update_id == theirs()["lastUpdateId"]

    await world.until(same_update, 5, "levels of the same update")
    view, reply = analysis(world).depth, theirs()
    assert view is not None
    rules = world.exchange._venue.instruments[world.symbol].rules
    for ours, side in ((view.bids, reply["bids"]), (view.asks, reply["asks"])):
        assert [[rules.price_text(price), rules.quantity_text(lots)] for price, lots in ours] == side


@pytest.mark.parametrize("kind", ["top20", "diff"])
def test_levels_are_the_exchanges(tmp_path: Path, kind: str) -> None:
    """Those of the copy that is kept from changes as well as those that are told in full."""

    async def story(world: World) -> None:
        world.start(**with_depth(kind))
        await world.until_quoting()
        for _ in range(5):
            await asyncio.sleep(7)
            await until_equal(world)
        assert analysis(world).depth_gaps == 0
        assert await world.end() is ExitCode.STOPPED
        rows = {row["metric_name"] for row in world.rows()}
        assert {"depth_imbalance", "microprice", "flow_imbalance", "volatility"} <= rows

    in_a_world(tmp_path, story)


def test_missed_change_leads_to_a_new_snapshot_and_the_same_book(tmp_path: Path, listen: Listen) -> None:
    """The gap is told and counted, the copy is made anew within seconds, and the quotes stay out there."""
    heard: list[Fact] = []
    lost: list[str] = []

    def lose_some(message: str) -> float:
        if "depthUpdate" not in message or len(lost) >= 4:
            return 0.0
        lost.append(message)
        return 0.0 if len(lost) < 4 else 1e6

    async def story(world: World) -> None:
        world.start(**with_depth("diff"))
        await world.until_quoting()
        listen().subscribe(heard.append, GapEvent)
        world.late_s = lose_some
        await world.until(lambda: bool(heard), 5, "a gap")
        assert analysis(world).depth is None
        await world.until(lambda: analysis(world).depth is not None, 5, "a new copy")
        await until_equal(world)
        assert analysis(world).depth_gaps == 1
        assert analysis(world).depth_snapshots == 2
        assert world.state.of(world.symbol).book is not None
        await world.watch(5)
        assert await world.end() is ExitCode.STOPPED
        assert world.events("market_gap") == ["depth"]
        assert world.events("engine_event").count("gate_closed") == 1  # by the stop

    in_a_world(tmp_path, story)


def test_snapshot_is_asked_for_until_it_comes(tmp_path: Path) -> None:
    """An exchange that is busy for a while: levels come later, the quotes are there all the same."""
    refused = 0

    async def busy(sent: Sent) -> HttpResponse | None:
        nonlocal refused
        if sent.path != "/fapi/v1/depth" or refused == 3:
            return None
        refused += 1
        return json_reply(503, {"code": -1008, "msg": "Server is currently overloaded."})

    async def story(world: World) -> None:
        world.tamper = busy
        world.start(**with_depth("diff"))
        await world.until_quoting()
        await world.until(lambda: analysis(world).depth is not None, 15, "levels")
        assert refused == 3
        await until_equal(world)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("kind", ["top20", "diff"])
def test_levels_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Once in the log; of the copy a change is missing then, so it is made anew."""

    async def story(world: World) -> None:
        world.start(**with_depth(kind))
        await world.until_quoting()
        feed = next(feed for feed in listening[-1].feeds if isinstance(feed, DepthFeed))
        await world.until(lambda: analysis(world).depth is not None, 5, "levels")
        for _ in range(3):
            feed.stream._on_message('{"stream": "x", "data": {"u": "many"}}')
        await asyncio.sleep(10)
        await until_equal(world)
        assert await world.end() is ExitCode.STOPPED

    listening: list[MarketDataWorker] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.engine.MarketDataWorker", remembering(listening))
        in_a_world(tmp_path, story)
    assert caplog.text.count("levels of the book could not be read") == 1


@pytest.mark.parametrize("price", ["many", "Infinity", ""])
def test_price_that_cannot_be_read_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, price: str
) -> None:
    """One bad message of the book takes nothing down; the next one counts."""
    bad = {"u": 1, "E": 1, "T": 1, "s": "BTCUSDT", "b": price, "B": "1", "a": "64000.1", "A": "1"}

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        before = world.state.of("BTCUSDT").book
        for _ in range(3):
            listening[-1].books._on_message(json.dumps({"stream": "x", "data": bad}))
        assert world.state.of("BTCUSDT").book is before
        await world.watch(3)
        assert world.state.of("BTCUSDT").book is not before
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("gate_closed") == 1  # by the stop

    listening: list[MarketDataWorker] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.engine.MarketDataWorker", remembering(listening))
        in_a_world(tmp_path, story)
    assert caplog.text.count("could not be read") == 1


def test_orders_follow_a_book_before_anybody_is_told_of_it(tmp_path: Path, listen: Listen) -> None:
    """What is worked out from it, and those who listen, may take their time."""
    done: list[str] = []

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        worker, known = listening[-1], world.state.of("BTCUSDT").book
        assert known is not None
        context = worker._markets["BTCUSDT"].context
        loop = asyncio.get_running_loop()
        context.on_book = lambda _context, _mid: loop.call_soon(done.append, "orders")
        listen().subscribe(lambda _: done.append("told"), BookEvent)
        bid = context.rules.price(known.bid_ticks - 10)
        moved = {"u": known.update_id, "E": world.clock.time_ms(), "T": 1, "s": "BTCUSDT"}
        moved |= {"b": f"{bid}", "B": "1", "a": f"{context.rules.price(known.ask_ticks)}", "A": "1"}
        worker._on_book(json.dumps({"stream": "x", "data": moved}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == ["orders", "told"]
        assert await world.end() is ExitCode.STOPPED

    listening: list[MarketDataWorker] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.engine.MarketDataWorker", remembering(listening))
        in_a_world(tmp_path, story)


def test_fault_over_the_books_of_one_symbol_leaves_those_of_another_digested(tmp_path: Path) -> None:
    """What comes later is, too: a book that nobody takes up would have all that follow wait behind it."""

    def fails(_book: BookTop) -> None:
        raise RuntimeError("this cannot be worked out")

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        worker, known = listening[-1], world.state.of("BTCUSDT").book
        assert known is not None
        other = SymbolMarket(examples.context(), examples.MARKET_DATA)
        for faulty, seen in ((True, 0), (False, 1)):
            market = worker._markets["BTCUSDT"]
            market.analysis.on_book = fails if faulty else lambda _book: None  # type: ignore[method-assign]
            for each in (market, other):
                book = structs.replace(known, bid_ticks=known.bid_ticks - seen)
                worker._take(each, book, False)
            await asyncio.sleep(0)
            assert other.undigested == []
            assert len(other.analysis.mids) == seen
        assert await world.end() is ExitCode.STOPPED

    listening: list[MarketDataWorker] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.engine.MarketDataWorker", remembering(listening))
        in_a_world(tmp_path, story)


def remembering(made: list[MarketDataWorker]) -> Callable[..., MarketDataWorker]:
    """Return what makes a worker and keeps it in the list."""

    def make(*parts: Any) -> MarketDataWorker:
        made.append(MarketDataWorker(*parts))
        return made[-1]

    return make


def test_snapshots_become_rarer_while_gaps_go_on(tmp_path: Path) -> None:
    """A stream that loses every tenth event does not spend the weight that orders need."""
    count = 0

    def lose_every_tenth(message: str) -> float:
        nonlocal count
        count += "depthUpdate" in message
        return 1e6 if "depthUpdate" in message and count % 10 == 0 else 0.0

    async def story(world: World) -> None:
        world.late_s = lose_every_tenth
        world.start(**with_depth("diff"))
        await world.until_quoting()
        await asyncio.sleep(120)
        assert 3 < analysis(world).depth_snapshots < 15
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_silent_trade_stream_is_noticed_and_replaced(tmp_path: Path, listen: Listen) -> None:
    """By asking the exchange for its last trade; the quotes have nothing to do with it."""
    heard: list[Fact] = []

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        listen().subscribe(heard.append, ConnectionEvent, GapEvent)
        world.control("POST", "/sim/silence", stream="aggTrade", seconds=50)
        await world.until(lambda: ("trades", ConnectionKind.STALE) in kinds(heard), 45, "the silence noticed")
        await world.until(lambda: ("trades", ConnectionKind.FRESH) in kinds(heard), 60, "trades again")
        assert [fact.stream for fact in heard if isinstance(fact, GapEvent)] == ["trades"]
        assert analysis(world).trade_gaps == 1
        assert not [fact for fact in heard if isinstance(fact, ConnectionEvent) and fact.name == "book"]
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def kinds(facts: list[Fact]) -> list[tuple[str, ConnectionKind]]:
    """The connection events by name and kind."""
    return [(fact.name, fact.kind) for fact in facts if isinstance(fact, ConnectionEvent)]


@pytest.mark.parametrize("kind", ["top20", "diff"])
def test_silent_depth_stream_is_noticed_and_replaced(tmp_path: Path, listen: Listen, kind: str) -> None:
    """Best bid and ask go on without it; the quotes stay."""
    heard: list[Fact] = []

    async def story(world: World) -> None:
        world.start(**with_depth(kind))
        await world.until_quoting()
        listen().subscribe(heard.append, ConnectionEvent)
        world.control("POST", "/sim/silence", stream="depth", seconds=20)
        await world.until(lambda: ("depth", ConnectionKind.STALE) in kinds(heard), 15, "the silence noticed")
        await world.until(lambda: ("depth", ConnectionKind.FRESH) in kinds(heard), 40, "levels again")
        await until_equal(world)
        assert not [name for name, _ in kinds(heard) if name == "book"]
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_market_of_which_nothing_more_is_asked_has_no_more_streams(tmp_path: Path) -> None:
    """Two connections for the market, none for levels and trades; statistics of the touch are there all the same."""

    async def story(world: World) -> None:
        world.start(market_data={"depth": "none", "trades": False})
        await world.until_quoting()
        await asyncio.sleep(3)
        assert analysis(world).trades == 0
        assert analysis(world).depth is None
        assert await world.end() is ExitCode.STOPPED
        values = {row["metric_name"]: float(row["value"]) for row in world.rows()}
        assert "volatility" in values
        assert values["depth_imbalance"] == values["market_trades"] == values["last_trade_price"] == 0
        ups = [row["details"] for row in world.rows() if row["sub_type"] == "up"]
        assert sorted(ups) == ["account", "book", "mark price"]

    in_a_world(tmp_path, story)


def test_every_trade_of_the_market_is_counted(tmp_path: Path, listen: Listen) -> None:
    """As many as the exchange tells another listener; the significant ones are told apart."""
    heard: list[Fact] = []
    told: list[MarketTrade] = []

    def count(message: str) -> float:
        if '"aggTrade"' in message:
            told.append(json.loads(message)["data"]["a"])
        return 0.0

    async def story(world: World) -> None:
        world.late_s = count
        world.start(market_data={"significant_trade_quote": 50_000})
        await world.until(lambda: bool(world.state.symbols), 5, "a start")
        listen().subscribe(heard.append, TradeEvent, SignificantTradeEvent, BookEvent, DepthEvent)
        await asyncio.sleep(60)
        assert await world.end() is ExitCode.STOPPED
        trades = [fact.trade for fact in heard if isinstance(fact, TradeEvent)]
        significant = [fact for fact in heard if isinstance(fact, SignificantTradeEvent)]
        assert [trade.trade_id for trade in trades] == told
        assert analysis(world).trades == len(trades) > 20
        large = [fact for fact in significant if fact.why == "size"]
        assert all(fact.notional_quote >= 50_000 for fact in large)
        assert len(significant) == analysis(world).significant_trades
        assert len(significant) >= 60 / 5 - 1
        assert any(isinstance(fact, BookEvent) for fact in heard)
        assert not any(isinstance(fact, DepthEvent) for fact in heard)

    in_a_world(tmp_path, story)


def test_fault_in_the_statistics_of_trades_leaves_the_quotes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The feed begins anew after a pause; nobody pulls anything."""

    def fail(_analysis: MarketAnalysis, _trade: MarketTrade) -> str:
        raise RuntimeError("the statistics are broken")

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        monkeypatch.setattr(MarketAnalysis, "on_trade", fail)
        await world.until(lambda: "the trades feed failed" in caplog.text, 30, "the fault")
        monkeypatch.undo()
        before = analysis(world).trades
        await world.until(lambda: analysis(world).trades > before, 30, "trades again")
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        assert not [row for row in world.rows() if row["sub_type"] in ("worker_restarted", "worker_gave_up")]

    in_a_world(tmp_path, story)


def test_subscriber_that_hangs_holds_up_nothing(
    tmp_path: Path, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """Quotes are refreshed, prices make room in its queue, and orders wait there for it; the log says so."""

    async def hang(_fact: Fact) -> None:
        await asyncio.Event().wait()

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        subscription = listen().subscribe_async(hang, capacity=100, name="hanging page")
        refreshes = world.refreshes
        await asyncio.sleep(30)
        assert world.refreshes > refreshes
        statistics = subscription.statistics()
        assert statistics.waiting == 100
        assert statistics.dropped > 100
        assert statistics.lost == 0
        assert await world.end() is ExitCode.STOPPED
        assert "some watchers of events are in trouble" in caplog.text
        rows = world.rows()
        assert max(float(row["value"]) for row in rows if row["metric_name"] == "event_queue") == 100
        assert max(float(row["value"]) for row in rows if row["metric_name"] == "events_dropped") > 100

    in_a_world(tmp_path, story)
