"""A halt is a latch on disk: it survives every restart, and only an operator clears it."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from utils.durable import write_whole
from utils.redaction import redact


@dataclass(frozen=True, slots=True)
class Halt:
    """Why and when (ms since the epoch) risk halted a symbol."""

    symbol: str
    reason: str
    since_ms: int


class HaltLatch:
    """The latch of one symbol on one account.

    ``account`` names the account in the file's name, so that a halt on one exchange does not stop another.
    """

    def __init__(self, directory: Path, account: str, symbol: str) -> None:
        self._symbol = symbol
        self.path = directory / f"halt-{account}-{symbol}.json"

    def read(self) -> Halt | None:
        """Return the halt that stands, None if there is none. A file that cannot be read counts as a halt."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Halt(self._symbol, f"the halt file cannot be read ({error.strerror})", 0)
        try:
            return msgspec.json.decode(text, type=Halt)
        except msgspec.MsgspecError:
            return Halt(self._symbol, "the halt file is damaged", 0)

    def engage(self, reason: str, now_ms: int) -> None:
        """Have the halt stand on disk, whole or not at all. Raises OSError if the disk does not take it."""
        write_whole(self.path, msgspec.json.encode(Halt(self._symbol, redact(reason), now_ms)))

    def clear(self) -> bool:
        """Have no halt stand; return whether there was one."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True
