"""What has to happen in time happens in time, whatever else hangs meanwhile."""

import asyncio
import json
import logging
from collections.abc import Callable
from decimal import Decimal
from itertools import cycle
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from core.logger import LoggerWorker
from test.daemon import MODES, REPLACING, Sent, World, in_a_world, json_reply, untouched
from utils.errors import OutcomeUnknown
from utils.http import HttpResponse

OVER_THE_LIMIT = "0.040"
FLAT_WITHIN_S = 2.5
OUT_WITHIN_S = 5.0
OUT_BY_SOCKET_S = 1.0
OUT_BY_REST_S = 0.8


def _lose_requests(*paths: str) -> Callable[[str, str], str]:
    """Return a loss function: requests to these paths are never heard."""
    return lambda _method, path: "request" if path in paths else ""


async def _breach(world: World) -> None:
    """Put the position over its limit, and wait until it is closed again, in time."""
    world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
    await world.until(lambda: world.position() == 0, FLAT_WITHIN_S, "a closed position")


# --- the dead-man switch ------------------------------------------------------------------------------------


def test_what_was_done_while_a_sign_of_life_waited_to_leave_does_not_feed_a_second_one(
    tmp_path: Path,
) -> None:
    """A loop that stands still before a late sign of life leaves has that one counted from it, and no other."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        context, orders = world.engine.contexts[0], world.engine.orders
        fed_s: list[float] = []
        is_late = True

        async def tamper(sent: Sent) -> None:
            nonlocal is_late
            if sent.path != "/fapi/v1/countdownCancelAll":
                return
            if is_late:
                is_late = False
                orders._wakes[world.symbol].set()
                await asyncio.sleep(0.2)
                await context.lock.acquire()
                orders._look_at_once(context)
                await asyncio.sleep(0.2)
            fed_s.append(world.now_s)

        world.tamper = tamper
        before = orders.progress[world.symbol]
        await world.until(lambda: bool(fed_s), 10)
        assert orders.progress[world.symbol] > before
        await asyncio.sleep(12)
        assert len(fed_s) == 1
        context.lock.release()
        await world.until(lambda: len(fed_s) > 1, 10)

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("why", ["silent book", "refresh", "reset"])
def test_dead_man_switch_cancels_what_our_own_cancels_do_not(tmp_path: Path, why: str) -> None:
    """While cancels go unheard nobody feeds it, so that nothing rests for longer than its window and a few seconds.

    What cancels is a book that says no more, a refresh that replaces all quotes, or the reset after ten seconds.
    """
    refreshing = REPLACING if why == "refresh" else {}
    managing = {"reset_interval": 10 if why == "reset" else 300}
    rests_s = 45 if why == "reset" else 35

    async def story(world: World) -> None:
        world.start(refresh_config=refreshing, order_management=managing)
        await world.until_quoting()
        world.lose = lambda method, _path: "request" if method == "DELETE" else ""
        if why == "silent book":
            world.control("POST", "/sim/silence", stream="bookTicker", seconds=600)
        first = {order.client_order_id for order in world.ours()}
        await world.until(lambda: first.isdisjoint(each.client_order_id for each in world.ours()), rests_s)
        for _ in range(900):
            assert world.forgotten(rests_s) == []
            await asyncio.sleep(0.1)

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("window_s", "last_s"), [(20, 3), (5, 1.6)])
@pytest.mark.parametrize("mode", MODES)
def test_no_quote_leaves_that_could_come_to_rest_after_the_dead_man_window(
    tmp_path: Path, mode: str, window_s: float, last_s: float
) -> None:
    """It may be delayed on its way for as long as the exchange takes it; what rests already is cancelled in time.

    That is amended on: an amendment that comes too late finds no order. Signs of life that arrive keep the moment away.
    """
    sent: list[Sent] = []

    async def story(world: World) -> None:
        amended_in_time = 0

        async def note(each: Sent) -> HttpResponse | None:
            if each.is_order() or each.method == "PUT":
                sent.append(each)
            if each.path == "/fapi/v1/countdownCancelAll":
                await asyncio.sleep(0.7)
            return None

        async def mute(each: Sent) -> HttpResponse | None:
            return await each.hang() if each.path == "/fapi/v1/countdownCancelAll" else await note(each)

        world.start(
            refresh_config={"refresh_mode": mode, "orderbook_refresh_interval": 1},
            order_management={"patience_bps_s": 0},
            safety={
                "dead_man_window_s": window_s,
                "dead_man_refresh_s": window_s / 3 - 0.1,
                "request_timeout_s": 1,
            },
        )
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        world.tamper = note
        state, moves_bps = context.state, cycle((5, -5))
        for _ in range(int(10 * window_s)):
            assert world.clock.monotonic_ns() < state.dead_man_sends_until_ns
            world.strike("move-market", bps=next(moves_bps))
            await asyncio.sleep(0.3)
        assert len(sent) > 10 * window_s
        world.tamper = mute
        while (left_s := (state.dead_man_until_ns - world.clock.monotonic_ns()) / 1e9) > 0:
            sent.clear()
            world.strike("move-market", bps=next(moves_bps))
            await asyncio.sleep(min(0.3, left_s))
            if left_s <= last_s:
                assert not any(each.is_order() for each in sent)
                amended_in_time += any(each.method == "PUT" for each in sent)
        assert amended_in_time > 2 if mode == "amend" else amended_in_time == 0
        await asyncio.sleep(0.1)
        assert "dead-man switch has lapsed" in context.gate.reasons
        world.tamper = untouched
        await world.until_quoting(30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_gate_closes_when_the_dead_man_window_is_over_while_an_answer_is_waited_for(tmp_path: Path) -> None:
    """The exchange counts from the last sign of life; the one under way may never have reached it."""

    async def story(world: World) -> None:
        async def mute(sent: Sent) -> HttpResponse | None:
            return await sent.hang() if sent.path == "/fapi/v1/countdownCancelAll" else None

        world.start(safety={"request_timeout_s": 14})
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        world.tamper = mute
        await world.until(lambda: world.clock.monotonic_ns() > context.state.dead_man_until_ns, 20.1)
        await asyncio.sleep(0.1)
        assert "dead-man switch has lapsed" in context.gate.reasons
        await world.watch(10, orders=0)
        world.tamper = untouched
        await world.until_quoting(30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


# --- the book -----------------------------------------------------------------------------------------------


def test_stale_book_pulls_the_quotes_in_time_although_the_question_about_it_hangs(tmp_path: Path) -> None:
    """The stream is silent and the comparison over REST gets no answer: nothing is placed on the dead book."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": 60})  # no refresh helps
        await world.until_quoting()
        world.lose = _lose_requests("/fapi/v1/depth")
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=60)
        await world.until(lambda: not world.ours(), OUT_WITHIN_S, "quotes that are out")
        await world.watch(30, orders=0)

    in_a_world(tmp_path, story)


