"""What an owner asks of amend-first: nothing rests unwatched, or for longer than it may, while answers stay away."""

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from core.exit_code import ExitCode
from test.daemon import Sent, World, in_a_world, json_reply, untouched
from utils.http import HttpResponse

AMEND = {"refresh_mode": "amend"}


def is_amend(sent: Sent) -> bool:
    """Tell whether this amends orders."""
    return sent.method == "PUT" and sent.path in ("/fapi/v1/order", "/fapi/v1/batchOrders")


def refused_amend(sent: Sent, code: int) -> HttpResponse:
    """Return the reply that refuses each amendment of a request with this code."""
    error = {"code": code, "msg": "refused"}
    if sent.path == "/fapi/v1/order":
        return json_reply(400, error)
    return json_reply(200, [error] * len(json.loads(parse_qs(sent.query)["batchOrders"][0])))


def move(world: World, bps: int) -> None:
    """Let the market stand that much higher, or lower, from now on."""
    world.control("POST", "/sim/market", symbol=world.symbol, move_bps=str(bps))


@pytest.mark.parametrize("seconds", [1, 20])
def test_refused_amendment_whose_order_cannot_be_looked_up_is_asked_about_later(
    tmp_path: Path, seconds: float
) -> None:
    """The question about it fails too: no worker dies of that, and it is asked again until there is an answer."""

    async def story(world: World) -> None:
        refused: list[float] = []
        answered: list[float] = []

        async def fail(sent: Sent) -> HttpResponse | None:
            if is_amend(sent) and not refused:
                refused.append(world.now_s)
                return refused_amend(sent, -2013)
            if sent.method == "GET" and sent.path == "/fapi/v1/order":
                if world.now_s < refused[0] + seconds:
                    return json_reply(500, {"code": -1000, "msg": "unknown error"})
                answered.append(world.now_s)
            return None

        world.start(refresh_config=AMEND)
        await world.until_quoting()
        world.tamper = fail
        move(world, 4)
        await world.until(lambda: bool(answered), seconds + 10, "a question about the order")
        await world.watch(5)
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("interval_s", [0.5, 1])
def test_order_in_doubt_is_got_out_although_a_refresh_is_due_at_every_turn(
    tmp_path: Path, interval_s: float
) -> None:
    """With an interval of a second or less there is no idle turn; the doubt is settled, and the slot filled again."""

    async def story(world: World) -> None:
        lost: list[Sent] = []

        async def lose_once(sent: Sent) -> HttpResponse | None:
            if sent.is_order() and not lost:
                lost.append(sent)
                await sent.hang()
            return None

        world.tamper = lose_once
        world.start(refresh_config={**AMEND, "orderbook_refresh_interval": interval_s, "on_move": False})
        await world.until_quoting(15)
        assert lost
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("what", ["an amendment", "a question"])
def test_quotes_are_out_at_once_when_the_gate_closes_while_an_answer_stays_away(
    tmp_path: Path, what: str
) -> None:
    """The price leaps while the one who keeps the orders waits for an answer: the cancels do not wait with him."""

    async def story(world: World) -> None:
        hanging: list[Sent] = []

        async def hang(sent: Sent) -> HttpResponse | None:
            if is_amend(sent) and what == "a question" and not hanging:
                return refused_amend(sent, -2013)
            is_hanging = is_amend(sent) if what == "an amendment" else sent.path == "/fapi/v1/order"
            if is_hanging:
                hanging.append(sent)
                await sent.hang()
            return None

        world.start(refresh_config=AMEND)
        await world.until_quoting()
        world.tamper = hang
        move(world, 4)
        await world.until(lambda: bool(hanging), 10)
        move(world, 500)
        await world.until(lambda: not world.ours(), 0.3, "quotes that are out")
        await world.watch(10, orders=0)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_silent_account_stream_is_given_up_although_nothing_but_amendments_is_sent(tmp_path: Path) -> None:
    """Who amends places seldom: an amendment has to echo on the stream, as a new order has, however many follow."""

    async def story(world: World) -> None:
        world.start(
            refresh_config={**AMEND, "orderbook_refresh_interval": 1},
            order_management={"modify_threshold": 0, "patience_bps_s": 0},
        )
        await world.until_quoting()
        await asyncio.sleep(6)
        placed = world.count("orders")
        world.late_s = lambda message: 1e6 if "ORDER_TRADE_UPDATE" in message else 0.0
        await world.until(lambda: world.count("orders") > placed, 9, "new orders after a reconciliation")
        world.late_s = lambda _message: 0.0
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        downs = [row["details"] for row in world.rows() if row["sub_type"] == "down"]
        assert any("silent about our orders" in details for details in downs)

    in_a_world(tmp_path, story)


