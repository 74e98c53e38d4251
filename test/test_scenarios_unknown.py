"""Orders of which an answer says nothing, or the wrong thing: each counts as resting until more is known."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

from core.exit_code import ExitCode
from core.model import OrderStatus
from test.daemon import REPLACING, Sent, World, in_a_world, json_reply, untouched
from utils.errors import OutcomeUnknown
from utils.http import HttpResponse

OPEN_503 = (
    json_reply(503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}),
    json_reply(503, {"code": -1001, "msg": "Internal error; unable to process your request."}),
    HttpResponse(503, {"content-type": "text/html"}, b"<html>503</html>"),
    HttpResponse(503, {}, b""),
)
"""Each of them may come after the order was executed."""
LATE_S = 8.0
THIRTY_QUOTES = {"levels": 15, "quantity_per_order_usdt": 130}
"""Three times as many as one request cancels."""

Mislead = Callable[[Sent], Awaitable[HttpResponse]]


class OnePlacement:
    """The next placement is answered as ``mislead`` says; the account stream tells of it ``LATE_S`` later.

    So long the list of open orders leaves it out, too, so that what became of it has to be found out by its id.
    """

    def __init__(self, world: World, mislead: Mislead) -> None:
        self.client_id = ""
        self._world = world
        self._listed_s = 0.0
        self._mislead = mislead
        world.tamper = self._tamper
        world.late_s = lambda message: LATE_S if self.client_id and self.client_id in message else 0.0

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v1/openOrders" and self._world.now_s < self._listed_s:
            return self._without_it(await sent.deliver())
        if not sent.is_order() or self.client_id:
            return None
        self.client_id = parse_qs(sent.query)["newClientOrderId"][0]
        self._listed_s = self._world.now_s + LATE_S
        return await self._mislead(sent)

    def _without_it(self, reply: HttpResponse) -> HttpResponse:
        listed = [order for order in json.loads(reply.body) if order["clientOrderId"] != self.client_id]
        return json_reply(reply.status, listed)


async def _never_doubled(world: World, mislead: Mislead) -> None:
    """Let one placement be answered so: no slot is filled twice, and the order is got out or taken up.

    Not within the first seconds, in which open orders are compared often.
    """
    await world.until_quoting(20)
    await asyncio.sleep(17)
    placement = OnePlacement(world, mislead)
    await world.until(lambda: bool(placement.client_id), 10)
    await world.watch(14)
    assert world.forgotten(12) == []
    world.tamper, world.late_s = untouched, lambda _message: 0.0


async def _done_and_answered(reply: HttpResponse, sent: Sent) -> HttpResponse:
    await sent.deliver()
    return reply


def test_every_503_that_leaves_the_outcome_open_is_no_refusal(tmp_path: Path) -> None:
    """The order was executed and the stream is late: its slot stays taken, whatever the text of the 503."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        for reply in OPEN_503:
            await _never_doubled(world, partial(_done_and_answered, reply))
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


async def _done_without_an_answer(sent: Sent) -> HttpResponse:
    await sent.deliver()
    await sent.hang()


