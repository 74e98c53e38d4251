"""Streams that cannot lie: replaced without a gap, held to their sequence and to the mark price."""

import asyncio
import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from core.engine import Engine
from core.events import BookEvent, ConnectionEvent, ConnectionKind, Fact
from core.exit_code import ExitCode
from sim.fault_file import parse_script
from sim.streams import StreamOptions
from test.daemon import Sent, SlowConnection, World, in_a_world, json_reply, untouched
from utils import ws
from utils.http import HttpResponse
from utils.ws import WsConnection, WsTransport


def connections_of_the_book(world: World) -> list[float]:
    """Return a list that gets the time of each connection of the book's stream from now on."""
    books: list[float] = []

    def watch(fact: Fact) -> None:
        assert isinstance(fact, ConnectionEvent)
        if (fact.name, fact.kind) == ("book", ConnectionKind.UP):
            books.append(world.now_s)

    assert world.engine is not None
    world.engine.bus.subscribe(watch, ConnectionEvent)
    return books


def test_connections_are_replaced_without_a_gap_and_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange's day is 40 s here, ours at most 25: up all the time, every book heard, each fill counted once."""
    monkeypatch.setattr(ws, "ROTATE_AFTER_S", (15.0, 25.0))
    heard: list[int] = []

    async def story(world: World) -> None:
        def watch(fact: Fact) -> None:
            assert isinstance(fact, BookEvent)
            heard.append(fact.book.exchange_ms)

        world.exchange._venue.hub.options = StreamOptions(session_life_ms=40_000)
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        world.engine.bus.subscribe(watch, BookEvent)
        for side in ("BUY", "SELL"):
            await asyncio.sleep(35)
            world.control("POST", "/sim/fill", symbol="BTCUSDT", side=side, quantity="0.002")
            await asyncio.sleep(1)
            assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED
        kinds = world.events("connection_event")
        assert kinds.count("rotated") >= 8
        assert "down" not in kinds
        assert "stale" not in kinds
        assert max(later - earlier for earlier, later in pairwise(heard)) < 3000
        assert world.events("engine_event").count("gate_closed") == 1  # by the stop
        [fills] = {row["value"] for row in world.rows()[-200:] if row["metric_name"] == "fills"}
        assert int(fills) == world.count("fills")

    in_a_world(tmp_path, story)


class DeafSuccessor:
    """Streams on which the second connection of the account brings nothing, and all others what they should."""

    def __init__(self, inner: WsTransport) -> None:
        self._inner = inner
        self._accounts = 0

    async def connect(self, target: str) -> WsConnection:
        """Open a connection."""
        connection = await self._inner.connect(target)
        self._accounts += target.startswith("/private")
        is_deaf = target.startswith("/private") and self._accounts == 2
        return SlowConnection(connection, lambda _message: 1e6) if is_deaf else connection

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


def test_word_of_the_old_connection_proves_nothing_of_the_one_that_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken while there was nothing to say, it has one order at stake, also after the old one has told of others."""
    monkeypatch.setattr(ws, "ROTATE_AFTER_S", (15.0, 15.0))

    async def story(world: World) -> None:
        streams = world._streams
        monkeypatch.setattr(world, "_streams", lambda: DeafSuccessor(streams()))
        world.start(
            refresh_config={"orderbook_refresh_interval": 300},
            order_management={"patience_bps_s": 0, "reset_interval": 0},
        )
        await world.until_quoting()
        assert world.engine is not None
        account = world.engine.recovery.stream
        await world.until(lambda: account.connects == 2, 90, "another connection")
        world.strike("move-market", bps=5)
        await asyncio.sleep(3)
        assert world.events("order_event")[-6:] == ["amended"] * 6
        world.state.strategy_paused = True
        await world.until(lambda: not world.ours(), 2, "quotes that are out")
        world.state.strategy_paused = False
        await world.watch(4, orders=1)
        await world.until_quoting(20)
        assert account.connects == 3
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.001)


def test_update_ids_that_begin_anew_are_noticed_by_the_time_of_the_payload(tmp_path: Path) -> None:
    """The exchange counts from lower on: no book is lost as an old one, and quoting goes on within two seconds."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(13 - world.now_s)
        await world.until_quoting(2)
        await asyncio.sleep(10)
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        assert "began to count anew" in " ".join(row["details"] for row in world.rows())

    faults = parse_script(
        "seed: 1\nfaults:\n  - {fault: sequence-reset, by: 100000, stream: bookTicker, from_s: 12, until_s: 40}\n"
    )
    in_a_world(tmp_path, story, faults=faults)