async def _rest_is_busy(sent: Sent) -> HttpResponse | None:
    """Have REST answer all that does not go by the order socket with "busy"."""
    is_by_socket = sent.path == "/fapi/v1/order"
    return None if is_by_socket else json_reply(503, {"code": 0, "msg": "Service Unavailable."})


@pytest.mark.parametrize("how", ["mute", "busy"])
@pytest.mark.parametrize("why", ["silent book", "breach", "stop"])
def test_quotes_go_out_by_the_order_socket_while_rest_does_not_answer(
    tmp_path: Path, why: str, how: str
) -> None:
    """A batch of cancels goes by REST alone; where that does nothing, each order is cancelled by the socket."""

    async def story(world: World) -> None:
        world.order_transport = "ws"
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        [context] = world.engine.contexts
        if how == "busy":
            world.tamper = _rest_is_busy
        else:
            world.lose = lambda _method, path: "" if path == "/fapi/v1/order" else "request"
        if why == "silent book":
            world.control("POST", "/sim/silence", stream="bookTicker", seconds=60)
        elif why == "breach":
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        else:
            world.stop.ask("the test is over")
        await world.until(lambda: not context.gate.is_open, OUT_WITHIN_S, "a closed gate")
        await world.until(lambda: not world.ours(), OUT_BY_SOCKET_S, "quotes that are out")
        await world.watch(10, orders=0)

    in_a_world(tmp_path, story)


async def _socket_is_busy(sent: Sent) -> HttpResponse | None:
    """Have the order socket answer each cancel with "busy"."""
    is_cancel = sent.method == "DELETE" and sent.path == "/fapi/v1/order"
    return json_reply(503, {"code": -1008, "msg": "Server is currently overloaded."}) if is_cancel else None


