"""What the machine does to the daemon, and what an operator asks for from outside of it: in virtual time."""

import asyncio
from pathlib import Path

from core.engine import ExitCode
from core.halt import HaltLatch
from sim.virtual_time import VirtualTimeLoop

from .daemon import Sent, World, in_a_world


def stand_still(seconds: float) -> None:
    """Let time pass while the event loop does nothing, as SIGSTOP, a paused machine or a wedged callback do."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._now_ns += int(seconds * 1e9)


def quotes_sent(world: World) -> list[float]:
    """Return a list that gets the time of each quote and amendment that leaves."""
    times: list[float] = []

    async def note(sent: Sent) -> None:
        if sent.is_order() or sent.method == "PUT":
            times.append(world.now_s)

    world.tamper = note
    return times


def latch_of(world: World) -> HaltLatch:
    """Return the latch of the world's symbol."""
    return HaltLatch(world.folder / "state", "paper-test", world.symbol)


def test_halt_file_takes_the_quotes_out_and_keeps_the_position(tmp_path: Path) -> None:
    """Within a second; latched, named in the status; only a cleared latch brings them back, not the file's end."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.002")
        await asyncio.sleep(3)
        held = world.position()
        assert held > 0
        file = world.folder / "state" / "HALT"
        file.touch()
        assert await world.until(lambda: not world.ours(), 1.0, "no quotes") < 0.5
        sent = quotes_sent(world)
        await world.until(lambda: latch_of(world).read() is not None, 1.0, "a latch")
        assert world.engine is not None
        assert any(
            f"halted: there is a file {file}" in each for each in world.engine.contexts[0].gate.reasons
        )
        file.unlink()
        await asyncio.sleep(20)
        assert (sent, world.position()) == ([], held)
        latch_of(world).clear()
        await world.until(lambda: bool(world.ours()), 10, "quotes after the latch was cleared")
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("held") == 1
        assert world.events("engine_event").count("halt_asked") == 1

    in_a_world(tmp_path, story)


def test_halt_stands_through_a_restart_though_its_file_is_gone(tmp_path: Path) -> None:
    """A daemon that is stopped while it is halted ends with 4, and so does the next, which sends no order at all."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        world.engine._switch.throw("SIGUSR1 received")
        await world.until(lambda: not world.ours(), 1.0, "no quotes")
        assert await world.end() is ExitCode.HALTED
        orders = world.count("orders")
        assert await world.start() is ExitCode.HALTED
        latch_of(world).clear()
        (world.folder / "state" / "HALT").touch()
        assert await world.start() is ExitCode.HALTED
        assert latch_of(world).read() is not None
        assert world.count("orders") == orders

    in_a_world(tmp_path, story)


def test_wedged_loop_sends_nothing_once_the_switch_is_thrown(tmp_path: Path) -> None:
    """The very first turn after the wedge knows, whichever task has it: no quote, no amendment leaves any more."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": 0.5, "refresh_mode": "replace"})
        await world.until_quoting()
        assert world.engine is not None
        for _ in range(40):  # whatever is under way at the moment of the wedge
            await asyncio.sleep(0.05)
        sent = quotes_sent(world)
        world.engine.loop_watch.look_at_switch = lambda: None  # type: ignore[method-assign]  # the watcher is wedged, too
        world.engine._switch.throw("SIGUSR1 received")
        thrown_s = world.now_s
        await world.until(lambda: not world.ours(), 5.0, "no quotes")
        await asyncio.sleep(5)
        assert [each for each in sent if each > thrown_s] == []

    in_a_world(tmp_path, story)


def test_standstill_closes_the_gate_before_anything_leaves(tmp_path: Path) -> None:
    """After 1.5 s without a turn: no quote for 5 s, then all six again; the metrics say why, once."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": 0.5, "refresh_mode": "replace"})
        await world.until_quoting()
        await asyncio.sleep(2.0)
        sent = quotes_sent(world)
        stand_still(1.5)
        resumed_s = world.now_s
        await world.until(lambda: not world.ours(), 1.0, "no quotes")
        await world.until_quoting(8)
        assert min(sent) - resumed_s > 4.9
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("loop_late") == 1
        assert world.events("engine_event").count("loop_in_time") == 1

    in_a_world(tmp_path, story)


def test_process_that_stood_still_believes_nothing_it_knew(tmp_path: Path) -> None:
    """30 s, in which the exchange has cancelled everything and somebody traded: reconciled before any quote leaves."""

    async def story(world: World) -> None:
        world.start(refresh_config={"orderbook_refresh_interval": 0.5, "refresh_mode": "replace"})
        await world.until_quoting()
        await asyncio.sleep(2.0)
        sent = quotes_sent(world)
        stand_still(30)
        resumed_s = world.now_s
        assert world.engine is not None
        [context] = world.engine.contexts
        assert not context.gate.is_open
        reconciled = world.events("connection_event").count("reconciled")
        await world.until(lambda: not world.ours(), 1.0, "no quotes")
        await world.until_quoting(15)
        assert min(sent) - resumed_s > 4.9
        assert world.disagreements() == []
        assert await world.end() is ExitCode.STOPPED
        assert world.events("connection_event").count("reconciled") > reconciled

    in_a_world(tmp_path, story)


def test_step_of_the_clock_is_measured_before_the_next_signed_request(tmp_path: Path) -> None:
    """An hour forth and back: not one timestamp is refused, and the quotes stay as they are."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        refused = world.engine._gateway.rest.usage.refused
        for step_ms in (3_600_000, -7_200_000, 900):
            world.daemon_clock.skew_ms += step_ms
            await asyncio.sleep(10)
            assert len(world.ours()) == 6
        assert world.engine._gateway.rest.usage.refused == refused
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("clock_stepped") == 3

    in_a_world(tmp_path, story)
