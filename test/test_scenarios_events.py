"""Events and answers that come in another order than things happened, twice, or never: what is known stays true."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from msgspec import structs

from core.exit_code import ExitCode
from core.ledger import Ledger
from sim.orders import Order
from test.daemon import REPLACING, Sent, World, in_a_world, untouched
from utils.http import HttpResponse
from utils.ws import Stream


def fill_resting(world: World, order: Order, lots: int) -> None:
    """Have so many lots of an order of ours trade."""
    venue = world.exchange._venue
    venue.desk.fill_resting(venue.instruments[world.symbol], order, lots, world.clock.time_ms())


def ledger(world: World) -> Ledger:
    """Return the daemon's own books of the symbol."""
    assert world.engine is not None
    return world.engine.contexts[0].ledger


async def equal_books(world: World, seconds: float, *, within_s: float = 1.5) -> None:
    """Let so many seconds pass; fail when the books of orders differ for longer than ``within_s`` at a time."""
    until_s, wrong_since_s = world.now_s + seconds, None
    while world.now_s < until_s:
        await asyncio.sleep(0.1)
        found = world.disagreements()
        if not found:
            wrong_since_s = None
            continue
        wrong_since_s = world.now_s if wrong_since_s is None else wrong_since_s
        assert world.now_s - wrong_since_s < within_s, found


def test_order_that_is_filled_before_it_is_acknowledged_is_filled(tmp_path: Path) -> None:
    """The stream tells of the fill, and seconds later the answer says NEW: the answer is old, the slot free again."""

    async def story(world: World) -> None:
        late: list[str] = []

        async def fill_first(sent: Sent) -> HttpResponse | None:
            if not sent.is_order() or late:
                return None
            late.append(sent.query)
            reply = await sent.deliver()
            [client_id] = parse_qs(sent.query)["newClientOrderId"]
            [order] = [each for each in world.ours() if each.client_order_id == client_id]
            fill_resting(world, order, order.lots)
            await asyncio.sleep(1.5)
            return reply

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        await asyncio.sleep(17)  # in the first seconds open orders are compared often
        world.tamper = fill_first
        await world.until(lambda: bool(late), 10)
        await asyncio.sleep(2)
        await equal_books(world, 2)
        assert world.state.position == world.position() != 0
        assert ledger(world).fill_count == 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_old_events_that_are_told_again_bring_no_order_back_to_life(tmp_path: Path) -> None:
    """Every event of the account comes again after 7 s, when its order has long been cancelled."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.strike("duplicate-events", stream="userData", after_ms=7000, for_s=40)
        await equal_books(world, 45, within_s=1.0)
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert world.events("connection_event").count("reconciled") == 1, "there was nothing to ask about"

    in_a_world(tmp_path, story)


def test_cancel_of_a_filled_order_is_followed_by_one_question(tmp_path: Path) -> None:
    """The account stream is silent, only -2011 tells of it: looked up, settled, not cancelled again and again."""

    async def story(world: World) -> None:
        cancels: list[str] = []

        async def watch(sent: Sent) -> None:
            if sent.method == "DELETE":
                cancels.append(sent.query)

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        filled = world.ours()[0]
        world.control("POST", "/sim/silence", stream="userData", seconds=10)
        world.strike("fill-first", method="DELETE", client_id=filled.client_order_id, times=1)
        world.tamper = watch
        await world.until(lambda: any(filled.client_order_id in query for query in cancels), 7)
        await asyncio.sleep(2.5)
        assert sum(filled.client_order_id in query for query in cancels) <= 2
        assert world.disagreements() == []
        world.tamper = untouched
        await world.until(lambda: world.state.position == world.position() != 0, 10)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_amended_order_keeps_what_was_executed_of_it(tmp_path: Path) -> None:
    """Most of a bid is filled, then the market moves: what rests afterwards is worth a whole quote again."""

    async def story(world: World) -> None:
        world.start(order_management={"modify_threshold": 0, "patience_bps_s": 0})
        await world.until_quoting()
        bid = max((each for each in world.ours() if each.is_buy), key=lambda each: each.price_ticks)
        whole = bid.lots
        fill_resting(world, bid, whole - 1)
        world.control("POST", "/sim/market", symbol=world.symbol, move_bps="3")
        await asyncio.sleep(7)
        assert bid.client_order_id in {each.client_order_id for each in world.ours()}
        assert bid.remaining_lots >= whole - 1  # the price has moved by little: at most a lot less
        assert bid.executed_lots == whole - 1
        assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_fill_that_is_told_again_and_again_counts_once(tmp_path: Path) -> None:
    """By the stream, by the stream a second time, and by REST: books and position move once."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("duplicate-events", stream="userData", after_ms=1500, for_s=20)
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        await asyncio.sleep(0.2)
        for _ in range(150):
            assert world.state.position == world.position()
            await asyncio.sleep(0.1)
        assert ledger(world).fill_count == world.count("fills")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


