"""Two daemons on one account, each with a state directory of its own, so that no lock keeps them apart."""

import asyncio
import shutil
from copy import copy
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from core.flatten import Terms
from core.flattening import Flattening
from core.foreign_writer import ForeignWriter

from .daemon import World, in_a_world


def another(world: World) -> World:
    """Return a place for a second daemon on the same exchange and account."""
    folder = world.folder / "elsewhere"
    folder.mkdir()
    return World(world.exchange, world.clock, folder, world.symbol)


def boots(world: World) -> set[str]:
    """Return which runs have an order that rests."""
    return {order.client_order_id.split("-")[2] for order in world.ours()}


def _all_are_new(world: World, before: int) -> bool:
    """Tell whether six rest, none of which is among the first so many orders."""
    return len(world.ours()) == 6 and min(order.order_id for order in world.ours()) > before


def test_second_instance_refuses_and_the_first_quotes_on(tmp_path: Path) -> None:
    """It ends with 2 and a sentence, has placed nothing, and the orders of the first are back."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        [first] = boots(world)
        await asyncio.sleep(10)
        second = another(world)
        running = second.start()
        async with asyncio.timeout(30):
            assert await running is ExitCode.REFUSED
        placed = {order["clientOrderId"].split("-")[2] for order in world.record()["orders"]}
        assert placed == {first}
        await world.until_quoting(10)
        assert second.events("engine_event").count("stranger") == 1
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("stranger") == 0

    in_a_world(tmp_path, story)


async def while_another_quotes(world: World) -> tuple[str, World]:
    """Return the boot of the first, which quotes so seldom that it looked dead, and the second, for which it waits."""
    world.start(refresh_config={"orderbook_refresh_interval": 25}, order_management={"reset_interval": 0})
    await world.until_quoting()
    [first] = boots(world)
    second = another(world)
    second.start()
    await world.until(lambda: first not in boots(world) and len(world.ours()) == 6, 40, "the second's quotes")
    await asyncio.sleep(20)
    return first, second


def test_first_instance_makes_way_when_the_second_did_not_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It quotes seldom, so that it looked dead. Never a war: the first alarms once, waits, and quotes on afterwards."""

    async def story(world: World) -> None:
        monkeypatch.setattr(ForeignWriter, "CLEAN_S", 6.0)
        first, second = await while_another_quotes(world)
        assert first not in boots(world)
        assert len(world.ours()) == 6
        assert world.engine is not None
        assert any("another instance trades" in each for each in world.engine.gate.reasons)
        cancelled = sum(order["status"] == "CANCELED" for order in world.record()["orders"])
        assert cancelled < 20
        assert await second.end() is ExitCode.STOPPED
        await world.until(
            lambda: boots(world) == {first} and len(world.ours()) == 6, 40, "quotes of the first"
        )
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("stranger") == 1

    in_a_world(tmp_path, story)


def test_other_instance_is_not_called_quiet_while_nobody_can_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No list of open orders has an answer for a minute: the one that waits goes on waiting."""

    async def story(world: World) -> None:
        monkeypatch.setattr(ForeignWriter, "CLEAN_S", 6.0)
        _, second = await while_another_quotes(world)
        assert world.engine is not None
        assert world.engine.foreign.is_seen
        world.lose = lambda _method, path: "reply" if path == "/fapi/v1/openOrders" else ""
        for _ in range(60):
            await asyncio.sleep(1)
            assert world.engine.foreign.is_seen
        world.lose = lambda _method, _path: ""
        assert await second.end() is ExitCode.STOPPED
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("does_end", [False, True])
def test_quotes_of_another_instance_that_dies_go_by_the_dead_man_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, does_end: bool
) -> None:
    """The one that waits feeds nobody's timer but its own, and takes none away when it ends: two share one."""

    async def story(world: World) -> None:
        monkeypatch.setattr(ForeignWriter, "CLEAN_S", 6.0)
        first, second = await while_another_quotes(world)
        assert len(world.ours()) == 6
        await second.vanish()
        if does_end:
            assert await world.end() is ExitCode.STOPPED
        assert len(world.ours()) == 6
        took_s = await world.until(
            lambda: not world.ours() or first in boots(world), 21, "the end of the quotes of the dead"
        )
        assert took_s > 5
        if not does_end:
            await world.until(lambda: boots(world) == {first} and len(world.ours()) == 6, 40, "quotes again")
            assert world.exchange._venue.instruments[world.symbol].countdown_due_ms is not None
            assert await world.end() is ExitCode.STOPPED
            assert not any("lapsed" in row["details"] for row in world.rows())
        assert world.ours() == []

    in_a_world(tmp_path, story)


def test_instance_that_gives_way_leaves_the_dead_man_switch_of_the_other_armed(tmp_path: Path) -> None:
    """The switch is one for all orders of the symbol."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(10)
        second = another(world)
        running = second.start()
        instrument = world.exchange._venue.instruments[world.symbol]
        while not running.done():
            await asyncio.sleep(0.01)
            assert instrument.countdown_due_ms is not None
        assert running.result() is ExitCode.REFUSED
        assert await world.end() is ExitCode.STOPPED
        assert instrument.countdown_due_ms is None

    in_a_world(tmp_path, story)


def test_close_with_broken_books_leaves_the_orders_of_a_living_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort, which asks the exchange alone what rests, takes out ours and nobody else's."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        engine = world.engine
        assert engine is not None
        await world.other_client(
            *("POST", "/fapi/v1/order"),
            symbol=world.symbol,
            side="BUY",
            type="LIMIT",
            timeInForce="GTX",
            price="60000.0",
            quantity="0.003",
            newClientOrderId="qpmm-mm9-zz-1",
        )

        async def broken(*_: object) -> bool:
            raise RuntimeError("the books are broken")

        execution = copy(engine.execution)
        execution.is_strangers = lambda report: "-mm9-" in report.client_id
        monkeypatch.setattr(execution, "withdraw", broken)
        engine.contexts[0].gate.close("test", "a close")
        flattening = Flattening(
            engine.gateway, execution, world.clock, Terms(Decimal(50), 3.0), max_book_age_ms=3000
        )
        async with engine.contexts[0].lock:
            assert await flattening._withdraw(engine.contexts[0], 2.0)
        assert [order.client_order_id for order in world.ours()] == ["qpmm-mm9-zz-1"]

    in_a_world(tmp_path, story)


def test_orders_left_by_a_machine_that_is_gone_are_no_stranger(tmp_path: Path) -> None:
    """Nothing is known of the run that placed them: a few seconds to make sure, then quotes."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        left = boots(world)
        shutil.rmtree(world.folder / "state")
        world.start()
        took_s = await world.until(lambda: len(world.ours()) == 6 and not boots(world) & left, 20, "quotes")
        assert took_s > 8
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("stranger") == 0

    in_a_world(tmp_path, story)


def test_orders_left_by_earlier_runs_of_this_machine_hold_nothing_up(tmp_path: Path) -> None:
    """Killed, and killed again: each start knows whose they are."""

    async def story(world: World) -> None:
        for _ in range(3):
            world.start()
            await world.until(lambda: len(world.ours()) == 6, 10)
            await asyncio.sleep(1)
            await world.vanish()
            orders = world.count("orders")
            world.start()
            await world.until(partial(_all_are_new, world, orders), 8, "quotes")
            await world.vanish()
        orders = world.count("orders")
        world.start()
        await world.until(partial(_all_are_new, world, orders), 8, "quotes")
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("stranger") == 0

    in_a_world(tmp_path, story)
