"""What the machine does to the daemon, and what an operator asks for from outside of it: in virtual time."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.context import SymbolContext
from core.day_file import Acceptance, DayFile
from core.day_keeper import DayKeeper
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.journal import JournalFile
from core.metrics_file import MetricsFile
from sim.virtual_time import VirtualClock, VirtualTimeLoop
from utils.errors import StartRefused
from utils.http import HttpResponse
from utils.machine import THIS_MACHINE, Machine

from .daemon import REPLACING, Sent, World, in_a_world


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


def times_asked(world: World) -> list[float]:
    """Return a list that gets the time of each question for the exchange's time; what else is noted goes on."""
    times, before = list[float](), world.tamper

    async def note(sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v1/time":
            times.append(world.now_s)
        return await before(sent)

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


@pytest.mark.parametrize("before", ["signal", "limit"])
def test_signal_that_comes_after_a_resume_halts_again(tmp_path: Path, before: str) -> None:
    """The position is looked at every ten seconds: until then the halt that was cleared stands in memory."""

    async def story(world: World) -> None:
        world.start(risk={"max_price_change": 0}, refresh_config={"risk_check_interval": 10})
        await world.until_quoting()
        assert world.engine is not None
        if before == "signal":
            world.engine._switch.throw("SIGUSR1 received")
        else:
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.080")
        await world.until(lambda: latch_of(world).read() is not None and not world.ours(), 15, "a latch")
        await world.until(lambda: not world.engine.risk.is_closing, 15, "that nothing is to be closed")  # type: ignore[union-attr]
        await asyncio.sleep(11)
        latch_of(world).clear()
        await asyncio.sleep(1)
        world.engine._switch.throw("SIGUSR1 received")
        world.engine._switch.on_throw()
        await world.watch(25, orders=0)
        found = latch_of(world).read()
        assert found is not None
        assert found.reason == "SIGUSR1 received"
        latch_of(world).clear()
        await world.until_quoting(20)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_signal_that_comes_while_a_resume_is_being_taken_halts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow to say whether a loss was accepted; the hold of that moment is younger than the resume."""

    async def story(world: World) -> None:
        world.start(risk={"max_price_change": 0, "max_daily_loss": 50})
        await world.until_quoting()
        assert world.engine is not None
        switch = world.engine._switch
        switch.throw("SIGUSR1 received")
        await world.until(lambda: latch_of(world).read() is not None and not world.ours(), 5, "a latch")
        await asyncio.sleep(3)
        read, begun = DayFile.acceptance, asyncio.Event()
        taking = asyncio.ensure_future(begun.wait())

        async def slowly(self: DayKeeper, context: SymbolContext, day: int) -> Acceptance | None:
            begun.set()
            await asyncio.sleep(1)
            return read(self._files[context.symbol], day)

        monkeypatch.setattr(DayKeeper, "_accepted", slowly)
        monkeypatch.setattr(DayKeeper, "ACCEPTED_EVERY_S", 1e6)
        latch_of(world).clear()
        await taking
        switch.throw("SIGUSR1 received")
        switch.on_throw()
        await world.watch(20, orders=0)
        assert latch_of(world).read() is not None

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
    """Longer than configured without a turn: no quote for 5 s, then all six again; the metrics say why, once."""

    async def story(world: World) -> None:
        world.start(
            refresh_config={"orderbook_refresh_interval": 0.5, "refresh_mode": "replace"},
            safety={"max_loop_lag_ms": 1400},
        )
        await world.until_quoting()
        await asyncio.sleep(2.0)
        stand_still(1.3)
        sent = quotes_sent(world)
        await asyncio.sleep(2.0)
        assert sent != []
        sent.clear()
        stand_still(1.8)
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


class WakingClock(VirtualClock):
    """A clock that has gone on while the machine was suspended; the timers of the event loop have not."""

    slept_s = 0.0

    def time_ms(self) -> int:
        """The time of day."""
        return super().time_ms() + int(self.slept_s * 1000)

    def monotonic_ns(self) -> int:
        """Time with what was slept through."""
        return super().monotonic_ns() + int(self.slept_s * 1e9)


def test_machine_that_was_suspended_reconciles_before_the_next_order(tmp_path: Path) -> None:
    """A minute that no timer has counted: nothing leaves before everything was asked for anew, the clock included."""

    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = world.clock = WakingClock(loop)
        world.start(refresh_config={"orderbook_refresh_interval": 0.5, "refresh_mode": "replace"})
        await world.until_quoting()
        await asyncio.sleep(2.0)
        sent, measured = quotes_sent(world), times_asked(world)
        clock.slept_s = 60
        woken_s = world.now_s
        assert world.engine is not None
        [context] = world.engine.contexts
        assert not context.gate.is_open
        reconciled = world.events("connection_event").count("reconciled")
        await world.until(lambda: not world.ours(), 2.0, "no quotes")
        await world.until_quoting(15)
        assert min(sent) - woken_s > 4.9
        assert min(measured) - woken_s < 2.0
        assert world.disagreements() == []
        assert await world.end() is ExitCode.STOPPED
        assert world.events("connection_event").count("reconciled") > reconciled

    in_a_world(tmp_path, story)


def test_clock_that_wakes_with_the_wrong_time_is_measured_anew(tmp_path: Path) -> None:
    """Wall time and monotonic time are half a second short, both: no step of one, and not enough for a refusal."""

    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = world.clock = WakingClock(loop)
        world.start()
        await world.until_quoting()
        measured = times_asked(world)
        stand_still(30)
        clock.slept_s = -0.5
        woken_s = world.now_s
        await world.until(lambda: bool(measured), 2.0, "a question for the time")
        await world.until_quoting(15)
        assert world.engine is not None
        assert abs(world.engine._gateway.rest.server_clock.offset_ms - 500) < 10
        assert min(measured) - woken_s < 1.0
        assert await world.end() is ExitCode.STOPPED

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


# --- the disk and the memory --------------------------------------------------------------------------------------


def test_orders_wait_for_a_journal_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full, broken, read-only: quotes out though nothing can be noted, said once, and back when the disk is."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        original = JournalFile.append
        for number in (errno.ENOSPC, errno.EIO, errno.EROFS):
            failure = OSError(number, os.strerror(number))
            monkeypatch.setattr(JournalFile, "append", _raising(failure))
            await world.until(lambda: not world.ours(), 7.0, "no quotes")
            sent = quotes_sent(world)
            assert world.engine is not None
            assert any(os.strerror(number) in each for each in world.engine.contexts[0].gate.reasons)
            await asyncio.sleep(20)
            assert sent == []
            monkeypatch.setattr(JournalFile, "append", original)
            await world.until_quoting(8)
        assert await world.end() is ExitCode.STOPPED
        events = world.events("engine_event")
        assert (events.count("disk_trouble"), events.count("disk_well")) == (3, 3)
        audit = await world.audit()
        assert audit.problems == []

    in_a_world(tmp_path, story)


def _raising(error: OSError) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_disk_that_hangs_over_the_journal_closes_the_gate(tmp_path: Path) -> None:
    """After 5 s without an answer; what waited is written in the end."""

    async def story(world: World) -> None:
        hangs = asyncio.Event()
        hangs.set()

        async def run_blocking(work: Callable[[], None]) -> None:
            await hangs.wait()
            work()

        world.run_blocking = run_blocking
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        hangs.clear()
        await world.until(lambda: not world.ours(), 12.0, "no quotes")
        hangs.set()
        await world.until_quoting(8)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_full_metrics_disk_is_told_of_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row and one line say so; the quotes stay where they are."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        original = MetricsFile.append
        monkeypatch.setattr(MetricsFile, "append", _raising(OSError(errno.EROFS, "Read-only file system")))
        for _ in range(20):
            await asyncio.sleep(1)
            assert len(world.ours()) == 6
        monkeypatch.setattr(MetricsFile, "append", original)
        await asyncio.sleep(2)
        assert await world.end() is ExitCode.STOPPED
        events = world.events("engine_event")
        assert (events.count("disk_trouble"), events.count("disk_well")) == (1, 1)

    in_a_world(tmp_path, story)


def test_memory_over_its_bound_ends_the_daemon_in_order_with_a_fault(tmp_path: Path) -> None:
    """Three looks in a row; exit code 1 has a supervisor start it again, and nothing rests meanwhile."""

    async def story(world: World) -> None:
        held = [450.0]
        world.machine = Machine(lambda: held[0], lambda _folder: 1000.0)
        running = world.start(safety={"max_memory_mb": 500})
        await world.until_quoting()
        held[0] = 501.0
        await asyncio.sleep(15)
        held[0] = 450.0
        await asyncio.sleep(15)
        held[0] = 501.0
        await asyncio.sleep(19)
        assert not running.done()
        async with asyncio.timeout(15):
            assert await running is ExitCode.FAULT
        assert world.ours() == []
        assert world.events("engine_event").count("memory") == 1

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("most", "held", "is_said"), [(500, 0.0, True), (0, 0.0, False), (500, 90.0, False)])
def test_bound_on_memory_that_the_system_does_not_tell_of_is_said_to_do_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, most: int, held: float, is_said: bool
) -> None:
    """Once at the start; not without a bound, and not where it holds."""

    async def story(world: World) -> None:
        world.machine = Machine(lambda: held, lambda _folder: 1000.0)
        world.start(safety={"max_memory_mb": most})
        await world.until_quoting()
        await asyncio.sleep(60)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
    told = [line for line in caplog.messages if "safety.max_memory_mb of 500 does nothing" in line]
    assert len(told) == (1 if is_said else 0)


def test_disk_without_room_refuses_the_start_and_alarms_while_running(tmp_path: Path) -> None:
    """5 MB for a start, 200 MB for peace; said once, and once when there is room again."""

    async def story(world: World) -> None:
        left = [4.0]
        world.machine = Machine(lambda: 10**6, lambda _folder: left[0])
        with pytest.raises(StartRefused, match=r"disk: 4 MB free for .*; make room"):
            await world.start()
        assert world.count("orders") == 0
        left[0] = 201.0
        world.start()
        await world.until_quoting()
        left[0] = 199.0
        await asyncio.sleep(30)
        left[0] = 260.0
        await asyncio.sleep(15)
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        events = world.events("engine_event")
        assert (events.count("disk_trouble"), events.count("disk_well")) == (2, 2)  # of state and of logs

    in_a_world(tmp_path, story)


def test_this_machine_says_what_it_has(tmp_path: Path) -> None:
    """Memory of a Python process, and the disk of a folder that has not been made yet."""
    assert 5 < THIS_MACHINE.memory_mb() < 100_000
    assert THIS_MACHINE.free_mb(tmp_path / "not" / "there") == pytest.approx(
        THIS_MACHINE.free_mb(tmp_path), abs=500
    )


def test_metrics_of_old_days_go_beyond_the_bound(tmp_path: Path) -> None:
    """With the first rows of a run; a bound that holds them keeps them."""

    async def story(world: World) -> None:
        logs = world.folder / "logs"
        logs.mkdir()
        old = logs / "metrics-20200101.csv"
        old.write_bytes(b"x" * 1_500_000)
        for max_mb, is_kept in ((2, True), (1, False)):
            world.start(logging={"max_metrics_mb": max_mb})
            await world.until_quoting()
            await asyncio.sleep(2)
            assert await world.end() is ExitCode.STOPPED
            assert old.exists() is is_kept

    in_a_world(tmp_path, story)
