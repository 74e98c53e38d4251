"""Up to when trades have been looked through, on a disk that takes it or does not."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from core.last_look import LastLook, path_of


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


def now_ms() -> int:
    """The exchange's time."""
    return 100_000


def test_look_outlives_the_process_and_never_goes_back(tmp_path: Path) -> None:
    """Nobody has looked, then up to 7, and an earlier time changes nothing."""

    async def story() -> None:
        disk = Disk()
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms)
        assert look.looked_ms is None
        for time_ms in (5, 7, 6):
            look.up_to(time_ms)
        await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 7
        assert LastLook(tmp_path, "paper", "ETHUSDT", disk.run_blocking, now_ms).looked_ms is None

    asyncio.run(story())


@pytest.mark.parametrize("looked_ms", [None, 5, 12])
def test_restart_looks_at_a_forced_trade_again_until_its_halt_is_on_disk(
    tmp_path: Path, looked_ms: int | None
) -> None:
    """Whatever was looked at before and is looked at after it; then the whole counts."""

    async def story() -> None:
        disk = Disk()

        def on_disk() -> int | None:
            return LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms

        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms)
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
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms)
        look.up_to(5)
        await look.finish()
        disk.is_full = True
        for time_ms in (6, 7):
            look.up_to(time_ms)
            await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 5
        disk.is_full = False
        look.up_to(7)
        await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 7

    asyncio.run(story())
    assert caplog.text.count("could not be written") == 1


@pytest.mark.parametrize("content", ["-5", "160001", "99999999999999999999999", "1e300", "null"])
def test_look_at_an_impossible_time_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    """Said once, and written whole by the next look; what is ahead by an error of the clocks is believed up to now."""

    async def story() -> None:
        disk = Disk()
        path = path_of(tmp_path, "paper", "BTCUSDT")
        path.write_text(f'{{"looked_ms":{content}}}')
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms)
        assert look.looked_ms is None
        look.up_to(5)
        await look.finish()
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 5
        path.write_text('{"looked_ms":160000}')
        assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 100_000

    asyncio.run(story())
    assert caplog.text.count("cannot be used") == 1


@pytest.mark.parametrize("is_forced", [False, True])
def test_no_time_that_is_still_to_come_is_stored(tmp_path: Path, *, is_forced: bool) -> None:
    """A trade whose time was read wrong hides none of those that follow."""

    async def story() -> None:
        disk = Disk()
        look = LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms)
        if is_forced:
            look.forced(10**15)
            await look.finish()
            assert LastLook(tmp_path, "paper", "BTCUSDT", disk.run_blocking, now_ms).looked_ms == 99_999
            look.halted()
        look.up_to(10**15)
        await look.finish()
        assert path_of(tmp_path, "paper", "BTCUSDT").read_text() == '{"looked_ms":100000}\n'

    asyncio.run(story())
