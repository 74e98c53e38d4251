"""Up to when an account's trades were looked through for those that the exchange itself has made, over restarts too."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from utils.background import RunBlocking
from utils.durable import write_whole

log = logging.getLogger(__name__)


class _Look(msgspec.Struct):
    """The content of the file."""

    looked_ms: int


class LastLook:
    """The exchange's time of the last trade of one symbol that this machine's daemons have looked at, with all before.

    ``account`` names the account in the file's name. Read once, when this is made; written off the event loop whenever
    it has moved, and tried again later where the disk did not take it: a restart looks at more then, not at less. The
    disk is told of no look past a trade that calls for a halt before the halt is on disk. ``now_ms`` returns the
    exchange's time: nothing was traded after it.
    """

    DISK_PATIENCE_S = 0.5
    CLOCK_ERROR_MS = 60_000
    """A look may seem to be so far ahead because of the clocks."""

    def __init__(
        self,
        directory: Path,
        account: str,
        symbol: str,
        run_blocking: RunBlocking,
        now_ms: Callable[[], int],
    ) -> None:
        self.path = path_of(directory, account, symbol)
        self._run_blocking = run_blocking
        self._now_ms = now_ms
        self._looked_ms = self._written_ms = self._read()
        self._forced_ms: tuple[int, int] | None = None
        """The first and the last trade that calls for a halt which is not on disk yet."""
        self._writing: asyncio.Future[None] | None = None
        self._has_complained = False

    @property
    def looked_ms(self) -> int | None:
        """Return it in ms since the epoch, None if nobody has looked yet; 0 if there was no trade then."""
        return self._looked_ms

    def up_to(self, time_ms: int) -> None:
        """Note that all trades up to this time, but none to come, have been looked at; have the disk know it soon."""
        time_ms = min(time_ms, self._now_ms())
        self._looked_ms = time_ms if self._looked_ms is None else max(time_ms, self._looked_ms)
        self._write_soon()

    def forced(self, time_ms: int) -> None:
        """Note a trade at this time that calls for a halt: a restart looks at it again, until the halt is on disk."""
        first_ms, last_ms = self._forced_ms or (time_ms, time_ms)
        self._forced_ms = min(first_ms, time_ms), max(last_ms, time_ms)
        if self._looked_ms is None:
            self._looked_ms = min(time_ms, self._now_ms()) - 1
        self._write_soon()

    def halted(self) -> None:
        """Note that a halt is on disk for every trade that called for one, so that no restart has to look at them."""
        if self._forced_ms is not None:
            _, last_ms = self._forced_ms
            self._forced_ms = None
            self.up_to(last_ms)

    async def finish(self) -> None:
        """Have what is on its way to the disk written, unless the disk hangs."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing}, timeout=self.DISK_PATIENCE_S)

    @property
    def _wanted_ms(self) -> int | None:
        """Return what the disk has to say."""
        if self._looked_ms is None or self._forced_ms is None:
            return self._looked_ms
        return max(min(self._looked_ms, self._forced_ms[0] - 1), 0)

    def _write_soon(self) -> None:
        is_free = self._writing is None or self._writing.done()
        if is_free and self._written_ms != self._wanted_ms:
            self._writing = asyncio.ensure_future(self._write())

    def _read(self) -> int | None:
        """Return what the disk says; a time that cannot be is as good as none, and written whole again."""
        try:
            looked_ms = msgspec.json.decode(self.path.read_bytes(), type=_Look).looked_ms
            now_ms = self._now_ms()
            if 0 <= looked_ms <= now_ms + self.CLOCK_ERROR_MS:
                return min(looked_ms, now_ms)
            why = "an impossible time"
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            why = type(error).__name__
        text = (
            "%s cannot be used (%s): whether the exchange itself has traded while no daemon ran is not known"
        )
        log.error(text, self.path.name, why)
        return None

    async def _write(self) -> None:
        while (wanted_ms := self._wanted_ms) is not None and self._written_ms != wanted_ms:
            data = msgspec.json.encode(_Look(wanted_ms)) + b"\n"
            try:
                await self._run_blocking(lambda data=data: write_whole(self.path, data))  # type: ignore[misc]
            except OSError as error:
                if not self._has_complained:
                    self._has_complained = True
                    log.error("%s could not be written: %s", self.path.name, error.strerror)
                return
            self._written_ms = wanted_ms


def path_of(directory: Path, account: str, symbol: str) -> Path:
    """Return where the last look at a symbol's trades is kept."""
    return directory / f"looked-{account}-{symbol}.json"
