"""Every order of a run is accounted for: by the journal, by the exchange, and by both the same."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode
from core.order_audit import Audit, Standing

from .daemon import World, in_a_world

QUICK: dict[str, Any] = {"refresh_config": {"orderbook_refresh_interval": 1}}


def ends_of(world: World) -> dict[str, str]:
    """Our orders as the exchange's own record has them, with their status there in our words."""
    orders = world.record()["orders"]
    return {
        order["clientOrderId"]: order["status"].replace("CANCELED", "CANCELLED")
        for order in orders
        if order["clientOrderId"].startswith("qpmm-")
    }


def assert_accounted(world: World, audit: Audit) -> None:
    """Each client id of the exchange's record is there once, with its one final state, and nothing contradicts it."""
    assert audit.problems == []
    states = {order.client_id: order.state for order in audit.orders}
    assert len(states) == len(audit.orders)
    truth = ends_of(world)
    assert {name: states[name] for name in truth} == truth
    assert {order.standing for order in audit.orders} == {Standing.ENDED}
    assert all(states[name] == "REJECTED" for name in states.keys() - truth.keys())


def test_orders_of_a_machine_whose_clock_is_fast_are_found_at_the_exchange(tmp_path: Path) -> None:
    """Its journal begins later than the exchange's account of the same orders."""

    async def story(world: World) -> None:
        world.skew_ms = 30_000
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert_accounted(world, await world.audit())

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("hidden_s", "missing"), [(2, 0), (60, 6)])
def test_order_of_a_moment_ago_is_looked_for_again_before_it_is_called_missing(
    tmp_path: Path, hidden_s: int, missing: int
) -> None:
    """The exchange's lists lag behind; what they never show is not at the exchange."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        world.strike("hide-orders", client_id="qpmm-", younger_than_s=hidden_s, for_s=60)
        audit = await world.audit()
        assert (len(audit.orders), len(audit.problems)) == (6, missing)

    in_a_world(tmp_path, story)


def test_trade_of_an_order_that_the_exchange_does_not_find_is_written_down_as_the_orders(
    tmp_path: Path,
) -> None:
    """By its number: it was believed to be gone without one, since neither queries nor a cancel had found it."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(10)
        world.control("POST", "/sim/silence", stream="userData", seconds=60)
        world.strike("hide-orders", client_id="qpmm-", younger_than_s=3600, for_s=60)
        world.strike("move-market", bps=-15)
        await world.until(lambda: world.count("fills") > 0, 2, "a trade of a quote")
        assert await world.end() is ExitCode.STOPPED
        await asyncio.sleep(60)
        assert_accounted(world, await world.audit())

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("mode", ["amend", "replace"])
def test_every_order_of_a_run_has_the_final_state_that_the_exchange_has(tmp_path: Path, mode: str) -> None:
    """Placed, amended, filled, cancelled, and one that closed a position over the limit."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": 1, "refresh_mode": mode})
        await world.until_quoting()
        audit = await world.audit()
        assert (audit.problems, audit.is_running) == ([], True)
        assert Standing.OPEN in {order.standing for order in audit.orders}
        await asyncio.sleep(120)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.05")
        await world.until(lambda: world.position() == 0, 10, "a flat position")
        assert await world.end() is ExitCode.HALTED
        audit = await world.audit()
        assert_accounted(world, audit)
        assert {order.source for order in audit.orders} <= {"both", "journal"}
        assert sum(order.executed for order in audit.orders if order.level == 0) >= Decimal("0.04")

    in_a_world(tmp_path, story)


def test_every_order_of_a_murdered_run_is_accounted_for_once_the_next_has_cleared_up(tmp_path: Path) -> None:
    """Twice in a row, in the middle of a refresh."""

    async def story(world: World) -> None:
        left: set[str] = set()

        def own_quotes_rest() -> bool:
            names = {order.client_order_id for order in world.ours()}
            return len(names) == 6 and not names & left

        for _ in range(2):
            world.start(**QUICK)
            await world.until(own_quotes_rest, 30)
            await asyncio.sleep(7.01)
            await world.vanish()
            left = {order.client_order_id for order in world.ours()}
            assert left
            assert left <= {line.split(":")[0] for line in (await world.audit()).problems}
        world.start(**QUICK)
        await world.until(own_quotes_rest, 30)
        assert await world.end() is ExitCode.STOPPED
        assert_accounted(world, await world.audit())

    in_a_world(tmp_path, story)
