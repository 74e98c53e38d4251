"""A close outlives the process that began it: killed or stopped, the next start ends it; in virtual time."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.closing_start import prepare_to_close
from core.exit_code import ExitCode
from core.gateway import Gateway
from core.halt import Halt, HaltLatch
from core.start import Start
from sim.transport import InMemoryHttp
from test.daemon import KEY, SECRET, Sent, World, in_a_world, json_reply, read_only_locks
from utils.errors import NotSent, StartRefused
from utils.http import BinanceRest, HttpResponse
from utils.machine import Machine
from utils.venue import Environment

OVER_THE_LIMIT = "0.043"
CALM: dict[str, Any] = {"risk": {"max_daily_loss": 0, "max_price_change": 0}}
NO = json_reply(400, {"code": -4400, "msg": "Quantitative rules"})


def latch_of(world: World) -> HaltLatch:
    """The latch of the world's daemon."""
    return HaltLatch(world.folder / "state", "paper-test", world.symbol)


def halt_of(world: World) -> Halt:
    """The halt that stands on disk."""
    halt = latch_of(world).read()
    assert halt is not None
    return halt


def orders_since(world: World, number: int) -> list[dict[str, Any]]:
    """Our orders at the exchange after the first so many, in their order."""
    ours = [each for each in world.record()["orders"] if each["clientOrderId"].startswith("qpmm-")]
    return ours[number:]


async def breach(world: World, quantity: str = OVER_THE_LIMIT, *, thin: bool = False) -> None:
    """Have the account traded over its limit; in a ``thin`` book no single order closes that."""
    risk = {**CALM["risk"], "flatten_max_slippage_bps": 1} if thin else CALM["risk"]
    world.start(risk=risk)
    await world.until_quoting()
    if thin:
        world.strike("thin-book", factor=1_000_000)
        await world.watch(1)
    world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=quantity)


def fill_the_disk(world: World) -> None:
    """From now on neither a halt nor the number of a start can be written."""
    for name in ("halt", "boot"):
        (world.folder / "state" / f"{name}-paper-test-BTCUSDT.tmp").mkdir()