def test_create_without_an_answer_holds_its_slot(tmp_path: Path) -> None:
    """The order rests, the answer never comes and the stream is late: nothing else is placed in its slot."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await _never_doubled(world, _done_without_an_answer)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_order_that_cancels_without_a_readable_answer_do_not_clear_up_is_looked_up(tmp_path: Path) -> None:
    """Neither placement nor cancels are answered so that one could read it, and the stream is late: questions are."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting(20)
        await asyncio.sleep(17)
        placement = OnePlacement(world, _done_without_an_answer)
        placing = world.tamper

        async def short(sent: Sent) -> HttpResponse | None:
            if sent.method != "DELETE" or not placement.client_id:
                return await placing(sent)
            await sent.deliver()
            return json_reply(200, [])

        world.tamper = short
        await world.until(lambda: bool(placement.client_id), 10)
        assert world.engine is not None
        order = world.engine.contexts[0].orders.find(placement.client_id)
        assert order is not None
        await world.until(lambda: order.status.is_terminal, LATE_S - 2, "what became of the order")
        world.tamper, world.late_s = untouched, lambda _message: 0.0
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_not_found_is_not_believed_of_an_order_that_may_still_come(tmp_path: Path) -> None:
    """The connection is reset and the request arrives 1.5 s later: a cancel and a question before find nothing."""

    async def story(world: World) -> None:
        on_its_way: list[asyncio.Task[HttpResponse]] = []

        async def arrive(sent: Sent) -> HttpResponse:
            await asyncio.sleep(1.5)
            return await sent.deliver()

        async def reset(sent: Sent) -> HttpResponse:
            on_its_way.append(asyncio.get_running_loop().create_task(arrive(sent)))
            raise OutcomeUnknown("reset by peer")

        world.start(refresh_config=REPLACING)
        await _never_doubled(world, reset)
        assert on_its_way[0].result().status == 200
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_duplicate_client_id_means_that_the_order_exists(tmp_path: Path) -> None:
    """The network delivers a placement twice and the second answer (-4116) is the one that comes back."""

    async def story(world: World) -> None:
        async def twice(sent: Sent) -> HttpResponse:
            await sent.deliver()
            second = await sent.deliver()
            assert b"-4116" in second.body
            return second

        world.start(refresh_config=REPLACING)
        await _never_doubled(world, twice)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_orders_that_a_list_leaves_out_are_not_taken_for_cancelled(tmp_path: Path) -> None:
    """Quotes have to go while cancels are lost and the list of open orders is empty: they count as resting."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        hidden_until_s = world.now_s + 12

        async def hide(sent: Sent) -> HttpResponse | None:
            if world.now_s > hidden_until_s:
                return None
            if sent.method == "DELETE":
                return OPEN_503[0]
            return json_reply(200, []) if sent.path == "/fapi/v1/openOrders" else None

        world.tamper = hide
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=5)
        await world.watch(30)
        await asyncio.sleep(5)
        await world.until_quoting(20)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_order_that_rests_under_the_id_of_one_that_has_ended_is_taken_out(tmp_path: Path) -> None:
    """The network may bring a request twice, the second time after the end of the first order.

    It is far from the others, the account stream tells of it as of something old, and no reset would find it.
    """

    async def story(world: World) -> None:
        world.start(order_management={"reset_interval": 0})
        await world.until_quoting()
        quote = min(world.ours(), key=lambda order: order.price_ticks)
        client_id, price = quote.client_order_id, f"{quote.price_ticks // 10 - 100}"
        await world.other_client("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=client_id)
        await world.until_quoting()
        await asyncio.sleep(8)
        placed = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTX"}
        again = {"quantity": "0.003", "price": price, "newClientOrderId": client_id}
        await world.other_client("POST", "/fapi/v1/order", **placed, **again)
        await world.until(
            lambda: client_id not in {order.client_order_id for order in world.ours()}, 12, "its end"
        )
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_question_that_fails_after_a_cancel_holds_up_no_other_cancel(tmp_path: Path) -> None:
    """One of thirty quotes is gone when all are cancelled, and no question about it is answered: the others go."""

    async def story(world: World) -> None:
        questions: list[Sent] = []

        async def leave_unanswered(sent: Sent) -> HttpResponse | None:
            if (sent.method, sent.path) != ("GET", "/fapi/v1/order"):
                return None
            questions.append(sent)
            return OPEN_503[0]

        world.start(order_config=THIRTY_QUOTES)
        await world.until_quoting(20, orders=30)
        assert world.engine is not None
        [context] = world.engine.contexts
        gone = context.orders.living()[10]
        world.control("POST", "/sim/silence", stream="userData", seconds=10)
        world.strike("fill-first", method="DELETE", client_id=gone.client_id, times=1)
        world.tamper = leave_unanswered
        context.gate.close("test", "the quotes have to go")
        await world.until(lambda: not world.ours(), 0.2, "quotes that are out")
        assert gone.cancel_requested
        await world.until(lambda: bool(questions), 1)
        context.gate.open("test")
        world.tamper = untouched
        await world.until(lambda: gone.status is OrderStatus.FILLED, 5, "the answer of a later question")
        await world.until(lambda: len(world.ours()) > 20, 20, "quotes that are back")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_batch_of_cancels_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """The exchange is too busy for ten of thirty, however often it is asked: the others are out at once."""

    async def story(world: World) -> None:
        world.start(order_config=THIRTY_QUOTES)
        await world.until_quoting(20, orders=30)
        assert world.engine is not None
        [context] = world.engine.contexts
        refused = context.orders.living()[10].client_id

        async def be_busy(sent: Sent) -> HttpResponse | None:
            if sent.method == "DELETE" and refused in sent.query:
                return json_reply(503, {"code": -1008, "msg": "Server is currently overloaded"})
            return None

        world.tamper = be_busy
        context.gate.close("test", "the quotes have to go")
        await world.until(lambda: len(world.ours()) == 10, 0.2, "twenty quotes that are out")
        world.tamper = untouched
        await world.until(lambda: not world.ours(), 5, "the other ten")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_list_that_still_shows_what_was_just_cancelled_takes_no_quote_out(tmp_path: Path) -> None:
    """It lags 3 s behind, and each price that moves has orders replaced."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.strike("stale-reads", path="/fapi/v1/openOrders", lag_s=3, for_s=30)
        for bps in (3, -3) * 5:
            world.strike("move-market", bps=bps)
            await asyncio.sleep(3)
        assert sum(order["status"] == "CANCELED" for order in world.record()["orders"]) > 20
        assert world.events("connection_event").count("reconciled") == 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_nothing_leaves_once_a_stop_was_asked_for(tmp_path: Path) -> None:
    """The stop comes in the middle of a refresh, between cancels and placements: these are not sent any more."""

    async def story(world: World) -> None:
        late: list[str] = []

        async def stop_at_cancel(sent: Sent) -> HttpResponse | None:
            if sent.method == "DELETE" and not world.stop.is_wanted:
                reply = await sent.deliver()
                world.stop.ask("in the middle")
                await asyncio.sleep(0.2)
                return reply
            if world.stop.is_wanted and sent.method in ("POST", "PUT") and "rder" in sent.path:
                late.append(f"{sent.method} {sent.path}")
            return None

        running = world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.tamper = stop_at_cancel
        async with asyncio.timeout(15):
            assert await running is ExitCode.STOPPED
        assert late == []
        assert world.open_orders() == []

    in_a_world(tmp_path, story)