@pytest.mark.parametrize("lost", ["request", "reply", "nothing, it is busy"])
@pytest.mark.parametrize("why", ["pause", "stop", "stop after an amendment"])
def test_single_quote_goes_out_by_rest_while_the_order_socket_does_not_answer(
    tmp_path: Path, why: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One order lives, its cancel goes by the socket; where that is mute or busy, the order is cancelled by REST.

    That finds nothing if the answer alone was lost, and the order has ended all the same.
    """

    async def story(world: World) -> None:
        world.order_transport = "ws"
        world.start(order_config={"levels": 1}, order_management={"patience_bps_s": 0})
        await world.until_quoting(orders=2)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.029")
        await world.until_quoting(orders=1)
        await asyncio.sleep(1)
        if lost.startswith("nothing"):
            world.tamper = _socket_is_busy
        else:
            world.lose = lambda _method, path: lost if path == "/fapi/v1/order" else ""
        if why == "pause":
            world.state.strategy_paused = True
        elif why == "stop after an amendment":
            world.strike("move-market", bps=5)
            [order] = world.books.living()
            before = order.amends
            await world.until(lambda: order.amends > before, 2, "an amendment")
        if why != "pause":
            world.stop.ask("the test is over")
        assert world.engine is not None
        [context] = world.engine.contexts
        await world.until(lambda: not context.gate.is_open, OUT_WITHIN_S, "a closed gate")
        await world.until(lambda: not world.ours(), OUT_BY_REST_S, "a quote that is out")
        if why == "pause":
            await world.watch(5, orders=0)
        else:
            assert await world.end() is ExitCode.STOPPED
        assert world.books.living() == []

    with caplog.at_level(logging.WARNING, "core.execution"):
        in_a_world(tmp_path, story)
    told = [record.message for record in caplog.records if "it goes by REST" in record.message]
    assert len(told) == 1


def test_cancels_by_rest_that_fail_are_told_of_once_and_the_reset_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Batches of cancels alone are lost, again and again: the socket does for them, and quotes come back each time."""

    async def story(world: World) -> None:
        world.order_transport = "ws"
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.lose = lambda _method, path: "request" if path == "/fapi/v1/batchOrders" else ""
        first = {order.client_order_id for order in world.ours()}
        for _ in range(3):
            world.strike("move-market", bps=5)
            await asyncio.sleep(6)
        assert first.isdisjoint(order.client_order_id for order in world.ours())
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED

    with caplog.at_level(logging.WARNING, "core.execution"):
        in_a_world(tmp_path, story)
    told = [record.message for record in caplog.records if "order socket" in record.message]
    assert len(told) == 1


# --- closing the position -----------------------------------------------------------------------------------


def test_position_is_closed_in_time_while_a_reconciliation_hangs(tmp_path: Path) -> None:
    """Whoever reconciles holds the symbol's lock and waits for answers that do not come; the close does not wait."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.lose = _lose_requests("/fapi/v1/userTrades", "/fapi/v1/openOrders")
        await world.other_client(
            "POST",
            "/fapi/v1/order",
            symbol="BTCUSDT",
            side="BUY",
            type="LIMIT",
            timeInForce="GTX",
            quantity="0.001",
            price="62000",
            newClientOrderId="qpmm-of-another",
        )
        await asyncio.sleep(0.3)
        await _breach(world)

    in_a_world(tmp_path, story)


def test_position_is_closed_in_time_while_placements_hang(tmp_path: Path) -> None:
    """The one refresh under way has no answer yet."""

    async def story(world: World) -> None:
        hanging: list[Sent] = []

        async def hang_once(sent: Sent) -> HttpResponse | None:
            if sent.is_order() and len(hanging) < 6:
                hanging.append(sent)
                await asyncio.sleep(0.5)
                raise OutcomeUnknown("reset by peer")
            return None

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.tamper = hang_once
        await world.until(lambda: len(hanging) == 6, 10)
        await asyncio.sleep(0.6)
        await _breach(world)

    in_a_world(tmp_path, story)


def test_position_is_closed_in_time_while_doubts_are_being_asked_about(tmp_path: Path) -> None:
    """Placements and questions about them hang; the closing order goes out all the same."""

    async def story(world: World) -> None:
        async def hang(sent: Sent) -> HttpResponse | None:
            if sent.path == "/fapi/v1/order" and not sent.is_close():
                await sent.hang()
            return None

        world.start()
        await world.until_quoting()
        world.tamper = hang
        await asyncio.sleep(9.5)
        await _breach(world)

    in_a_world(tmp_path, story)


def test_limit_on_orders_keeps_nobody_from_closing_the_position(tmp_path: Path) -> None:
    """After "too many new orders" cancels, questions and the reduce-only order go on; quotes pause, and come back."""

    async def story(world: World) -> None:
        limited: list[Sent] = []

        async def limit_once(sent: Sent) -> HttpResponse | None:
            if not sent.is_order() or limited:
                return None
            limited.append(sent)
            return json_reply(429, {"code": -1015, "msg": "Too many new orders; current limit is 300."})

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.tamper = limit_once
        await world.until(lambda: bool(limited), 10)
        placed = world.count("orders")
        await asyncio.sleep(9)
        assert world.count("orders") <= placed + 5  # those that were under way
        await world.until_quoting(15)
        limited.clear()
        await world.until(lambda: bool(limited), 10)
        await _breach(world)

    in_a_world(tmp_path, story)


# --- stopping -----------------------------------------------------------------------------------------------


async def _stop_within(world: World, seconds: float) -> ExitCode:
    began_s = world.now_s
    code = await world.end(60)
    assert world.now_s - began_s < seconds
    return code


@pytest.mark.parametrize(
    "paths",
    [
        ("/fapi/v1/userTrades",),
        ("/fapi/v1/countdownCancelAll",),
        ("/fapi/v1/countdownCancelAll", "/fapi/v1/userTrades", "/fapi/v3/positionRisk"),
    ],
    ids=lambda paths: " ".join(path.rpartition("/")[2] for path in paths),
)
def test_stop_is_in_time_and_verified_although_its_last_words_hang(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    """The last trades and the dead-man switch are not worth a deadline: no order rests, and that is known."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.lose = _lose_requests(*paths)
        assert await _stop_within(world, 5) is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_stop_that_cannot_read_the_last_trades_disarms_the_dead_man_switch(tmp_path: Path) -> None:
    """It would cancel the orders of others, twenty seconds after we have gone."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTX",
            "quantity": "0.001",
        }
        await world.other_client(
            "POST", "/fapi/v1/order", **order, price="62000", newClientOrderId="of-a-person-1"
        )
        world.lose = _lose_requests("/fapi/v1/userTrades")
        assert await world.end(8) is ExitCode.STOPPED
        await asyncio.sleep(25)
        assert [each.client_order_id for each in world.open_orders()] == ["of-a-person-1"]

    in_a_world(tmp_path, story)


def test_stop_with_a_placement_that_gets_no_answer_is_verified(tmp_path: Path) -> None:
    """It waits out the window in which the order could still come, and finds that none did."""

    async def story(world: World) -> None:
        lost: list[Sent] = []

        async def lose_third(sent: Sent) -> HttpResponse | None:
            if sent.is_order():
                lost.append(sent)
                if len(lost) == 3:
                    world.stop.ask("in the middle")
                    await sent.hang()
            return None

        running = world.start(refresh_config=REPLACING)
        await world.until_quoting()
        await asyncio.sleep(4)
        world.tamper = lose_third
        await world.until(lambda: len(lost) >= 3, 10)
        async with asyncio.timeout(8):
            assert await running is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


class HangingDisk:
    """A disk that takes what it is given until it hangs, for ever."""

    def __init__(self) -> None:
        self.hangs = False

    async def run(self, work: Callable[[], None]) -> None:
        """Write, or never return."""
        if self.hangs:
            await asyncio.sleep(100_000)
        work()


def test_stop_is_in_time_although_the_disk_hangs(tmp_path: Path) -> None:
    """Metrics that never reach it are lost; orders wait for a journal that takes them."""

    async def story(world: World) -> None:
        disk = HangingDisk()
        world.run_blocking = disk.run
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        disk.hangs = True
        await world.until(lambda: not world.ours(), 12)
        await world.watch(12, orders=0)
        assert await _stop_within(world, 5) is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_position_is_closed_and_quoting_paused_although_the_disk_hangs(tmp_path: Path) -> None:
    """The halt cannot be written; it stands while the process lives."""

    async def story(world: World) -> None:
        disk = HangingDisk()
        world.run_blocking = disk.run
        world.start()
        await world.until_quoting()
        disk.hangs = True
        await _breach(world)
        await world.until(lambda: not world.ours(), FLAT_WITHIN_S)
        await world.watch(30, orders=0)
        assert world.position() == Decimal(0)
        assert await _stop_within(world, 5) is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_metrics_that_always_fail_do_not_stop_the_trading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their worker is restarted for ever; quotes are refreshed, and the stop is as good as any."""

    def fail(*_: object) -> None:
        raise ValueError("planted")

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        monkeypatch.setattr(LoggerWorker, "collect", fail)
        refreshes = world.refreshes
        await asyncio.sleep(60)
        assert world.refreshes >= refreshes + 10
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


# --- two troubles at a time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_held", [False, True])
def test_close_is_tried_on_although_its_record_hangs(tmp_path: Path, is_held: bool) -> None:
    """Closing orders are refused for ten seconds and no halt can be written, an operator's before it neither."""

    async def story(world: World) -> None:
        disk = HangingDisk()
        world.run_blocking = disk.run
        world.start()
        await world.until_quoting()
        disk.hangs = True
        if is_held:
            (tmp_path / "state" / "HALT").touch()
            await asyncio.sleep(3)
        world.strike("error", path="/fapi/v1/order", method="POST", for_s=10, code=-2022)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await asyncio.sleep(10)
        assert world.position() > 0
        await world.until(lambda: world.position() == 0, 12, "a closed position")
        assert await _stop_within(world, 5) is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_new_tick_ends_no_run_in_the_middle_of_a_close(tmp_path: Path) -> None:
    """The close learns the rules by itself; a run that ends halted would leave the position to nobody."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        world.strike("error", path="/fapi/v1/order", method="POST", for_s=10, code=-2022)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await asyncio.sleep(3)
        world.strike("symbol-rules", symbol=world.symbol, tick_size="1", for_s=300)
        world.engine.recovery.rules.look_soon()
        await world.until(lambda: world.position() == 0, 25, "a closed position")
        assert await _stop_within(world, 5) is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_close_that_learns_another_tick_asks_for_a_price_of_this_market(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, side: str
) -> None:
    """The touch comes in the tick with which the run began: the close is done in seconds, and not by the deadline."""
    risk = {"flatten_deadline_s": 60, "flatten_max_slippage_bps": 13}

    async def story(world: World) -> None:
        world.start(risk={**risk, "max_daily_loss": 0, "max_price_change": 0})
        await world.until_quoting()
        world.strike("symbol-rules", symbol=world.symbol, tick_size="1", for_s=300)
        world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity=OVER_THE_LIMIT)
        await world.until(lambda: world.position() == 0, 5, "a closed position")
        closes = [each for each in world.record()["orders"] if each["reduceOnly"]]
        assert {each["type"] for each in closes} == {"LIMIT"}
        assert "code -4014" in caplog.text
        assert await _stop_within(world, 5) is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_trades_that_make_no_sense_end_no_worker_and_no_stop(tmp_path: Path) -> None:
    """A row without its id is no answer, like any other that cannot be read."""

    async def story(world: World) -> None:
        async def spoil(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v1/userTrades":
                return None
            rows = json.loads((await sent.deliver()).body)
            return json_reply(200, [{name: row[name] for name in row if name != "id"} for row in rows])

        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.001")
        await asyncio.sleep(1)
        world.tamper = spoil
        await asyncio.sleep(150)
        assert await _stop_within(world, 5) is ExitCode.STOPPED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


def test_stream_that_says_nothing_is_asked_by_one_quote_at_a_time(tmp_path: Path) -> None:
    """Also where the first of them was refused: nothing is proven by that."""

    async def story(world: World) -> None:
        asked: list[float] = []

        async def refuse_first(sent: Sent) -> HttpResponse | None:
            if sent.is_order():
                asked.append(world.now_s)
                if len(asked) == 1:
                    return json_reply(400, {"code": -5022, "msg": "Post Only order will be rejected."})
            return None

        world.tamper = refuse_first
        world.late_s = lambda message: 100.0 if "ORDER_TRADE_UPDATE" in message else 0.0
        world.start(refresh_config={"orderbook_refresh_interval": 1})
        for _ in range(60):
            await world.watch(0.1, orders=1)
        assert len(asked) >= 2
        await world.end()

    in_a_world(tmp_path, story)


def test_search_for_an_explaining_trade_is_one_however_many_reconciliations_there_are(tmp_path: Path) -> None:
    """Each reconciliation looks again a little later; those before it look no more."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        recovery, [context] = world.engine.recovery, world.engine.contexts
        context.ledger.unexplained_quantity = Decimal("0.001")
        for _ in range(20):
            recovery.request_reconcile("another reason")
            await asyncio.sleep(2)
        before = len(_reconciled(world))
        await asyncio.sleep(300)
        assert len(_reconciled(world)) - before <= 7
        await world.end()

    in_a_world(tmp_path, story)


def _reconciled(world: World) -> list[str]:
    return [each for each in world.events("connection_event") if each == "reconciled"]