def test_book_far_from_the_mark_price_is_not_quoted_on(tmp_path: Path) -> None:
    """A mark 15 % off the market is one that cannot be: out by name, and in again when both agree."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        far = "too far from the mark price"
        await world.until(lambda: far in "; ".join(context.gate.reasons), 40, far)
        await world.until(lambda: not world.ours(), 3)
        await world.until_quoting(90)
        assert await world.end() is ExitCode.STOPPED

    faults = parse_script("seed: 1\nfaults:\n  - {fault: mark-offset, bps: 1500, at_s: 12, for_s: 15}\n")
    in_a_world(tmp_path, story, faults=faults)


@pytest.mark.parametrize("events_per_s", [20, 1])
def test_stream_is_not_blamed_for_a_book_too_far_from_the_mark_price(
    tmp_path: Path, events_per_s: float
) -> None:
    """It brings what is refused, and the exchange says the same; in again on the connection that was there."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        world.strike("mark-offset", bps=1500, for_s=60)
        await world.until(lambda: "too far from the mark price" in closed_reasons(world), 40, "a refusal")
        await asyncio.sleep(40)
        assert world.ours() == []
        await world.until_quoting(90)
        assert books == []
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=events_per_s)


async def one_sided(sent: Sent) -> HttpResponse | None:
    """Leave the bids out of what the exchange answers about its book."""
    if not sent.path.endswith("/depth"):
        return None
    whole = json.loads((await sent.deliver()).body)
    return json_reply(200, {**whole, "bids": []})


def test_stream_is_not_blamed_for_a_book_with_one_side(tmp_path: Path) -> None:
    """Told by both ways for most of a minute; a stream that is silent besides is found out as ever."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        world.tamper = one_sided
        world.strike("corrupt-prices", stream="bookTicker", to="zero", for_s=40)
        await asyncio.sleep(35)
        assert world.ours() == []
        assert closed_reasons(world) == "the book is crossed or empty"
        await asyncio.sleep(5)
        world.tamper = untouched
        await world.until_quoting(15)
        assert books == []
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=20)
        await asyncio.sleep(15)
        assert books
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=20)


def test_connection_that_brings_one_book_with_one_side_and_no_more_is_replaced(tmp_path: Path) -> None:
    """Also at a start, where no other book is known: in as soon as the exchange has a whole one."""

    async def story(world: World) -> None:
        def begins(_engine: Engine) -> None:
            world.tamper = one_sided

        world.strike("corrupt-prices", stream="bookTicker", to="zero", for_s=10)
        world.start(watch=begins)
        await world.until(lambda: world.engine is not None, 5, "a start")
        assert world.engine is not None
        [market] = world.engine.market._markets.values()
        await world.until(lambda: market.refused is not None, 5, "a refusal")
        books = connections_of_the_book(world)
        world.late_s = lambda message: 1e6 if "bookTicker" in message and not books else 0.0
        await asyncio.sleep(12 - world.now_s)
        assert market.state.book is None
        world.tamper = untouched
        await world.until_quoting(8)
        assert len(books) == 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=20)


def test_connection_that_brings_nothing_from_the_start_on_is_replaced(tmp_path: Path) -> None:
    """While the exchange does not answer about its book either: after half a minute, as later on."""

    async def story(world: World) -> None:
        books: list[float] = []

        def begins(_engine: Engine) -> None:
            world.strike("error", path="/fapi/v1/depth", reply="internal-503", for_s=120)

        world.late_s = lambda message: 1e6 if "bookTicker" in message and not books else 0.0
        world.start(watch=begins)
        await asyncio.sleep(5)
        books = connections_of_the_book(world)
        await world.until_quoting(40)
        assert len(books) == 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=20)


def test_stream_is_not_blamed_for_what_it_has_brought_and_was_not_believed(tmp_path: Path) -> None:
    """Its own book is later than the one of the answer; that one is not quoted on either."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        known = world.state.of("BTCUSDT").book
        assert known is not None
        assert world.engine is not None

        async def later(sent: Sent) -> HttpResponse | None:
            if not sent.path.endswith("/depth"):
                return None
            whole = json.loads((await sent.deliver()).body)
            bids = [[price, "7.777"] for price, _ in whole["bids"]]
            return json_reply(200, {**whole, "lastUpdateId": known.update_id + 5, "bids": bids})

        world.tamper = later
        bring_crossed_book(world, known.update_id + 9)
        await asyncio.sleep(40)
        assert books == []
        assert world.ours() == []
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.001)


