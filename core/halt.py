"""A halt is a latch on disk: it survives every restart, and only an operator clears it."""

import os
import threading
from pathlib import Path

import msgspec

from utils.durable import write_whole
from utils.redaction import redact


class Halt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why and when (ms since the epoch) risk halted a symbol.

    ``is_closing`` says that its position was to be closed, and that nobody has verified yet that it is. A file without
    the key is of a version that did not know it, and says nothing of a close; one with
    a key that nobody knows is damaged.
    """

    symbol: str
    reason: str
    since_ms: int
    is_closing: bool = False


class HaltLatch:
    """The latch of one symbol on one account.

    ``account`` names the account in the file's name, so that a halt on one exchange does not stop another.
    """

    def __init__(self, directory: Path, account: str, symbol: str) -> None:
        self._symbol = symbol
        self.path = directory / f"halt-{account}-{symbol}.json"

    def read(self) -> Halt | None:
        """Return the halt that stands, None if there is none.

        A file that cannot be read counts as a halt whose close is not finished: it says nothing to the contrary.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Halt(self._symbol, f"the halt file cannot be read ({error.strerror})", 0, is_closing=True)
        try:
            return msgspec.json.decode(text, type=Halt)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return Halt(self._symbol, "the halt file is damaged", 0, is_closing=True)

    def engage(self, reason: str, now_ms: int, *, is_closing: bool = False) -> None:
        """Have the halt stand on disk, whole or not at all. Raises OSError if the disk does not take it."""
        self._write(Halt(self._symbol, redact(reason), now_ms, is_closing))

    def engage_first(self, reason: str, now_ms: int) -> None:
        """Have the halt stand unless one does already, which stays as it is. Raises OSError likewise.

        Any thread may call it at any moment: others may be about to engage one whose close is not finished, or be here.
        """
        whole = self.path.with_name(f"{self.path.stem}-asked-{threading.get_native_id()}.json")
        write_whole(whole, msgspec.json.encode(Halt(self._symbol, redact(reason), now_ms)))
        try:
            os.link(whole, self.path)
        except FileExistsError:
            pass
        finally:
            whole.unlink(missing_ok=True)

    def finish(self) -> None:
        """Note that what was to be closed is closed, if a halt stands at all. Raises OSError likewise."""
        halt = self.read()
        if halt is not None and halt.is_closing:
            self._write(msgspec.structs.replace(halt, is_closing=False))

    def _write(self, halt: Halt) -> None:
        write_whole(self.path, msgspec.json.encode(halt))

    def clear(self) -> bool:
        """Have no halt stand; return whether there was one."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True