# --- streams that end ---------------------------------------------------------------------------------------


def test_half_open_account_stream_is_given_up_and_its_fills_are_counted(tmp_path: Path) -> None:
    """Only the account's socket is dead, and nobody says so: our own orders are not told of, so it is replaced."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.strike("half-open-sockets", route="private", at_s=0)
        await asyncio.sleep(1)
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        await asyncio.sleep(16)
        await world.until_quoting()
        assert world.state.position == world.position() != 0
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        await asyncio.sleep(0.3)  # sooner than anybody asks: the stream itself tells
        assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED
        assert "down" in world.events("connection_event")

    in_a_world(tmp_path, story)


def test_stream_that_was_silent_about_an_order_long_taken_is_given_up_soon_after_that_is_known(
    tmp_path: Path,
) -> None:
    """No answer for 12 s, then a look-up: the echo is due since long, and not only 5 s from then on."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        assert world.engine is not None
        known = {order.client_order_id for order in world.ours()}
        world.late_s = lambda message: 1e6 if "ORDER_TRADE" in message else 0.0
        world.lose = lambda method, path: "reply" if (method, path) == ("POST", "/fapi/v1/order") else ""
        await world.until(lambda: bool({order.client_order_id for order in world.ours()} - known), 10)
        stream = world.engine.recovery.stream
        connects = stream.connects
        world.link.half_open()
        world.lose = lambda _method, _path: ""
        await asyncio.sleep(12)
        world.link.restore()
        await world.until(lambda: stream.connects > connects, 5, "another connection")
        world.late_s = lambda _message: 0.0
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        downs = [row["details"] for row in world.rows() if row["sub_type"] == "down"]
        assert any("silent about our orders" in details for details in downs)

    in_a_world(tmp_path, story)


def test_no_quote_leaves_between_late_knowledge_of_an_order_and_the_word_of_the_stream(
    tmp_path: Path,
) -> None:
    """Nothing about orders is answered for 12 s, and the stream is dead: it is replaced before another quote leaves."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING | {"orderbook_refresh_interval": 0.5})
        await world.until_quoting()
        await asyncio.sleep(3.25)  # every echo has come
        assert world.engine is not None
        stream, sent_under = world.engine.recovery.stream, set[int]()
        dead, until_s = stream.connects, world.now_s + 12
        world.late_s = lambda message: 1e6 * ("ORDER_TRADE" in message and stream.connects == dead)

        async def unanswered(sent: Sent) -> HttpResponse | None:
            if world.now_s > until_s:
                if sent.is_order():
                    sent_under.add(stream.connects)
                return None
            if not sent.path.endswith(("/order", "/batchOrders")) or (sent.method == "DELETE" and not placed):
                return None
            placed.append(sent.is_order())
            await sent.deliver()
            await sent.hang()

        placed: list[bool] = []
        world.tamper = unanswered
        await world.until(lambda: stream.connects > dead, 20, "another connection")
        await world.until_quoting()
        assert any(placed)
        assert sent_under == {dead + 1}
        world.tamper = untouched
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_stream_is_held_to_tell_of_an_amendment_whose_answer_was_lost(tmp_path: Path) -> None:
    """No amendment is answered, but each is found by a question to be done: the stream that is silent is replaced."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(3)
        assert world.engine is not None
        stream = world.engine.recovery.stream
        dead, tampered = stream.connects, set[str]()
        world.late_s = lambda message: 1e6 * ("ORDER_TRADE" in message and stream.connects == dead)

        async def unanswered(sent: Sent) -> HttpResponse | None:
            if sent.method != "PUT":
                return None
            tampered.add(sent.path)
            await sent.deliver()
            await sent.hang()

        world.tamper = unanswered
        await world.until(lambda: bool(tampered), 30, "an amendment")
        await world.until(lambda: stream.connects > dead, 9.5, "another connection")
        world.tamper = untouched
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_no_amendment_leaves_between_giving_up_a_stream_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes some turns of the loop until the connection is down; in the very first one the price moves."""
    given_up, amended_under = list[str](), set[int]()
    drop = Stream.drop

    async def story(world: World) -> None:
        def dropped(given: Stream, reason: str) -> None:
            drop(given, reason)
            assert world.engine is not None
            [context] = world.engine.contexts
            book = context.state.book
            assert book is not None
            assert context.gate.is_open
            up = {"bid_ticks": book.bid_ticks + 400, "ask_ticks": book.ask_ticks + 400}
            context.state.book = structs.replace(book, **up)
            context.on_posture(context)
            given_up.append(reason)

        async def counted(sent: Sent) -> None:
            if sent.method == "PUT" and given_up:
                amended_under.add(stream.connects)

        monkeypatch.setattr(Stream, "drop", dropped)
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        stream, world.tamper = world.engine.recovery.stream, counted
        dead = stream.connects
        world.late_s = lambda message: 1e6 * ("ORDER_TRADE" in message and stream.connects == dead)
        await world.until(lambda: stream.connects > dead, 60, "another connection")
        assert given_up == ["silent about our orders"]
        await world.until_quoting()
        assert dead not in amended_under
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_new_account_stream_is_not_blamed_for_orders_that_ended_before_it(tmp_path: Path) -> None:
    """Quotes without an answer end in an outage, by the dead-man switch; look-ups find them, the new stream stays."""

    async def story(world: World) -> None:
        def hears_nothing(method: str, path: str) -> str:
            return "reply" if (method, path) == ("POST", "/fapi/v1/order") else ""

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        known = {order.client_order_id for order in world.ours()}
        world.lose, world.late_s = hears_nothing, lambda message: 1e6 if "ORDER_TRADE" in message else 0.0
        await world.until(lambda: bool({order.client_order_id for order in world.ours()} - known), 10)
        world.link.cut()
        await asyncio.sleep(25)
        assert world.ours() == []
        world.lose, world.late_s = lambda _method, _path: "", lambda _message: 0.0
        world.link.restore()
        await world.until_quoting()
        await asyncio.sleep(15)
        assert await world.end() is ExitCode.STOPPED
        downs = [row["details"] for row in world.rows() if row["sub_type"] == "down"]
        assert downs
        assert not any("silent about our orders" in details for details in downs)

    in_a_world(tmp_path, story)


def test_expired_listen_key_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    """With a notice at once, without one because the stream is silent; afterwards it tells of fills again."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        for notice, within_s in (("true", 5), ("false", 25)):
            world.strike("expire-listen-key", notice=notice, at_s=0)
            await asyncio.sleep(within_s)
            await world.until_quoting()
            fill_resting(world, world.ours()[0], world.ours()[0].lots)
            await asyncio.sleep(0.3)
            assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_fill_in_the_gap_between_two_sockets_is_counted_although_a_later_one_is_told(tmp_path: Path) -> None:
    """The trades lag, so that the next fill is told by the new socket before the one in the gap can be read."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("close-sockets", route="private", at_s=0)
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        world.strike("hide-trades", for_s=3)
        await asyncio.sleep(1.5)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="SELL", quantity="0.003")
        await world.until(lambda: ledger(world).fill_count == 2, 90, "two counted fills")
        await world.until(lambda: world.state.position == world.position(), 5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_fill_while_the_stream_is_down_is_counted_from_the_trades(tmp_path: Path) -> None:
    """The reconnect asks for what was missed: the trade is in the ledger, and no position has to be adopted."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("close-sockets", route="private", at_s=0)
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        await asyncio.sleep(3)
        await world.until_quoting(15)
        assert ledger(world).fill_count == 1
        assert world.state.position == world.position() != 0
        assert await world.end() is ExitCode.STOPPED
        assert "position_adopted" not in world.events("risk_event")

    in_a_world(tmp_path, story)


