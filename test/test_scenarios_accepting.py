"""A loss that an operator accepts: with and without a halt, with and without a record of it."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from core.daily_loss import day_of
from core.day_keeper import DayKeeper
from core.exit_code import ExitCode
from test.daemon import World, in_a_world
from test.test_scenarios_loss import LIMIT, day_file, is_halted, latch, lose


def accept(world: World, result_quote: Decimal | None) -> None:
    """Do what ``resume --accept-loss`` does about the loss."""
    now_ms = world.clock.time_ms()
    day_file(world).accept(day_of(now_ms), result_quote, now_ms)


def counted(world: World) -> Decimal:
    """The result that counts against the limit."""
    assert world.engine is not None
    day = world.engine.contexts[0].day
    assert day is not None
    return day.quote


def test_loss_that_is_accepted_before_any_halt_counts_no_more_at_once(tmp_path: Path) -> None:
    """And not a second time later, when more has been lost: nobody has accepted that."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await world.until(lambda: counted(world) < -11, 5, "a loss that is known")
        accept(world, Decimal(-12))
        await world.until(lambda: counted(world) > -1, 5, "a count that begins anew")
        await lose(world, Decimal(28))
        await world.until(lambda: counted(world) < -15, 5, "a loss that is known")
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("loss_accepted") == 1

        world.start(**LIMIT)
        await world.until(lambda: world.engine is not None and world.engine.contexts[0].day is not None, 5)
        assert counted(world) < -15
        await lose(world, Decimal(34))
        await world.until(lambda: is_halted(world), 5, "a halt")
        latch(world).clear()
        placed = world.count("orders")
        await world.until(lambda: latch(world).read() is not None, 5, "the halt again")
        assert world.count("orders") == placed

    in_a_world(tmp_path, story)


def test_what_was_lost_after_an_acceptance_that_nobody_took_is_not_forgiven_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon ran on without seeing it, and wrote its record; the next one sees both."""
    patience_s = DayKeeper.ACCEPTED_EVERY_S

    async def story(world: World) -> None:
        monkeypatch.setattr(DayKeeper, "ACCEPTED_EVERY_S", 1e6)
        world.start(**LIMIT)
        await world.until_quoting()
        await asyncio.sleep(5)
        await lose(world, Decimal(12))
        await asyncio.sleep(2)
        accept(world, Decimal(-12))
        await lose(world, Decimal(17))
        await asyncio.sleep(62)
        await world.vanish()
        monkeypatch.setattr(DayKeeper, "ACCEPTED_EVERY_S", patience_s)
        world.start(**LIMIT)
        await world.until(lambda: world.engine is not None and world.engine.contexts[0].day is not None, 5)
        await asyncio.sleep(5)
        assert -8 < counted(world) < -4

    in_a_world(tmp_path, story)


def test_slow_disk_holds_up_no_check_of_the_position(tmp_path: Path) -> None:
    """Whether a loss was accepted is read every two seconds, and each reading takes nearly as long."""

    async def story(world: World) -> None:
        async def slow(work: Callable[[], None]) -> None:
            await asyncio.sleep(1.9 if world.now_s > slow_from_s else 0)
            work()

        slow_from_s = 20.0
        world.run_blocking = slow
        world.start(**LIMIT)
        await world.until_quoting()
        await asyncio.sleep(20)
        assert world.engine is not None
        checks = world.engine.risk.checks["BTCUSDT"]
        await asyncio.sleep(20)
        assert world.engine.risk.checks["BTCUSDT"] - checks >= 17
        accept(world, Decimal(-1))
        await world.until(lambda: world.events("risk_event").count("loss_accepted") == 1, 8, "an acceptance")

    in_a_world(tmp_path, story)


def test_loss_of_which_there_is_no_record_is_accepted_with_what_the_exchange_tells(tmp_path: Path) -> None:
    """The command says that it is unknown and accepted; the next start quotes, and may lose as much again."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED
        day_file(world).path.write_bytes(b"torn")
        latch(world).clear()
        accept(world, None)
        world.start(**LIMIT)
        await world.until_quoting(25)
        assert -1 < counted(world) < 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
