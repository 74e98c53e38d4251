"""What the exchange itself trades while nobody looks: a daemon that did not see it halts as one that did."""

import asyncio
import json
from pathlib import Path

import pytest

from core import gateway, reconciliation
from core.exit_code import ExitCode
from core.halt import Halt, HaltLatch
from core.last_look import path_of
from sim.orders import Side
from test.daemon import Sent, World, in_a_world, json_reply, untouched
from utils.http import HttpResponse


def latch_of(world: World) -> HaltLatch:
    """The latch of the world's daemon."""
    return HaltLatch(world.folder / "state", "paper-test", world.symbol)


def halt_of(world: World) -> Halt:
    """The halt that stands."""
    halt = latch_of(world).read()
    assert halt is not None
    return halt


def trade(world: World, client_id: str, lots: int = 4, side: Side = Side.SELL) -> None:
    """Have somebody sell or buy, or the exchange itself."""
    venue = world.exchange._venue
    now_ms = world.clock.time_ms()
    venue.desk.foreign_fill(venue.instruments[world.symbol], side, lots, now_ms, client_id)


async def hold(world: World) -> None:
    """Have a daemon quote, and hold 0.006."""
    world.start()
    await world.until_quoting()
    world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.006")
    await asyncio.sleep(2)


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_forced_trade_while_no_daemon_ran_halts_the_next_one_and_only_that(
    tmp_path: Path, *, is_killed: bool
) -> None:
    """Liquidated in between, and a person traded after that: halted, named, flat; once resumed it is known."""

    async def story(world: World) -> None:
        await hold(world)
        if is_killed:
            await world.vanish()
        else:
            assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(30)
        trade(world, "autoclose-1234567890")
        await asyncio.sleep(5)
        trade(world, "by-hand", lots=1)
        await asyncio.sleep(30)
        world.start()
        await world.until(lambda: latch_of(world).read() is not None, 20, "the halt")
        assert "autoclose-1234567890" in halt_of(world).reason
        await world.until(lambda: world.position() == 0 and not world.ours(), 5, "flat and out")
        await asyncio.sleep(2)
        assert await world.end() is ExitCode.HALTED
        assert latch_of(world).clear()
        world.start()
        await world.until_quoting()
        await world.watch(20)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_forced_trade_before_the_first_account_stream_halts(tmp_path: Path) -> None:
    """The daemon is up, but has no stream and knows no position yet; nobody has ever looked at this account."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.006")
        await asyncio.sleep(20)
        world.strike("refuse-handshakes", status=503, for_s=10)
        world.start()
        await asyncio.sleep(5)
        assert world.engine is not None
        trade(world, "adl_autoclose")
        await world.until(lambda: latch_of(world).read() is not None, 20, "the halt")
        assert "adl_autoclose" in halt_of(world).reason
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("is_told", [False, True], ids=["listed", "told"])
def test_forced_trade_that_was_halted_for_halts_no_later_run(tmp_path: Path, *, is_told: bool) -> None:
    """The stream told of it, or only the trades, and the process was killed: the operator resumes once, not twice."""

    async def story(world: World) -> None:
        await hold(world)
        if not is_told:
            world.strike("drop-events", stream="userData", for_s=1)
        trade(world, "autoclose-1234567890")
        await world.until(lambda: latch_of(world).read() is not None, 20, "the halt")
        await world.vanish()
        assert await world.start() is ExitCode.HALTED  # its close finished
        assert latch_of(world).clear()
        world.start()
        await world.until_quoting()
        await world.watch(20)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("end", ["killed", "stopped", "last words"])
def test_end_between_a_forced_trade_and_its_halt_leaves_a_halt_behind(tmp_path: Path, end: str) -> None:
    """The risk check waits for a slow answer, or runs no more: a kill leaves the trade to the next start."""

    asked = []

    async def slowly(sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v3/positionRisk":
            asked.append(sent)
            await asyncio.sleep(1.5)
        return None

    async def story(world: World) -> None:
        async def liquidate_last(sent: Sent) -> HttpResponse | None:
            if sent.path == "/fapi/v1/countdownCancelAll" and "countdownTime=0&" in sent.query:
                trade(world, "autoclose-1234567890")
            return None

        await hold(world)
        if end == "last words":
            world.tamper = liquidate_last
        else:
            world.tamper = slowly
            await world.until(lambda: bool(asked), 10, "a check")
            trade(world, "autoclose-1234567890")
            await asyncio.sleep(0.1)
            assert latch_of(world).read() is None
        if end == "killed":
            await world.vanish()
            assert latch_of(world).read() is None
        else:
            assert await world.end(20) is (ExitCode.HALTED if end == "stopped" else ExitCode.FAULT)
            assert "autoclose-1234567890" in halt_of(world).reason
        world.tamper = untouched
        await asyncio.sleep(10)
        ended = world.start()
        if end != "stopped":
            await world.until(lambda: latch_of(world).read() is not None, 20, "the halt")
        await world.watch(10)
        assert "autoclose-1234567890" in halt_of(world).reason
        assert (await ended if ended.done() else await world.end()) is ExitCode.HALTED
        assert latch_of(world).clear()
        world.start()
        await world.until_quoting()
        await world.watch(20)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("moment", [None, "soon", ...], ids=["none", "text", "missing"])
def test_start_asks_again_for_trades_whose_time_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, moment: object
) -> None:
    """For a while something else than a time: no worker ends over that, and the first real answer halts."""

    async def garble(sent: Sent) -> HttpResponse | None:
        if sent.path != "/fapi/v1/userTrades" or "startTime" not in sent.query:
            return None
        reply = await sent.deliver()
        trades = json.loads(reply.body)
        for each in trades:
            each["time"] = moment
            if moment is ...:
                del each["time"]
        return HttpResponse(200, reply.headers, json.dumps(trades).encode())

    async def story(world: World) -> None:
        await hold(world)
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(5)
        trade(world, "autoclose-1234567890")
        await asyncio.sleep(5)
        world.tamper = garble
        running = world.start()
        await asyncio.sleep(30)
        assert not running.done()
        world.tamper = untouched
        await world.until(lambda: latch_of(world).read() is not None, 10, "the halt")
        assert "could not be read (" in caplog.text
        assert "Traceback" not in caplog.text
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("is_running", [False, True], ids=["at the start", "listed"])
def test_forced_trade_whose_order_is_found_only_later_halts(tmp_path: Path, *, is_running: bool) -> None:
    """Three seconds long the exchange finds no order by its number, and the stream tells nothing of the trade."""
    found_from_s = [0.0]

    async def lag(sent: Sent) -> HttpResponse | None:
        if (sent.method, sent.path) == ("GET", "/fapi/v1/order") and "orderId=" in sent.query:
            if not found_from_s[0]:
                found_from_s[0] = now_s() + 3
            if now_s() < found_from_s[0]:
                return json_reply(400, {"code": -2013, "msg": "Order does not exist."})
        return None

    def now_s() -> float:
        return asyncio.get_running_loop().time()

    async def story(world: World) -> None:
        await hold(world)
        if not is_running:
            assert await world.end() is ExitCode.STOPPED
            await asyncio.sleep(10)
            world.start()
        else:
            world.strike("drop-events", stream="userData", for_s=1)
        world.tamper = lag
        trade(world, "autoclose-1234567890")
        await world.until(lambda: latch_of(world).read() is not None, 40, "the halt")
        assert found_from_s[0]
        assert "autoclose-1234567890" in halt_of(world).reason
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_forced_trade_that_leaves_the_position_as_it_was_is_soon_looked_for_again(tmp_path: Path) -> None:
    """No stream tells of it, no reading differs, and the question for its order has no answer the first time."""
    asked_s: list[float] = []

    async def story(world: World) -> None:
        async def hang_once(sent: Sent) -> HttpResponse | None:
            if (sent.method, sent.path) == ("GET", "/fapi/v1/order") and "orderId=" in sent.query:
                asked_s.append(world.now_s)
                if len(asked_s) == 1:
                    await sent.hang()
            return None

        await hold(world)
        world.tamper = hang_once
        world.strike("drop-events", stream="userData", for_s=1)
        trade(world, "by-hand", side=Side.BUY)
        trade(world, "autoclose-1234567890")
        await world.until(lambda: bool(asked_s), 16, "a comparison of the trades")
        await world.until(lambda: latch_of(world).read() is not None, 5, "the halt")
        assert "autoclose-1234567890" in halt_of(world).reason
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_trade_whose_order_the_exchange_never_finds_keeps_no_start_from_quoting(tmp_path: Path) -> None:
    """Also where the trade's time is one that is still to come."""

    async def forget(sent: Sent) -> HttpResponse | None:
        if (sent.method, sent.path) == ("GET", "/fapi/v1/order") and "orderId=" in sent.query:
            return json_reply(400, {"code": -2013, "msg": "Order does not exist."})
        if sent.path != "/fapi/v1/userTrades":
            return None
        reply = await sent.deliver()
        trades = [{**each, "time": each["time"] + 86_400_000} for each in json.loads(reply.body)]
        return json_reply(200, trades)

    async def story(world: World) -> None:
        await hold(world)
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(10)
        trade(world, "by-hand", lots=1)
        world.tamper = forget
        world.start()
        await world.until_quoting(75)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_slow_line_does_not_keep_a_start_from_looking_at_all_that_was_traded(tmp_path: Path) -> None:
    """Eighty people's orders after the liquidation, 0.4 s for each question: longer than one attempt may take."""

    async def slowly(sent: Sent) -> HttpResponse | None:
        if (sent.method, sent.path) == ("GET", "/fapi/v1/order"):
            await asyncio.sleep(0.4)
        return None

    async def story(world: World) -> None:
        await hold(world)
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(30)
        trade(world, "autoclose-1234567890")
        for number in range(80):
            trade(world, f"by-hand-{number}", lots=1, side=(Side.SELL, Side.BUY)[number % 2])
        await asyncio.sleep(5)
        world.tamper = slowly
        world.start()
        await world.until(lambda: latch_of(world).read() is not None, 120, "the halt")
        assert "autoclose-1234567890" in halt_of(world).reason
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("orders", "is_told"), [(5, False), (6, True)])
def test_orders_that_a_look_back_passes_over_are_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    orders: int,
    *,
    is_told: bool,
) -> None:
    """So many may have traded that asking about all would keep the daemon from quoting: a person looks then."""
    monkeypatch.setattr(reconciliation.Reconciler, "MOST_ORDERS", 5)

    async def story(world: World) -> None:
        await hold(world)
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(5)
        for number in range(orders):
            trade(world, f"by-hand-{number}", lots=1, side=(Side.SELL, Side.BUY)[number % 2])
        await asyncio.sleep(15)
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
    assert ("orders before the last 5 that traded" in caplog.text) is is_told