def test_silent_account_stream_is_given_up_although_nothing_is_sent_but_cancels(tmp_path: Path) -> None:
    """The quotes are pulled while it is dead: it is replaced before the first quote that nobody would hear of."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(6)
        assert world.engine is not None
        [context], stream = world.engine.contexts, world.engine.recovery.stream
        dead = stream.connects
        world.late_s = lambda message: 1e6 * ("ORDER_TRADE_UPDATE" in message and stream.connects == dead)
        context.gate.close("test", "a pause")
        await world.until(lambda: not world.ours(), 2, "quotes out")
        await world.until(lambda: stream.connects > dead, 12, "another connection")
        context.gate.open("test")
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("how", ["DELETE", "PUT"])
def test_what_nobody_told_of_an_order_is_found_out_in_a_quiet_market(tmp_path: Path, how: str) -> None:
    """Another program cancels or moves a quote, and the stream loses the event: all the same it comes back."""

    async def story(world: World) -> None:
        world.start(
            refresh_config={**AMEND, "on_move": False},
            order_management={"modify_threshold": 0.002, "reset_interval": 0},
            strategy={"min_spread": 0},
        )
        await world.until_quoting()
        await asyncio.sleep(6)
        order = next(each for each in world.ours() if each.is_buy)
        at, place = order.price_ticks, {"symbol": world.symbol, "origClientOrderId": order.client_order_id}
        world.late_s = lambda message: 1e6 if order.client_order_id in message else 0.0
        if how == "PUT":
            there = {"side": "BUY", "quantity": "0.005", "price": f"{at / 10 - 400:.1f}"}
            await world.other_client("PUT", "/fapi/v1/order", **place, **there)
        else:
            await world.other_client("DELETE", "/fapi/v1/order", **place)
        world.late_s = lambda _message: 0.0

        def is_whole() -> bool:
            return len([each for each in world.ours() if each.is_buy and each.price_ticks > at - 3000]) == 3

        assert not is_whole()
        await world.until(is_whole, 100, "three bids near the mid")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_order_whose_amendment_is_in_doubt_is_got_out_once_nobody_wants_it(tmp_path: Path) -> None:
    """Near the limit only what reduces is left: what would add does not rest until its doubt has been settled."""

    async def story(world: World) -> None:
        hanging: list[Sent] = []

        async def hang(sent: Sent) -> HttpResponse | None:
            if is_amend(sent) or (hanging and sent.method == "GET" and sent.path == "/fapi/v1/order"):
                hanging.append(sent)
                await sent.hang()
            return None

        world.start(
            refresh_config=AMEND,
            order_management={"modification_timeout": 60},
            safety={"request_timeout_s": 0.5},
        )
        await world.until_quoting()
        world.tamper = hang
        move(world, 4)
        await world.until(lambda: bool(hanging), 10)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.028")
        await world.until(lambda: not any(order.is_buy for order in world.ours()), 5, "bids that are out")
        assert world.ours()
        world.tamper = untouched
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_posture_that_changes_during_a_refresh_is_followed_after_it(tmp_path: Path) -> None:
    """A refresh that waits for its answers has been decided before; the next one does not wait for the interval."""

    async def story(world: World) -> None:
        delayed: list[Sent] = []

        async def delay(sent: Sent) -> HttpResponse | None:
            if not is_amend(sent):
                return None
            delayed.append(sent)
            reply = await sent.deliver()
            await asyncio.sleep(1)
            return reply

        world.start(refresh_config={**AMEND, "orderbook_refresh_interval": 60})
        await world.until_quoting()
        world.tamper = delay
        move(world, 4)
        await world.until(lambda: bool(delayed), 10)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.028")
        await world.until(lambda: not any(order.is_buy for order in world.ours()), 4, "bids that are out")
        world.tamper = untouched
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_amendment_without_an_answer_holds_up_no_other_order(tmp_path: Path) -> None:
    """One of six hangs: the other five follow the next move long before its time is over."""

    async def story(world: World) -> None:
        hanging: list[Sent] = []

        async def hang_once(sent: Sent) -> HttpResponse | None:
            if is_amend(sent) and not hanging:
                hanging.append(sent)
                await sent.hang()
            return None

        world.order_transport = "ws"
        world.start(
            refresh_config={**AMEND, "orderbook_refresh_interval": 1}, safety={"request_timeout_s": 10}
        )
        await world.until_quoting()
        await asyncio.sleep(1)
        world.tamper = hang_once
        move(world, 4)
        await world.until(lambda: bool(hanging), 10)
        await asyncio.sleep(0.3)
        before = {order.client_order_id: order.price_ticks for order in world.ours()}
        move(world, 8)

        def moved() -> int:
            return sum(before.get(order.client_order_id) != order.price_ticks for order in world.ours())

        await world.until(lambda: moved() >= 5, 3, "five orders that have followed")
        assert await world.end(10) is ExitCode.STOPPED

    in_a_world(tmp_path, story)
