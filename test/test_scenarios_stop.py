"""However and whenever it ends: nothing of ours rests, and the exit code tells the truth."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from test.daemon import MODES, REPLACING, Sent, World, in_a_world

MOMENTS_S = [0.0, 0.001, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 5.02, 5.05, 10.1]
"""Before, during and after the start, and in the middle of refreshes."""


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_stop_at_any_moment_leaves_no_order(tmp_path: Path, moment_s: float) -> None:
    """A stop during the start, while quoting or in the middle of a refresh ends verified within five seconds."""

    async def story(world: World) -> None:
        world.start()
        await asyncio.sleep(moment_s)
        assert await world.end(within_s=5) is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("mode", MODES)
def test_stop_in_the_middle_of_each_request_of_a_refresh_leaves_no_order(tmp_path: Path, mode: str) -> None:
    """Wherever between cancel, amendments and the last placement the stop comes, nothing rests afterwards."""

    async def story(world: World) -> None:
        for step in range(12):
            world.start(
                refresh_config={"refresh_mode": mode},
                order_management={"modify_threshold": 0, "patience_bps_s": 0},
            )
            await world.until_quoting()
            world.lose = _stop_at_order_request(world, step + 1)
            assert world.running is not None
            async with asyncio.timeout(30):
                assert await world.running is ExitCode.STOPPED
            assert world.open_orders() == []
            await asyncio.sleep(10)  # a start reads much, and the exchange counts what it reads

    in_a_world(tmp_path, story)


def _stop_at_order_request(world: World, number: int) -> Callable[[str, str], str]:
    """Return a loss function that loses nothing, and asks to stop at that request that changes orders."""
    left = {"n": number}

    def watch(method: str, path: str) -> str:
        if path.lower().endswith(("order", "orders")) and method != "GET":
            left["n"] -= 1
            if left["n"] == 0:
                world.stop.ask("in the middle")
        return ""

    return watch


def test_stop_while_reconnecting_leaves_no_order(tmp_path: Path) -> None:
    """A stop while the streams are down and REST works ends verified."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.cut()
        await asyncio.sleep(0.3)
        world.link.restore()
        assert await world.end(within_s=5) is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_stop_measures_the_exchanges_clock_where_that_refuses_its_cancels(tmp_path: Path) -> None:
    """Those who measure it while the daemon works have stopped by then."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.lose = lambda method, _path: "request" if method == "DELETE" else ""
        ending = asyncio.ensure_future(world.end(within_s=5))
        await asyncio.sleep(1)
        world.lose = lambda _method, _path: ""
        world.strike("clock-skew", offset_ms=20_000, for_s=60)
        assert await ending is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_stop_without_the_exchange_is_not_called_verified(tmp_path: Path) -> None:
    """With the exchange out of reach the exit code is 3, within the deadline; the dead-man switch does the rest."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.cut()
        assert await world.end(within_s=6) is ExitCode.NOT_VERIFIED
        await asyncio.sleep(21)
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_stop_is_verified_with_the_last_of_the_limits(tmp_path: Path) -> None:
    """Others have used nearly all of the weight: what is reserved for cancels is there for the last question, too."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        budget = world.engine.execution._gateway.lanes.budget
        used = budget.weight.used(world.clock.time_ms())
        world.strike("used-weight", weight=budget.weight.limit * 97 // 100 - used)
        await world.until(
            lambda: budget.weight.used(world.clock.time_ms()) > used + 1000, 3, "that the daemon knows of it"
        )
        assert await world.end(within_s=5) is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_stop_of_a_start_after_a_crash_is_not_called_verified(tmp_path: Path) -> None:
    """The quotes of the last run rest, and nobody has looked: 3; the next start gets them out, and may end with 0."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        world.start()
        await asyncio.sleep(0.01)
        assert world.engine is None  # still before the first question is answered
        assert await world.end() is ExitCode.NOT_VERIFIED
        assert len(world.ours()) == 6
        world.start()
        await world.until(lambda: not world.ours(), 5, "the orders out")
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        world.start()
        await asyncio.sleep(0.01)
        assert await world.end() is ExitCode.STOPPED  # stopped as early, and nothing was left

    in_a_world(tmp_path, story)


def test_second_request_to_stop_hurries(tmp_path: Path) -> None:
    """Asked twice, the daemon ends within about a second even if the exchange does not answer."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.half_open()
        world.stop.ask("first")
        await asyncio.sleep(0.1)
        assert await world.end(within_s=1.5) is ExitCode.NOT_VERIFIED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("why", ["halt", "stop", "stop at once", "stop in a hurry"])
def test_start_after_a_crash_that_ends_early_leaves_no_order_that_comes_late(
    tmp_path: Path, why: str
) -> None:
    """Killed with placements under way: whoever is started then waits for them, or leaves the switch armed for them."""

    async def story(world: World) -> None:
        under_way: list[Sent] = []

        async def note(sent: Sent) -> None:
            if sent.is_order():
                under_way.append(sent)

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.strike("delay-request", method="POST", path="/fapi/v1/order", delay_ms=1800)
        world.tamper = note
        await world.until(lambda: bool(under_way), 10, "a placement")
        if why == "halt":
            (world.folder / "state" / "HALT").touch()
        await world.vanish()
        is_hurried = why == "stop in a hurry"
        running = world.start(safety={"stop_timeout_s": 1} if is_hurried else {})
        if why != "halt":
            await world.until(lambda: world.engine is not None, 5, "a run")
            await asyncio.sleep(0.5 if why == "stop" else 0)
            world.stop.ask("the test goes on")
        async with asyncio.timeout(1.5 if is_hurried else 5):
            code = await running
        if is_hurried:
            assert code is ExitCode.NOT_VERIFIED
            await asyncio.sleep(20)
        else:
            assert code is (ExitCode.HALTED if why == "halt" else ExitCode.STOPPED)
        await world.watch(30, orders=0)

    in_a_world(tmp_path, story)


def test_orders_left_by_a_crash_are_cancelled_by_the_dead_man_switch(tmp_path: Path) -> None:
    """After the daemon has vanished nothing of it rests once the window has passed."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        assert len(world.ours()) == 6
        await asyncio.sleep(21)
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


def test_orphans_of_a_crash_are_gone_before_the_first_new_quote(tmp_path: Path) -> None:
    """A restart finds the orders of the run that crashed and cancels them before it quotes."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        orphans = {order.client_order_id for order in world.ours()}
        assert len(orphans) == 6
        world.start()
        await world.until(lambda: bool({order.client_order_id for order in world.ours()} - orphans), 10)
        assert orphans.isdisjoint(order.client_order_id for order in world.ours())
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert world.events("order_event").count("orphan") == 6

    in_a_world(tmp_path, story)


def test_spent_restart_budget_stops_with_a_fault_and_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that fails for ever ends the daemon with exit code 1, after its quotes are out."""
    from core.risk_controller import RiskController

    async def story(world: World) -> None:
        running = world.start()
        await world.until_quoting()

        async def fail(*_: object) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(RiskController, "check", fail)
        async with asyncio.timeout(60):
            assert await running is ExitCode.FAULT
        assert world.open_orders() == []
        assert "worker_gave_up" in world.events("engine_event")

    in_a_world(tmp_path, story)
