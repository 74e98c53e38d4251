"""Readings that lag, replies that mislead and streams that are late: nothing is believed too early."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from core.exit_code import ExitCode
from test.daemon import REPLACING, Sent, World, in_a_world, json_reply
from utils.http import HttpResponse

NOT_FOUND = json_reply(400, {"code": -2013, "msg": "Order does not exist."})


# --- orders whose fate is unknown ---------------------------------------------------------------------------


def test_order_behind_an_internal_error_is_found_when_it_was_placed(tmp_path: Path) -> None:
    """A 503 with -1001 proves nothing: the order rests, is taken up, and nothing is left at the end."""

    async def story(world: World) -> None:
        misled: list[Sent] = []

        async def mislead(sent: Sent) -> HttpResponse | None:
            if not sent.is_order() or misled:
                return None
            misled.append(sent)
            await sent.deliver()
            return json_reply(503, {"code": -1001, "msg": "Internal error; unable to process your request."})

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.tamper = mislead
        await world.watch(30)
        assert misled
        assert world.forgotten(15) == []
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


class Ghost:
    """One placement that gets no answer, and of which queries and account stream know nothing for ``hidden_s``."""

    def __init__(self, world: World, hidden_s: float, *, on_stream: bool) -> None:
        self.world = world
        self.hidden_s = hidden_s
        self.client_id = ""
        self._placed_s = 0.0
        world.tamper = self._tamper
        if on_stream:
            world.late_s = self._late_s

    @property
    def _is_hidden(self) -> bool:
        return bool(self.client_id) and self.world.now_s - self._placed_s < self.hidden_s

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if sent.is_order() and not self.client_id:
            self.client_id = parse_qs(sent.query)["newClientOrderId"][0]
            self._placed_s = self.world.now_s
            await sent.deliver()
            await sent.hang()
        asked = sent.method == "GET" and sent.path == "/fapi/v1/order" and self.client_id in sent.query
        return NOT_FOUND if asked and self._is_hidden else None

    def _late_s(self, message: str) -> float:
        return self.hidden_s if self.client_id and self.client_id in message else 0.0


@pytest.mark.parametrize(
    ("hidden_s", "on_stream", "refresh_s"), [(10, False, 5), (7, True, 5), (8, True, 15), (8, True, 1)]
)
def test_order_that_queries_do_not_find_yet_is_not_doubled(
    tmp_path: Path, hidden_s: float, on_stream: bool, refresh_s: int
) -> None:
    """Its slot stays taken until a cancel finds nothing, and it does not rest on unknown."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": refresh_s, **REPLACING})
        await world.until_quoting()
        ghost = Ghost(world, hidden_s, on_stream=on_stream)
        await world.until(lambda: bool(ghost.client_id), 20)
        await world.watch(45)
        assert ghost.client_id not in [order.client_order_id for order in world.ours()]
        assert world.forgotten(2 * refresh_s + 5) == []
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("behind_s", "at_most"), [(1, 6), (8, 12)])
def test_orders_of_a_crashed_run_that_are_not_shown_yet_are_found_later(
    tmp_path: Path, behind_s: float, at_most: int
) -> None:
    """A copy that shows no open orders at the restart: the audit finds what it hid, and all of it goes."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        left = {order.client_order_id for order in world.ours()}
        shown_s = world.now_s + behind_s

        async def show_nothing(sent: Sent) -> HttpResponse | None:
            is_behind = sent.path == "/fapi/v1/openOrders" and world.now_s < shown_s
            return json_reply(200, []) if is_behind else None

        world.tamper = show_nothing
        world.start()
        await world.watch(35, orders=at_most)
        assert left.isdisjoint(order.client_order_id for order in world.ours())
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


# --- market data that is late -------------------------------------------------------------------------------


def test_book_stream_that_is_suddenly_late_is_not_quoted_on(tmp_path: Path) -> None:
    """Twenty seconds behind: out within five, and not in again while it lasts."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.late_s = lambda message: 20.0 if "bookTicker" in message else 0.0
        await world.until(lambda: not world.ours(), 5)
        await world.watch(45, orders=0)
        world.late_s = lambda _message: 0.0
        await world.until_quoting(40)
        assert await world.end() is ExitCode.STOPPED
        assert "stale" in world.events("connection_event")

    in_a_world(tmp_path, story)