class Moment:
    """Lets a daemon come as far as one moment of a close, and no further."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.came = False
        self._closes = 0
        world.tamper = self._tamper

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if not sent.is_close():
            is_check = self._closes and sent.path == "/fapi/v3/positionRisk" and self.world.position() == 0
            if self.name == "flat, not verified" and is_check:
                await self._stay(sent)
            return None
        self._closes += 1
        if self.name == "before the first order" or (self.name == "between two orders" and self._closes == 3):
            await self._stay(sent)
        if self.name == "an order in doubt":
            await sent.deliver()
            await self._stay(sent)
        return None

    async def _stay(self, sent: Sent) -> None:
        self.came = True
        await sent.hang()


@pytest.mark.parametrize(
    "name", ["before the first order", "between two orders", "an order in doubt", "flat, not verified"]
)
def test_close_whose_process_is_killed_is_finished_by_the_next_start(tmp_path: Path, name: str) -> None:
    """Flat without a quote in between, only by orders that reduce; then halted as ever, and resumed it quotes."""

    async def story(world: World) -> None:
        moment = Moment(world, name)
        is_long = name in ("between two orders", "an order in doubt")
        await breach(world, "0.3" if is_long else OVER_THE_LIMIT, thin=is_long)
        await world.until(lambda: moment.came and latch_of(world).read() is not None, 10, name)
        await world.vanish()
        world.tamper = lambda _sent: asyncio.sleep(0, None)
        held = world.position()
        assert (held > 0) is (name != "flat, not verified")
        assert (held < Decimal("0.3")) or not is_long
        assert halt_of(world).is_closing
        placed = len(orders_since(world, 0))
        restarted = world.start(**CALM)
        await world.until(lambda: world.position() == 0, 30, "flat")
        async with asyncio.timeout(15):
            assert await restarted is ExitCode.HALTED
        assert not halt_of(world).is_closing
        assert all(each["reduceOnly"] and each["side"] == "SELL" for each in orders_since(world, placed))
        assert not world.ours()
        assert latch_of(world).clear()
        world.start(**CALM)
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_close_is_finished_although_the_exchange_is_down_at_first_and_the_disk_is_full(
    tmp_path: Path,
) -> None:
    """The start goes on asking for 40 s and more, names what it waits for, and needs no disk for what it does."""

    async def story(world: World) -> None:
        moment = Moment(world, "before the first order")
        await breach(world)
        await world.until(lambda: moment.came and latch_of(world).read() is not None, 5)
        await world.vanish()
        world.tamper = lambda _sent: asyncio.sleep(0, None)
        fill_the_disk(world)
        world.link.cut()
        restarted = world.start(**CALM)
        await asyncio.sleep(45)
        assert not restarted.done()
        assert world.waits[-1] == "waiting for the exchange, to finish a close"
        world.link.restore()
        async with asyncio.timeout(30):
            assert await restarted is ExitCode.HALTED
        assert world.position() == 0
        assert halt_of(world).is_closing  # nobody could write that it is not, so the next start looks again
        for name in ("halt", "boot"):
            (world.folder / "state" / f"{name}-paper-test-BTCUSDT.tmp").rmdir()
        assert await world.start(**CALM) is ExitCode.HALTED
        assert not halt_of(world).is_closing

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("when", ["first run", "next start"])
def test_stop_in_the_middle_of_a_close_gives_it_a_bounded_time_and_says_how_it_went(
    tmp_path: Path, when: str
) -> None:
    """Closing orders that are refused for too long: 1 within 15 s, and the next start closes it; for 4 s more: 4."""

    async def story(world: World) -> None:
        until_s = [1e9]

        async def refuse(sent: Sent) -> HttpResponse | None:
            return NO if sent.is_close() and world.now_s < until_s[0] else None

        world.tamper = refuse
        await breach(world)
        await world.until(lambda: latch_of(world).read() is not None, 5)
        if when == "next start":
            await world.vanish()
            world.start(**CALM)
            await world.until(lambda: "not_flat" in world.events("risk_event"), 30)
        asked_s = world.now_s
        assert await world.end(20) is ExitCode.FAULT
        assert 9 < world.now_s - asked_s < 15
        assert world.position() == Decimal(OVER_THE_LIMIT)
        assert halt_of(world).is_closing
        assert not world.ours()
        until_s[0] = world.now_s + 12
        world.start(**CALM)
        await asyncio.sleep(8)
        assert await world.end(20) is ExitCode.HALTED
        assert world.position() == 0
        assert not halt_of(world).is_closing

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("why", ["stop", "tick"])
def test_breach_that_is_found_while_stopping_is_not_taken_for_a_halt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """Filled over the limit while the end waits for a last amendment: 1, not 4, so that somebody starts it again."""

    async def story(world: World) -> None:
        held: list[str] = []

        async def hold(sent: Sent) -> HttpResponse | None:
            if sent.method == "PUT" or sent.is_close():
                held.append(sent.path)
                await asyncio.sleep(0.8)
            return None

        eager = {"modify_threshold": 0, "patience_bps_s": 0}
        running = world.start(**CALM, order_management=eager)
        await world.until_quoting()
        world.tamper = hold
        await world.until(lambda: bool(held), 10, "an amendment under way")
        assert world.engine is not None
        if why == "stop":
            world.stop.ask("told to")
        else:
            world.engine._begin_anew("the exchange changed tick or step")
        await asyncio.sleep(0.05)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        async with asyncio.timeout(10):
            assert await running is ExitCode.FAULT
        assert world.position() == Decimal(OVER_THE_LIMIT)
        assert halt_of(world).is_closing
        assert sum("NOT FLAT" in line for line in caplog.messages) == 1
        world.tamper = lambda _sent: asyncio.sleep(0, None)
        assert await world.start(**CALM) is ExitCode.HALTED
        assert world.position() == 0

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("why", ["memory", "another instance", "duration"])
def test_reason_of_the_programs_own_to_stop_hurries_no_stop_that_is_under_way(
    tmp_path: Path, why: str
) -> None:
    """What is no request of the operator's leaves a close its ten seconds, and the cancels their time."""

    async def story(world: World) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            return NO if sent.is_close() else None

        world.tamper = refuse
        world.machine = Machine(lambda: 1.0, lambda _folder: 1e6)
        await breach(world)
        await world.until(lambda: latch_of(world).read() is not None, 5)
        asked_s = world.now_s
        world.stop.ask("SIGTERM received")
        await asyncio.sleep(1)
        assert world.engine is not None
        assert world.engine.resources is not None
        asks = {
            "memory": world.engine.resources._stop,
            "another instance": world.engine.foreign._give_way,
            "duration": world.stop.want,
        }
        asks[why](why)
        assert world.stop.reason == "SIGTERM received"
        assert world.stop.failed is (why != "duration")
        assert world.running is not None
        assert await world.running is ExitCode.FAULT
        assert 9 < world.now_s - asked_s < 15

    in_a_world(tmp_path, story)


def test_second_request_to_stop_ends_the_patience_with_a_close(tmp_path: Path) -> None:
    """Within two seconds, and still with the word that it is not flat."""

    async def story(world: World) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            return NO if sent.is_close() else None

        world.tamper = refuse
        await breach(world)
        await world.until(lambda: latch_of(world).read() is not None, 5)
        world.stop.ask("once")
        await asyncio.sleep(1)
        assert world.running is not None
        assert not world.running.done()
        assert await world.end(2) is ExitCode.FAULT

    in_a_world(tmp_path, story)