def test_position_that_no_trade_explains_is_noticed(tmp_path: Path) -> None:
    """A fill of which neither stream nor trades ever tell: soon the books are the exchange's, or nothing is quoted."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("hide-trades", for_s=600)
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", execution="TRADE", for_s=600)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.005")
        await world.until(lambda: world.state.position == world.position() or not world.ours(), 15)
        await asyncio.sleep(10)
        assert world.state.position == world.position() or not world.ours()

    in_a_world(tmp_path, story)


def test_trades_that_leave_the_position_as_it_was_are_counted_soon(tmp_path: Path) -> None:
    """Bought and sold, and told of by no stream: profit and fees have them within twenty seconds."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", execution="TRADE", for_s=2)
        for side in ("BUY", "SELL"):
            world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity="0.005")
        await world.until(lambda: ledger(world).fill_count == 2, 20, "the trades")
        assert ledger(world).fees_in("USDT") > 0
        assert world.state.position == world.position() == 0
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("tells_late", [False, True])
def test_stream_that_tells_of_orders_and_not_of_trades_is_given_up(
    tmp_path: Path, *, tells_late: bool
) -> None:
    """The trade is found by the list of trades; one that is told of late, but in time, is no reason."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        if tells_late:
            world.late_s = lambda message: 3.5 if '"x":"TRADE"' in message else 0.0
        else:
            world.strike("drop-events", event="ORDER_TRADE_UPDATE", execution="TRADE", for_s=9)
        fill_resting(world, world.ours()[0], world.ours()[0].lots)
        await world.until(lambda: ledger(world).fill_count == 1, 3, "the trade")
        await asyncio.sleep(10)
        await world.until_quoting(5)
        assert world.state.position == world.position() != 0
        assert await world.end() is ExitCode.STOPPED
        downs = [row["details"] for row in world.rows() if row["sub_type"] == "down"]
        assert any("silent about trades" in each for each in downs) is not tells_late

    in_a_world(tmp_path, story)