def bring_crossed_book(world: World, update_id: int) -> None:
    """Have the stream bring a book of this moment that cannot be true."""
    assert world.engine is not None
    now_ms = world.clock.time_ms()
    crossed = {"u": update_id, "E": now_ms, "T": now_ms, "s": "BTCUSDT"}
    crossed |= {"b": "64000.1", "B": "1", "a": "64000.0", "A": "1"}
    world.engine.market._on_book(json.dumps({"stream": "x", "data": crossed}))


def test_update_ids_that_begin_anew_after_a_book_that_was_not_believed_are_noticed(tmp_path: Path) -> None:
    """By the time of the answer: a stream that has brought nothing since is replaced, and quoting goes on."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        known = world.state.of("BTCUSDT").book
        assert known is not None

        async def anew(sent: Sent) -> HttpResponse | None:
            if not sent.path.endswith("/depth"):
                return None
            whole = json.loads((await sent.deliver()).body)
            return json_reply(200, {**whole, "lastUpdateId": 5, "T": world.clock.time_ms()})

        bring_crossed_book(world, known.update_id + 9)
        await world.until(lambda: not world.ours(), 3, "quotes that are out")
        world.tamper = anew
        await world.until_quoting(10)
        assert len(books) == 1
        assert await world.end() is ExitCode.STOPPED
        assert "began to count anew" in " ".join(row["details"] for row in world.rows())

    in_a_world(tmp_path, story, events_per_s=0.001)


def test_new_connection_is_not_given_up_while_the_market_has_nothing_to_say(tmp_path: Path) -> None:
    """After one that kept silent it is the next change of the book that opens the gate, however long that takes.

    In this market there is none from 77 s to 117 s.
    """

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        await asyncio.sleep(50 - world.now_s)
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=45)
        await asyncio.sleep(117.7 - world.now_s)
        assert world.ours() == []
        assert books
        assert max(books) < 95
        await world.until_quoting(0.5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.3)


def test_mark_price_that_the_stream_does_not_bring_is_asked_for(tmp_path: Path) -> None:
    """The market rises by 12 % in ten minutes: the quotes stay with it, and no book is refused for an old mark."""
    in_step = {"orderbook_refresh_interval": 5, "min_requote_interval_ms": 0}

    async def story(world: World) -> None:
        world.start(refresh_config=in_step, order_management={"patience_bps_s": 0})
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="markPrice", seconds=700)
        asked = asked_for_the_mark(world)
        for _ in range(240):
            world.strike("move-market", bps=5)
            await asyncio.sleep(2.5)
            assert not closed_reasons(world)
            assert len(world.ours()) == 6
        mark = world.exchange._venue.instruments["BTCUSDT"].mark.mark
        assert mark > 71_000
        assert abs(world.state.mark_price / mark - 1) < Decimal("0.003")
        assert 55 <= asked_for_the_mark(world) - asked <= 61  # once in 10 s
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.001)


def asked_for_the_mark(world: World) -> int:
    """Return how often the mark price was asked for."""
    asked: int = world.record()["requests"].get("GET /fapi/v1/premiumIndex", 0)
    return asked


def asked_for_the_book(world: World) -> int:
    """Return how often the book was asked for."""
    asked: int = world.record()["requests"].get("GET /fapi/v1/depth", 0)
    return asked


def test_book_is_not_asked_for_while_its_stream_is_down(tmp_path: Path) -> None:
    """No answer could open the gate then; once the stream is up again, one does, though the market stands still."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("refuse-handshakes", route="public", for_s=60)
        world.strike("close-sockets", route="public")
        await asyncio.sleep(10)
        assert world.ours() == []
        asked = asked_for_the_book(world)
        await asyncio.sleep(45)
        assert asked_for_the_book(world) == asked
        await world.until_quoting(15)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.001)