def test_book_stream_that_falls_behind_bit_by_bit_is_not_quoted_on(tmp_path: Path) -> None:
    """It never pauses, but each message is later than the one before: its age counts from the exchange's time."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        began_s = world.now_s
        world.late_s = lambda message: (
            min((world.now_s - began_s) * 0.3, 15.0) if "bookTicker" in message else 0.0
        )
        await world.until(lambda: not world.ours(), 20)  # 3 s behind after 13 s
        await asyncio.sleep(20)
        await world.watch(45, orders=0)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


# --- trades and positions -----------------------------------------------------------------------------------


def test_position_that_is_read_late_is_not_adopted(tmp_path: Path) -> None:
    """Readings 2.5 s behind contradict a fill that the stream brought at once; the stream is right."""

    async def story(world: World) -> None:
        read: list[tuple[float, HttpResponse]] = []

        async def read_late(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v3/positionRisk":
                return None
            read.append((world.now_s, await sent.deliver()))
            old = [reply for at_s, reply in read if at_s <= world.now_s - 2.5]
            return old[-1] if old else read[0][1]

        world.start()
        await world.until_quoting()
        world.tamper = read_late
        await asyncio.sleep(5)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        await asyncio.sleep(0.2)
        for _ in range(200):
            assert world.state.position == world.position()
            assert not world.engine or world.engine.contexts[0].gate.is_open
            await asyncio.sleep(0.1)
        assert await world.end() is ExitCode.STOPPED
        assert "position_adopted" not in world.events("risk_event")


def test_reading_that_never_catches_up_is_believed_after_a_while(tmp_path: Path) -> None:
    """It bears an old time for ever: 10 s after the fill it counts, and the books follow it."""

    async def story(world: World) -> None:
        async def read_late(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v3/positionRisk":
                return None
            [row] = json.loads((await sent.deliver()).body)
            return json_reply(200, [{**row, "positionAmt": "0.004", "updateTime": 1}])

        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        await world.until(lambda: world.state.position == world.position(), 5)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        world.tamper = read_late
        took_s = await world.until(lambda: world.state.position == Decimal("0.004"), 30, "belief")
        assert took_s > 9

    in_a_world(tmp_path, story)

    in_a_world(tmp_path, story)


def test_trade_that_is_told_after_its_position_was_adopted_is_not_counted_twice(tmp_path: Path) -> None:
    """Stream and trades say nothing of a fill for seconds, the position does; the trade itself comes later."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="userData", seconds=4)
        await asyncio.sleep(0.5)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        hidden_until_s = world.now_s + 9

        async def hide_trades(sent: Sent) -> HttpResponse | None:
            is_hidden = sent.path == "/fapi/v1/userTrades" and world.now_s < hidden_until_s
            return json_reply(200, []) if is_hidden else None

        world.tamper = hide_trades
        await world.until(lambda: world.state.position == world.position(), 8)
        for _ in range(800):
            assert world.state.position == world.position()
            await asyncio.sleep(0.1)
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("position_adopted") == 1
        assert _last(world, "fills") == "1"

    in_a_world(tmp_path, story)


def _last(world: World, name: str) -> str:
    return [row["value"] for row in world.rows() if row["metric_name"] == name][-1]


def test_trades_from_before_the_start_are_not_counted(tmp_path: Path) -> None:
    """An account whose last trades are older than what the exchange shows unasked: none of them is of this run."""

    async def story(world: World) -> None:
        for side in ("BUY", "SELL") * 2:
            world.control("POST", "/sim/fill", symbol="BTCUSDT", side=side, quantity="0.003")
        before = world.count("fills")

        async def show_no_old_ones(sent: Sent) -> HttpResponse | None:
            is_plain = sent.path == "/fapi/v1/userTrades" and "fromId" not in sent.query
            return json_reply(200, []) if is_plain and "startTime" not in sent.query else None

        await asyncio.sleep(1)
        world.tamper = show_no_old_ones
        world.start()
        await world.until_quoting()
        await asyncio.sleep(70)
        assert await world.end() is ExitCode.STOPPED
        assert int(_last(world, "fills")) == world.count("fills") - before

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("late_s", [0.7, 1.8])
def test_executions_whose_trades_are_late_leave_no_room_for_more_quotes(
    tmp_path: Path, late_s: float
) -> None:
    """With room for one side only: a fill known from its order's status counts against the limit at once."""
    limit_quote = Decimal(750)

    async def story(world: World) -> None:
        world.late_s = lambda message: late_s if '"x":"TRADE"' in message else 0.0
        world.start(
            initial_capital=750,
            order_config={"price_offset_percent": 0.01},
            refresh_config={"orderbook_refresh_interval": 1},
        )
        await world.until_quoting()
        for _ in range(180 * 20):
            assert world.worst_case_quote() <= limit_quote * Decimal("1.02")
            await asyncio.sleep(0.05)
        assert world.count("fills") >= 10
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_refusal_that_comes_after_the_order_is_told_of_ends_nothing(tmp_path: Path) -> None:
    """An order of which the account stream has told lives on, in its slot, whatever a late reply says of it."""

    async def story(world: World) -> None:
        refused: list[str] = []

        async def contradict(sent: Sent) -> HttpResponse | None:
            if sent.method != "POST" or sent.path != "/fapi/v1/order" or len(refused) >= 6:
                return None
            await sent.deliver()
            refused.append(sent.path)
            await asyncio.sleep(0.5)
            return json_reply(400, {"code": -2010, "msg": "NEW_ORDER_REJECTED"})

        world.tamper = contradict
        world.start()
        for _ in range(400):
            await asyncio.sleep(0.02)
            assert len(world.ours()) <= 6
        assert len(refused) == 6
        assert "rejected" not in world.events("order_event")
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)
