"""``flatten`` without a daemon, in virtual time: after a crash, through trouble, and when it cannot be done."""

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from core.flatten_command import FlattenCommand, Report
from core.halt import Halt, HaltLatch
from core.instance_lock import InstanceLock
from core.settings import Settings
from core.state import SharedState
from core.wiring import Wiring
from sim.transport import InMemoryHttp, InMemoryWs
from test.daemon import KEY, SECRET, Sent, TamperedHttp, World, in_a_world, read_only_locks, untouched
from utils.errors import NotSent, StartRefused
from utils.http import BinanceRest, HttpResponse
from utils.venue import Environment


async def flatten(world: World, settings: Settings | None = None, *, live_confirmed: bool = False) -> Report:
    """Run the command on the world's account and state directory."""
    http = TamperedHttp(InMemoryHttp(world.link), lambda sent: world.tamper(sent))
    wiring = Wiring(
        state=SharedState(),
        rest=BinanceRest(http, world.clock, api_key=KEY, api_secret=SECRET, timeout_s=1.0),
        wallet=None,
        streams=InMemoryWs(world.link),
        clock=world.clock,
        rng=random.Random(1),
        run_blocking=asyncio.to_thread,
        account="paper-test",
        is_shared=True,
        has_keys=True,
        live_confirmed=live_confirmed,
    )
    [report] = await FlattenCommand(settings or world.settings(), wiring).run()
    return report


def test_order_that_lands_after_the_crash_is_found_too(tmp_path: Path) -> None:
    """What a killed daemon had just sent may be executed within its receive window: it is looked at once more then."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="SELL", quantity="0.010")
        await world.vanish()
        running = asyncio.ensure_future(flatten(world))
        await asyncio.sleep(1.5)
        assert not running.done()
        assert (world.position(), world.ours()) == (0, [])
        late = {"type": "LIMIT", "timeInForce": "GTX", "price": "60000.0", "quantity": "0.003"}
        await world.other_client(
            "POST",
            "/fapi/v1/order",
            symbol=world.symbol,
            side="BUY",
            newClientOrderId="qpmm-mm1-straggler",
            **late,
        )
        report = await running
        assert (report.before, report.found) == (Decimal("-0.010"), 6)
        assert report.result.is_done
        assert not world.ours()
        assert (await world.audit()).is_running is False

    in_a_world(tmp_path, story)


def test_close_that_never_succeeds_ends_and_says_what_is_in_the_way(tmp_path: Path) -> None:
    """Every closing order is refused: after a minute it gives up, with the quotes out and the reason said."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        sent: list[str] = []

        async def refuse(request: Sent) -> HttpResponse | None:
            if "reduceOnly=true" in request.query:
                sent.append(request.query)
                return HttpResponse(400, {}, b'{"code":-4400,"msg":"Quantitative rules"}')
            return None

        world.tamper = refuse
        report = await flatten(world)
        assert not report.result.is_flat
        assert report.result.is_out
        assert 60 < world.now_s < 90
        assert 10 < len(sent) < 25
        orders, position = report.lines()
        assert orders == "BTCUSDT: no order of ours rested; none rests now (verified)"
        assert position.startswith("BTCUSDT: NOT VERIFIED that the position is closed (it was 0.010 BTC): ")
        assert "-4400" in position
        world.tamper = untouched
        report = await flatten(world)
        assert report.result.is_done
        assert world.position() == 0

    in_a_world(tmp_path, story)


def test_command_with_real_money_asks_for_no_capital(tmp_path: Path) -> None:
    """The cap is for what opens positions: with 0 as shipped a position is closed, and without --live nothing is."""

    async def story(world: World) -> None:
        settings = replace(world.settings(), environment=Environment.LIVE)
        assert settings.live_max_capital_quote == 0
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        with pytest.raises(StartRefused, match="EXCHANGE_ENV=live without --live"):
            await flatten(world, settings)
        assert world.position() == Decimal("0.010")
        report = await flatten(world, settings, live_confirmed=True)
        assert report.result.is_done
        assert world.position() == 0

    in_a_world(tmp_path, story)


def test_position_that_was_kept_and_could_not_be_closed_is_still_said_to_be_watched_by_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start that the rules refuse ends with no refusal, after which nobody tries again; closed, it does."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.013")
        with InstanceLock(world.folder / "state", "paper-test", world.symbol) as lock:
            lock.leave_kept("a position of 0.013 BTC")
        world.strike("symbol-rules", symbol=world.symbol, step_size="0.01", min_qty="0.01", for_s=600)

        async def refuse(request: Sent) -> HttpResponse | None:
            if "reduceOnly=true" in request.query:
                return HttpResponse(400, {}, b'{"code":-4400,"msg":"Quantitative rules"}')
            return None

        world.tamper = refuse
        assert not (await flatten(world)).result.is_done
        world.tamper = untouched
        with pytest.raises(NotSent, match="order size: 250 USDT an order"):
            await world.start()
        assert (await flatten(world)).result.is_done
        with pytest.raises(StartRefused, match="order size: 250 USDT an order"):
            await world.start()

    in_a_world(tmp_path, story)
    [told] = [line for line in caplog.messages if "NOT WATCHED" in line]
    assert "a position of BTCUSDT is kept" in told


def test_close_that_a_daemon_left_unfinished_is_finished_by_the_command(tmp_path: Path) -> None:
    """The halt stands as before, and waits for no close any more."""

    async def story(world: World) -> None:
        latch = HaltLatch(world.folder / "state", "paper-test", world.symbol)
        latch.engage("position over the limit", 5, is_closing=True)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        assert (await flatten(world)).result.is_done
        assert latch.read() == Halt("BTCUSDT", "position over the limit", 5)

    in_a_world(tmp_path, story)


def test_command_needs_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full, and read-only: it closes what is open all the same."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        await world.vanish()
        (world.folder / "state" / "boot-paper-test-BTCUSDT.tmp").mkdir()
        read_only_locks(monkeypatch)
        assert (await flatten(world)).result.is_done
        assert (world.position(), world.ours()) == (0, [])

    in_a_world(tmp_path, story)


def elsewhere(world: World) -> World:
    """Return the same account as another machine sees it, with a state directory of its own."""
    folder = world.folder / "elsewhere"
    folder.mkdir()
    return World(world.exchange, world.clock, folder, world.symbol)


def test_daemon_elsewhere_that_quotes_on_is_left_alone_and_named(tmp_path: Path) -> None:
    """Its orders come again after they were taken out: nothing is claimed, and no war of cancels is begun."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(10)
        placed = world.count("orders")
        report = await flatten(elsewhere(world))
        assert not report.result.is_done
        orders, position = report.lines()
        assert "NOT VERIFIED that no order of ours rests (another instance trades on this account" in orders
        assert "stop that one first" in position
        assert world.count("orders") - placed < 25
        await world.until_quoting(30)
        await asyncio.sleep(5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_orders_of_a_machine_that_is_gone_are_taken_out_and_waited_for(tmp_path: Path) -> None:
    """Nobody places them again for some seconds; only then it is said to be done."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="SELL", quantity="0.010")
        await world.vanish()
        began_s = world.now_s
        report = await flatten(elsewhere(world))
        assert report.result.is_done
        assert 8 < world.now_s - began_s < 12
        assert (world.position(), world.ours()) == (0, [])

    in_a_world(tmp_path, story)
