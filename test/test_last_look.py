"""Up to when trades have been looked through, on a disk that takes it or does not."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from core.last_look import LastLook


class Disk:
    """A disk that takes nothing while it is full."""

    def __init__(self) -> None:
        self.is_full = False

    async def run_blocking(self, work: Callable[[], None]) -> None:
        """Do the work, unless the disk is full."""
        await asyncio.sleep(0)
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        work()


def test_look_outlives_the_process_and_never_goes_back(tmp_path: Path) -> None:
    """Nobody has looked, then up to 7, and an earlier time changes nothing."""

    async def story() -> None:
        disk = Disk()
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking)
        assert look.looked_ms is None
        for time_ms in (5, 7, 6):
            look.up_to(time_ms)
        await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking).looked_ms == 7
        assert LastLook(tmp_path, "paper", "ETHUSDT", disk.run_blocking).looked_ms is None

    asyncio.run(story())


@pytest.mark.parametrize("looked_ms", [None, 5, 12])
def test_restart_looks_at_a_forced_trade_again_until_its_halt_is_on_disk(
    tmp_path: Path, looked_ms: int | None
) -> None:
    """Whatever was looked at before and is looked at after it; then the whole counts."""

    async def story() -> None:
        disk = Disk()

        def on_disk() -> int | None:
            return LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking).looked_ms

        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking)
        if looked_ms is not None:
            look.up_to(looked_ms)
        for time_ms in (11, 10, 13):
            look.forced(time_ms)
        await look.finish()
        assert on_disk() == min(looked_ms or 9, 9)
        look.up_to(12)
        await look.finish()
        assert on_disk() == 9
        look.halted()
        await look.finish()
        assert on_disk() == 13
        look.halted()
        look.up_to(20)
        await look.finish()
        assert on_disk() == 20

    asyncio.run(story())


def test_look_that_the_disk_did_not_take_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; until then a restart would look from where the disk is, which is more and not less."""

    async def story() -> None:
        disk = Disk()
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking)
        look.up_to(5)
        await look.finish()
        disk.is_full = True
        for time_ms in (6, 7):
            look.up_to(time_ms)
            await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking).looked_ms == 5
        disk.is_full = False
        look.up_to(7)
        await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking).looked_ms == 7

    asyncio.run(story())
    assert caplog.text.count("could not be written") == 1
