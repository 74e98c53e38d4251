"""Orders of an earlier run, and from before a change of tick or step: read, cancelled, counted."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from core.risk import known_position
from sim.orders import Side
from test.daemon import Sent, World, in_a_world, json_reply
from test.test_scenarios_events import fill_resting
from utils.http import HttpResponse

NEW_RULES = {"symbol": "BTCUSDT", "tick_size": "0.5", "step_size": "0.002", "min_qty": "0.002", "for_s": 300}


def test_trades_of_an_earlier_run_are_not_waited_for(tmp_path: Path) -> None:
    """A third of an order fills while the new run cancels it: that is in the position with which its books begin."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        world.strike("fill-first", method="DELETE", client_id="qpmm-", fraction=0.34, for_s=6)
        world.start()
        await world.until_quoting(15)
        await asyncio.sleep(10)
        assert world.position() != 0
        assert world.engine is not None
        [context] = world.engine.contexts
        assert context.orders.uncounted_since_ns() is None
        assert await world.end() is ExitCode.STOPPED
        assert world.events("connection_event").count("reconciled") == 1

    in_a_world(tmp_path, story)


def leave_out_of_lists(world: World, client_id: str, seconds: float) -> None:
    """Have the lists of open orders lack this one for so long."""
    until_s = world.now_s + seconds

    async def leave_out(sent: Sent) -> HttpResponse | None:
        if sent.path != "/fapi/v1/openOrders" or world.now_s > until_s:
            return None
        reply = await sent.deliver()
        listed = [order for order in json.loads(reply.body) if order["clientOrderId"] != client_id]
        return json_reply(reply.status, listed)

    world.tamper = leave_out


@pytest.mark.parametrize("trades", ["before the books begin", "before it is known"])
def test_order_of_an_earlier_run_that_is_found_late_and_has_traded_is_done_with_at_once(
    tmp_path: Path, trades: str
) -> None:
    """Lists leave it out for 8 s. Its trade is in the position, or was counted when the account stream told of it."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        old = world.ours()[0]
        await world.vanish()
        leave_out_of_lists(world, old.client_order_id, 8)
        if trades == "before the books begin":
            fill_resting(world, old, 1)
        world.start()
        await world.until_quoting(7, orders=1)
        await world.until(lambda: len(world.ours()) == 7, 7, "quotes, and the order that nobody sees")
        if trades == "before it is known":
            fill_resting(world, old, 1)
        assert world.engine is not None
        [context] = world.engine.contexts
        await world.until(lambda: not old.is_open, 10, "the end of the old order")
        await asyncio.sleep(60)
        assert world.events("connection_event").count("reconciled") <= 3  # the first one is the earlier run's
        assert context.orders.uncounted_since_ns() is None
        assert known_position(context) == world.position() != 0
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_orders_of_an_earlier_run_are_cancelled_whatever_tick_and_step_are_by_now(tmp_path: Path) -> None:
    """Six of 0.003 rest where steps are 0.002 by now, and a third of one fills at its cancel: nobody loses one.

    The same holds for what fills of a new quote: no trade is lost, and no digit of what was executed.
    """

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        old = {order.client_order_id for order in world.ours()}
        await world.vanish()
        world.strike("symbol-rules", **NEW_RULES)
        world.strike("fill-first", method="DELETE", client_id="qpmm-", fraction=0.34, for_s=6)
        world.start()
        await world.until(
            lambda: not any(order.client_order_id in old for order in world.ours()), 6, "a cancel"
        )
        ended = [order for order in world.record()["orders"] if order["clientOrderId"] in old]
        assert {order["status"] for order in ended} == {"CANCELED"}
        assert "0.001" in {order["executedQty"] for order in ended}
        await world.until_quoting(15)

        world.strike("fill-first", method="PUT", client_id="qpmm-", fraction=0.6, for_s=6)
        world.strike("move-market", bps=4)
        filled = len(world.record()["fills"])
        await world.until(lambda: len(world.record()["fills"]) > filled, 5, "a trade of a quote")
        await world.watch(3)
        assert world.engine is not None
        [context] = world.engine.contexts
        assert context.ledger.position_quantity == world.position()
        assert any(order.executed_rest == Decimal("0.001") for order in context.orders.living())
        assert context.orders.uncounted_since_ns() is None
        await world.until(lambda: not world.disagreements(), 5, "that the books agree")
        assert await world.end() is ExitCode.STOPPED
        audit = await world.audit()
        assert audit.problems == []

    in_a_world(tmp_path, story)


TRADES, POSITION = "/fapi/v1/userTrades", "/fapi/v3/positionRisk"


class Torn:
    """A trade of an old order while a new run begins, of which one reading knows nothing for ``lag_s``."""

    def __init__(self, world: World, path: str, lag_s: float, side: Side, *, at_cancel: bool) -> None:
        self._world, self._path, self._lag_s, self._at_cancel = world, path, lag_s, at_cancel
        self._order = next(order for order in world.ours() if order.side is side)
        self._position: HttpResponse | None = None
        self._traded_ms = 0

    async def begin(self) -> None:
        """Keep what the position is now; the trade comes after it."""
        position = await self._world.other_client("GET", POSITION, symbol=self._world.symbol)
        self._position = json_reply(200, position)
        self._world.tamper = self._tamper

    def trade(self) -> None:
        """Have a lot of the order trade."""
        if not self._traded_ms:
            self._traded_ms = self._world.clock.time_ms()
            fill_resting(self._world, self._order, 1)

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if self._at_cancel and sent.method == "DELETE":
            self.trade()
        age_s = (self._world.clock.time_ms() - self._traded_ms) / 1000
        if sent.path != self._path or not self._traded_ms or age_s > self._lag_s:
            return None
        if self._path == POSITION:
            return self._position
        trades = json.loads((await sent.deliver()).body)
        return json_reply(200, [trade for trade in trades if trade["time"] < self._traded_ms])


@pytest.mark.parametrize("at_cancel", [False, True], ids=["before the account stream", "told of by it"])
@pytest.mark.parametrize(
    ("held", "side"),
    [("0", Side.BUY), ("0.004", Side.BUY), ("0.001", Side.SELL)],
    ids=["flat", "held", "closed by it"],
)
@pytest.mark.parametrize(
    ("path", "lag_s", "within_s"),
    [(TRADES, 8, 15), (TRADES, 45, 50), (POSITION, 2.8, 8)],
    ids=["list", "list for long", "position"],
)
def test_books_do_not_begin_with_a_position_and_trades_of_two_moments(
    tmp_path: Path, path: str, lag_s: float, within_s: float, held: str, side: Side, at_cancel: bool
) -> None:
    """An old order trades at the restart, and one reading is behind: no part of the position is unexplained.

    That is waited out, but not for ever.
    """

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        if held != "0":
            world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity=held)
        await asyncio.sleep(5)
        old = {order.client_order_id for order in world.ours()}
        torn = Torn(world, path, lag_s, side, at_cancel=at_cancel)
        await torn.begin()
        await world.vanish()
        if not at_cancel:
            torn.trade()
        world.start()
        await world.until(lambda: old.isdisjoint(each.client_order_id for each in world.ours()), 6)
        await world.until_quoting(within_s)
        assert world.engine is not None
        [context] = world.engine.contexts
        wrong = 0
        for _ in range(450):
            wrong += context.ledger.position_quantity != world.position()
            await asyncio.sleep(0.1)
        assert wrong <= (50 if held == "0.001" else 0)  # a flat position does not say of which moment it is
        assert await world.end() is ExitCode.STOPPED
        assert "position_adopted" not in world.events("risk_event")

    in_a_world(tmp_path, story)
