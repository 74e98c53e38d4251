"""The latch on disk follows the halt in memory, also on a disk that is slow, and through more than one cause."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from commands.halts import halts_text
from commands.resume import resume
from core.crash_count import CrashCount
from core.exit_code import ExitCode
from core.halt import Halt, HaltLatch
from core.halt_keeper import HaltKeeper
from core.restarts import Restarts
from core.shutdown import StopRequest
from sim.virtual_time import VirtualClock, run_virtual
from test.daemon import World, in_a_world


class SlowDisk:
    """A disk whose first write takes 30 s."""

    def __init__(self) -> None:
        self.writes = 0

    async def __call__(self, work: Callable[[], None]) -> None:
        """Do the work, some time."""
        self.writes += 1
        if self.writes == 1:
            await asyncio.sleep(30)
        work()


def test_close_that_begins_while_an_older_halt_is_still_being_written_is_on_disk_in_the_end(
    tmp_path: Path,
) -> None:
    """A halt from outside keeps the position, the breach after it does not; nobody waits for the disk for long."""

    async def story(clock: VirtualClock) -> None:
        latch = HaltLatch(tmp_path, "paper", "BTCUSDT")
        taken: list[str] = []
        halts = HaltKeeper({"BTCUSDT": latch}, clock, SlowDisk(), taken.append)
        began_ns = clock.monotonic_ns()
        await halts.engage("BTCUSDT", "somebody wants it", is_closing=False)
        await halts.engage("BTCUSDT", "over the limit", is_closing=True)
        assert clock.monotonic_ns() - began_ns < 5e9
        assert not halts.is_cleared("BTCUSDT")
        assert not taken
        await asyncio.sleep(40)
        assert taken == ["BTCUSDT"]
        halt = latch.read()
        assert halt is not None
        assert (halt.reason, halt.is_closing) == ("over the limit", True)
        await halts.finish("BTCUSDT")
        assert latch.read() == msgspec.structs.replace(halt, is_closing=False)

    run_virtual(story)


def test_halt_that_was_cleared_during_its_close_is_not_set_again(tmp_path: Path) -> None:
    """The file is gone, so the operator has spoken."""

    async def story(clock: VirtualClock) -> None:
        latch = HaltLatch(tmp_path, "paper", "BTCUSDT")
        halts = HaltKeeper({"BTCUSDT": latch}, clock, asyncio.to_thread, lambda _symbol: None)
        await halts.engage("BTCUSDT", "over the limit", is_closing=True)
        latch.clear()
        await halts.finish("BTCUSDT")
        assert halts.is_cleared("BTCUSDT")

    run_virtual(story)


def test_start_with_an_unfinished_close_hardly_waits_and_needs_no_count(tmp_path: Path) -> None:
    """After many bad ends 5 s at most; and a disk that takes nothing refuses nothing."""

    async def story(clock: VirtualClock) -> None:
        count = CrashCount(tmp_path, "paper", ["BTCUSDT"])
        latch = HaltLatch(tmp_path, "paper", "BTCUSDT")
        latch.engage("over the limit", 5, is_closing=True)
        for _ in range(9):
            count.end_badly(clock.time_ms())
        restarts = Restarts(count, [latch], clock, 10)

        async def run() -> ExitCode:
            return ExitCode.HALTED

        began_ns = clock.monotonic_ns()
        assert await restarts.counted(StopRequest(), run) is ExitCode.HALTED
        assert clock.monotonic_ns() - began_ns <= 5e9
        stopped = StopRequest()
        stopped.ask("at once")
        assert await restarts.counted(stopped, run) is None
        count.path.with_suffix(".tmp").mkdir()
        assert await restarts.counted(StopRequest(), run) is ExitCode.HALTED

    run_virtual(story)


def test_resume_is_refused_until_the_close_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remedy, and without touching the halt; ``status`` and ``check`` have the same in words."""

    async def story(world: World) -> None:
        settings = replace(world.settings(), paper_url="http://127.0.0.1:9")
        latch = HaltLatch(settings.state_directory, "paper-127.0.0.1-9", world.symbol)
        latch.engage("over the limit", 5, is_closing=True)
        assert resume(settings, accept_loss=False) is ExitCode.REFUSED
        assert "nobody has verified yet" in capsys.readouterr().out
        assert latch.read() == Halt(world.symbol, "over the limit", 5, is_closing=True)
        [line] = halts_text(settings)
        assert "a start goes on closing it" in line
        latch.finish()
        [line] = halts_text(settings)
        assert "a start ends with 4" in line
        assert resume(settings, accept_loss=False) is ExitCode.STOPPED
        assert latch.read() is None
        assert not halts_text(settings)

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("paper_url", ["http://127.0.0.1:9", ""])
def test_halt_file_that_stands_is_told_without_a_daemon(tmp_path: Path, paper_url: str) -> None:
    """A start would end with 4 because of it, on an exchange of its own, too."""

    async def story(world: World) -> None:
        settings = replace(world.settings(), paper_url=paper_url)
        assert not halts_text(settings)
        settings.state_directory.mkdir(exist_ok=True)
        file = settings.state_directory / "HALT"
        file.touch()
        assert halts_text(settings) == [
            f"there is a file {file}; a start ends with 4 until `python main.py resume`"
        ]
        assert resume(settings, accept_loss=False) is ExitCode.STOPPED
        assert not halts_text(settings)

    in_a_world(tmp_path, story)