def test_close_is_finished_on_a_disk_that_was_remounted_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the lock's own file can be opened for writing: the position is closed, and the start ends with 4."""

    async def story(world: World) -> None:
        moment = Moment(world, "before the first order")
        await breach(world)
        await world.until(lambda: moment.came and latch_of(world).read() is not None, 5)
        await world.vanish()
        world.tamper = lambda _sent: asyncio.sleep(0, None)
        fill_the_disk(world)
        read_only_locks(monkeypatch)
        async with asyncio.timeout(30):
            assert await world.start(**CALM) is ExitCode.HALTED
        assert world.position() == 0

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_breach_that_no_disk_has_taken_ends_no_start_with_two(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """The disk was full before: each start fails until there is room, and is tried again, for nobody knows the rest."""

    async def story(world: World) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            return NO if sent.is_close() else None

        world.tamper = refuse
        world.start(**CALM)
        await world.until_quoting()
        fill_the_disk(world)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=OVER_THE_LIMIT)
        await world.until(lambda: not world.ours(), 5)
        if end == "kill":
            await world.vanish()
        else:
            assert await world.end(20) is ExitCode.FAULT
            [last] = [line for line in caplog.messages if "NOT FLAT" in line]
            assert "The halt is not on disk" in last
            assert "The next start goes on" not in last
        assert latch_of(world).read() is None
        for _ in range(2):
            with pytest.raises(
                NotSent, match=r"make room on the disk.*NOT VERIFIED what the last run has left"
            ):
                await world.start(**CALM)

    in_a_world(tmp_path, story)


def test_wrong_keys_at_the_start_do_not_end_the_trying(tmp_path: Path) -> None:
    """An address that is not allowed for a while, for example: an alarm each ten seconds, and no end with 2."""

    async def story(world: World) -> None:
        moment = Moment(world, "before the first order")
        await breach(world)
        await world.until(lambda: moment.came and latch_of(world).read() is not None, 5)
        await world.vanish()
        refused = json_reply(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
        until_s = world.now_s + 40

        async def refuse(sent: Sent) -> HttpResponse | None:
            return refused if "signature" in sent.query and world.now_s < until_s else None

        world.tamper = refuse
        restarted = world.start(**CALM)
        await asyncio.sleep(38)
        assert not restarted.done()
        assert 2 <= world.events("risk_event").count("not_flat") <= 5
        async with asyncio.timeout(40):
            assert await restarted is ExitCode.HALTED
        assert world.position() == 0

    in_a_world(tmp_path, story)


def test_clock_that_goes_wrong_during_a_close_is_measured_again(tmp_path: Path) -> None:
    """The start has measured it, and then the exchange's leaps by 20 s: the close goes on a moment later."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        latch_of(world).engage("position over the limit", 5, is_closing=True)

        async def refuse(sent: Sent) -> HttpResponse | None:
            return NO if sent.is_close() and world.now_s < 5 else None

        world.tamper = refuse
        restarted = world.start(**CALM)
        await asyncio.sleep(3)
        world.strike("clock-skew", offset_ms=20_000, for_s=300)
        async with asyncio.timeout(20):
            assert await restarted is ExitCode.HALTED
        assert world.position() == 0

    in_a_world(tmp_path, story)


def test_close_of_real_money_is_finished_whatever_the_cap_on_capital(tmp_path: Path) -> None:
    """The cap is for what opens positions; without --live a start of such a close is refused as ever."""

    async def story(world: World) -> None:
        settings = replace(world.settings(), environment=Environment.LIVE)
        assert settings.live_max_capital_quote == 0
        rest = BinanceRest(
            InMemoryHttp(world.link), world.clock, api_key=KEY, api_secret=SECRET, timeout_s=1.0
        )
        start = Start(
            settings=settings,
            gateway=Gateway(rest, world.clock),
            wallet=None,
            clock=world.clock,
            has_keys=True,
            confirmed=True,
            machine=None,
            notify=world.notify,
            on_wait=world.waits.append,
        )
        prepared = await prepare_to_close(start)
        assert set(prepared.rules) == {world.symbol}
        with pytest.raises(StartRefused, match="EXCHANGE_ENV=live without --live"):
            await prepare_to_close(replace(start, confirmed=False))

    in_a_world(tmp_path, story)


def test_dust_ends_a_close_that_was_taken_up(tmp_path: Path) -> None:
    """What no order can close keeps no start going for ever."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.003")
        latch_of(world).engage("position over the limit", 5, is_closing=True)
        world.strike("symbol-rules", symbol=world.symbol, step_size="0.01", min_qty="0.01", for_s=300)
        async with asyncio.timeout(15):
            assert await world.start(**CALM) is ExitCode.HALTED
        assert halt_of(world) == Halt("BTCUSDT", "position over the limit", 5)
        assert world.position() == Decimal("0.003")

    in_a_world(tmp_path, story)


def test_position_that_an_operator_wants_to_keep_is_kept_through_restarts(tmp_path: Path) -> None:
    """A halt from outside is no close: the start ends with 4 and nothing is sold."""

    async def story(world: World) -> None:
        world.start(**CALM)
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        (world.folder / "state" / "HALT").touch()
        await world.until(lambda: latch_of(world).read() is not None, 3)
        await world.vanish()
        assert await world.start(**CALM) is ExitCode.HALTED
        assert world.position() == Decimal("0.010")

    in_a_world(tmp_path, story)