def test_start_that_cannot_read_all_trades_in_one_attempt_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine pages since the last look, 2.8 s for each, where a step has 20 s; the liquidation came last."""
    for module in (gateway, reconciliation):
        monkeypatch.setattr(module, "TRADES_PAGE", 100)

    async def slowly(sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v1/userTrades" and ("fromId" in sent.query or "startTime" in sent.query):
            reply = await sent.deliver()
            await asyncio.sleep(2.8)
            return reply
        return None

    async def story(world: World) -> None:
        await hold(world)
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(30)
        for number in range(800):
            trade(world, f"bot-{number}", lots=1, side=(Side.SELL, Side.BUY)[number % 2])
        trade(world, "autoclose-1234567890")
        await asyncio.sleep(15)
        world.tamper = slowly
        world.start()
        await world.until(lambda: latch_of(world).read() is not None, 120, "the halt")
        assert "autoclose-1234567890" in halt_of(world).reason
        assert await world.end(20) is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"looked_ms": "soon"}', b'{"looked_ms": 9000000000000}'],
    ids=["empty", "bare", "text", "to come"],
)
def test_damaged_record_of_the_last_look_keeps_no_daemon_from_quoting(tmp_path: Path, content: bytes) -> None:
    """Begun anew with what was traded since the start, and written whole again."""

    async def story(world: World) -> None:
        path = path_of(world.folder / "state", "paper-test", world.symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        await asyncio.sleep(5)
        trade(world, "autoclose-1234567890")
        await asyncio.sleep(5)
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert path.read_bytes() != content
        await asyncio.sleep(5)
        trade(world, "autoclose-1234567891")
        await asyncio.sleep(5)
        world.start()
        await world.until(
            lambda: latch_of(world).read() is not None, 20, "the halt for what was traded since"
        )
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)