def test_book_is_asked_for_once_a_second_while_nothing_is_quoted_for_it(tmp_path: Path) -> None:
    """A stream that brings nothing while the market moves: the answers open no gate, and their weight is needed."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=40)
        await asyncio.sleep(8)
        assert world.ours() == []
        asked = asked_for_the_book(world)
        await asyncio.sleep(30)
        assert 20 <= asked_for_the_book(world) - asked <= 31
        await world.until_quoting(15)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=20)


def closed_reasons(world: World) -> str:
    """Return why nothing is quoted."""
    assert world.engine is not None
    [context] = world.engine.contexts
    return "; ".join(context.gate.reasons)


def test_nothing_is_quoted_while_the_mark_price_is_not_to_be_had(tmp_path: Path) -> None:
    """Neither by the stream nor by asking, for longer than a window of the request limits; the reason says so."""
    said: list[tuple[ConnectionKind, float]] = []

    async def story(world: World) -> None:
        def watch(fact: Fact) -> None:
            assert isinstance(fact, ConnectionEvent)
            if fact.name == "mark price" and fact.kind in (ConnectionKind.STALE, ConnectionKind.FRESH):
                said.append((fact.kind, world.now_s))

        world.start()
        await world.until_quoting()
        assert world.engine is not None
        world.engine.bus.subscribe(watch, ConnectionEvent)
        began_s, asked = world.now_s, asked_for_the_mark(world)
        world.control("POST", "/sim/silence", stream="markPrice", seconds=200)
        world.strike("error", path="/fapi/v1/premiumIndex", reply="internal-503", for_s=90)
        await asyncio.sleep(55)
        assert len(world.ours()) == 6
        await asyncio.sleep(15)
        assert closed_reasons(world) == "the mark price is more than 60 s old"
        assert world.ours() == []
        assert asked_for_the_mark(world) - asked <= 22
        await asyncio.sleep(began_s + 90 - world.now_s)
        await world.until_quoting(10)
        assert [kind for kind, _ in said] == [ConnectionKind.STALE, ConnectionKind.FRESH]
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_run_that_begins_anew_quotes_on_no_mark_price_of_the_run_before(tmp_path: Path) -> None:
    """The tick has changed, and so may have what a price means: nothing goes out before the exchange tells of it."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None

        async def busy(sent: Sent) -> HttpResponse | None:
            is_asked = sent.path == "/fapi/v1/premiumIndex" and world.engine is not first
            return (
                json_reply(503, {"code": -1008, "msg": "Server is currently overloaded."})
                if is_asked
                else None
            )

        world.control("POST", "/sim/silence", stream="markPrice", seconds=300)
        world.tamper = busy
        first._begin_anew("the exchange changed tick or step")
        await world.until(lambda: world.engine is not first, 20, "another run")
        await asyncio.sleep(8)
        assert world.ours() == []
        assert world.state.mark_price == 0
        world.tamper = untouched
        await world.until_quoting(15)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=5)


@pytest.mark.parametrize("lag_s", [5, 30])
def test_old_answer_about_the_mark_price_proves_nothing(tmp_path: Path, lag_s: int) -> None:
    """One that a cache has kept for half a minute is as good as none."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="markPrice", seconds=400)
        await asyncio.sleep(60)
        world.strike("stale-reads", path="/fapi/v1/premiumIndex", lag_s=lag_s, for_s=300)
        await asyncio.sleep(120)
        assert closed_reasons(world) == ("the mark price is more than 60 s old" if lag_s > 10 else "")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_mark_price_that_comes_late_replaces_none_that_is_younger(tmp_path: Path) -> None:
    """What a connection that stood still lets go in the end tells of a market that is no more, and proves nothing."""

    async def story(world: World) -> None:
        def comes(late_s: int) -> bool:
            assert world.engine is not None
            price = world.state.mark_price + 1
            event_ms = world.clock.time_ms() - late_s * 1000
            data = {"e": "markPriceUpdate", "E": event_ms, "s": "BTCUSDT", "p": f"{price}"}
            world.engine.market._on_mark(json.dumps({"stream": "x", "data": data}))
            return world.state.mark_price == price

        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="markPrice", seconds=120)
        await asyncio.sleep(30)
        assert [comes(late_s) for late_s in (40, 15)] == [False, False]
        world.strike("error", path="/fapi/v1/premiumIndex", reply="internal-503", for_s=90)
        await asyncio.sleep(35)
        assert [comes(late_s) for late_s in (60, 15)] == [False, True]
        await asyncio.sleep(35)
        assert closed_reasons(world) == "the mark price is more than 60 s old"
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("silent_s", "connections"), [(0, 0), (70, 2)])
def test_book_that_cannot_be_compared_does_not_end_a_connection_that_may_be_well(
    tmp_path: Path, silent_s: int, connections: int
) -> None:
    """In a market that stands still nothing shows that it is silent. One that stays mute is replaced, less often."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        books = connections_of_the_book(world)
        failing_s = max(silent_s, 20)
        world.strike("error", path="/fapi/v1/depth", reply="internal-503", for_s=failing_s)
        if silent_s:
            world.control("POST", "/sim/silence", stream="bookTicker", seconds=silent_s)
        await asyncio.sleep(failing_s)
        assert world.ours() == []
        await world.until_quoting(5)
        assert len(books) == connections
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=20 if silent_s else 0.001)
