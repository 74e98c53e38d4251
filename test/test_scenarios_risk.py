"""A position over the limit is closed, quoting pauses, and only an operator ends the pause."""

import asyncio
from decimal import Decimal
from pathlib import Path

from core.exit_code import ExitCode
from core.halt import HaltLatch
from test.daemon import Sent, World, in_a_world, json_reply, untouched
from utils.http import HttpResponse

OVER_THE_LIMIT = "0.040"
"""At 64,000 USDT each about 2560 USDT; the limit of the shipped configuration is 2000."""


def latch(world: World) -> HaltLatch:
    """Return the latch of the world's daemon."""
    return HaltLatch(world.folder / "state", "paper-test", world.symbol)


async def _breach(world: World, side: str = "BUY") -> None:
    world.start()
    await world.until_quoting()
    world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity=OVER_THE_LIMIT)


def _is_flat_and_out(world: World) -> bool:
    return world.position() == 0 and not world.ours() and world.state.strategy_paused


def test_long_over_the_limit_is_closed_within_two_seconds(tmp_path: Path) -> None:
    """A forced buy over the limit: flat, no quotes, paused, each within two seconds, and for good."""

    async def story(world: World) -> None:
        await _breach(world)
        assert await world.until(lambda: _is_flat_and_out(world), 2) < 2
        placed = world.count("orders")
        await world.until(lambda: world.clock.monotonic_ns() > 60e9, 70)
        assert world.count("orders") == placed
        assert _is_flat_and_out(world)
        assert await world.end() is ExitCode.HALTED
        assert {"limits", "breach", "flat"} <= set(world.events("risk_event"))

    in_a_world(tmp_path, story)


def test_short_over_the_limit_is_closed_within_two_seconds(tmp_path: Path) -> None:
    """A forced sale over the limit ends the same way."""

    async def story(world: World) -> None:
        await _breach(world, "SELL")
        await world.until(lambda: _is_flat_and_out(world), 2)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_flatten_only_ever_reduces_the_position(tmp_path: Path) -> None:
    """The one closing order is reduce-only, never rests, and is bounded in its price."""

    async def story(world: World) -> None:
        await _breach(world)
        await world.until(lambda: _is_flat_and_out(world), 2)
        closing = [
            order
            for order in world.record()["orders"]
            if order["timeInForce"] == "IOC" and order["clientOrderId"].startswith("qpmm-")
        ]
        assert [(order["side"], order["reduceOnly"]) for order in closing] == [("SELL", True)]
        [order] = closing
        assert Decimal(order["price"]) > Decimal(order["bid"]) * Decimal("0.995")
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_flatten_succeeds_although_the_reply_to_the_closing_order_is_lost(tmp_path: Path) -> None:
    """An unknown outcome of the closing order leads to asking for the position, never to turning it."""

    async def story(world: World) -> None:
        lost: list[str] = []

        def lose(method: str, path: str) -> str:
            closing = path == "/fapi/v1/order" and method == "POST" and world.state.strategy_paused
            if closing and not lost:
                lost.append(path)
                return "reply"
            return ""

        world.lose = lose
        await _breach(world)
        await world.until(lambda: _is_flat_and_out(world), 10)
        assert lost
        await world.until(lambda: world.clock.monotonic_ns() > 30e9, 40)
        assert world.position() == 0
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_halt_survives_a_restart_and_ends_by_resume(tmp_path: Path) -> None:
    """A restarted daemon ends at once with exit code 4 and no order; after the latch is cleared it quotes."""

    async def story(world: World) -> None:
        await _breach(world)
        await world.until(lambda: _is_flat_and_out(world), 2)
        assert await world.end() is ExitCode.HALTED
        placed = world.count("orders")
        assert await world.start() is ExitCode.HALTED
        assert world.count("orders") == placed
        assert latch(world).clear()
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_resume_ends_the_pause_of_a_running_daemon(tmp_path: Path) -> None:
    """A daemon that runs paused quotes again once the latch is cleared."""

    async def story(world: World) -> None:
        await _breach(world)
        await world.until(lambda: _is_flat_and_out(world) and latch(world).read() is not None, 3)
        latch(world).clear()
        await world.until_quoting()
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_halt_stands_in_memory_when_the_disk_does_not_take_it(tmp_path: Path) -> None:
    """A latch that cannot be written costs nothing of the halt while the process lives."""

    async def story(world: World) -> None:
        latch(world).path.parent.mkdir(parents=True, exist_ok=True)
        latch(world).path.with_suffix(".tmp").mkdir()  # where the file has to be written first
        await _breach(world)
        await world.until(lambda: _is_flat_and_out(world), 2)
        assert latch(world).read() is None
        await world.until(lambda: world.clock.monotonic_ns() > 20e9, 30)
        assert _is_flat_and_out(world)
        assert await world.end() is ExitCode.HALTED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


def test_strategy_paused_stops_quoting_whoever_assigned_it(tmp_path: Path) -> None:
    """Assigning strategy_paused pulls the quotes within a second or so; taking it back brings them again."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.state.strategy_paused = True
        await world.until(lambda: not world.ours(), 2)
        world.state.strategy_paused = False
        await world.until_quoting(3)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_position_of_another_program_is_noticed_and_adopted(tmp_path: Path) -> None:
    """A trade that somebody else makes on the account is counted, and the books agree again."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        await world.until(lambda: world.state.position == world.position() != 0, 5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_forced_trade_halts_although_the_position_cannot_be_read(tmp_path: Path) -> None:
    """Quotes out and the halt on disk at once; what is held is closed once it can be read; a resume quotes again."""

    async def story(world: World) -> None:
        world.start(risk={"max_daily_loss": 0, "max_price_change": 0})
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        await asyncio.sleep(3)

        async def unread(sent: Sent) -> HttpResponse | None:
            is_asked = sent.path == "/fapi/v3/positionRisk"
            return json_reply(503, {"code": -1001, "msg": "internal error"}) if is_asked else None

        world.tamper = unread
        world.control("POST", "/sim/adl", symbol=world.symbol, quantity="0.002")
        await world.until(lambda: not world.ours(), 1, "the quotes out")
        placed = world.count("orders")
        await asyncio.sleep(2)
        halt = latch(world).read()
        assert halt is not None
        assert halt.is_closing
        assert world.count("orders") == placed
        assert world.position() == Decimal("0.008")
        world.tamper = untouched
        await world.until(lambda: _is_flat_and_out(world), 10, "the position closed")
        await asyncio.sleep(2)
        assert latch(world).clear()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
