"""The switch that any process may throw: a file ``HALT`` in the state directory, or SIGUSR1.

It is asked in the turn in which a quote is sent, so that it holds even when no task of the daemon has run since.
"""

import os
from collections.abc import Callable
from pathlib import Path

HALT_FILE = "HALT"


def _nobody() -> None:
    """Nobody waits for it."""


class KillSwitch:
    """Says whether somebody outside wants no quote to leave.

    ``folder`` is where the file is looked for; a question looks there unless that was done within ``LOOK_EVERY_NS``.
    Once thrown it stays so until ``reset``: that the file is gone is no consent to quote.
    """

    LOOK_EVERY_NS = 50_000_000

    def __init__(self, folder: Path, monotonic_ns: Callable[[], int]) -> None:
        self.path = folder / HALT_FILE
        self._path = os.fspath(self.path)
        self._monotonic_ns = monotonic_ns
        self._looked_ns: int | None = None
        self._reason = ""
        self.throws = 0
        """How often it was thrown: once more after a halt was cleared is another halt."""
        self.on_throw: Callable[[], None] = _nobody
        """Called by whoever throws it on the event loop, so that what has to follow does so at once."""

    def throw(self, reason: str) -> None:
        """Have nothing leave from now on. Does nothing else, so that a signal handler may call it at any moment."""
        self._reason = self._reason or reason
        self.throws += 1

    def reason(self) -> str:
        """Return why nothing may leave, an empty string while it may."""
        if not self._reason:
            now_ns = self._monotonic_ns()
            if self._looked_ns is None or now_ns - self._looked_ns >= self.LOOK_EVERY_NS:
                self._looked_ns = now_ns
                if self.file_is_there():
                    self.throw(f"there is a file {self.path}")
        return self._reason

    def file_is_there(self) -> bool:
        """Tell whether the file stands; a folder that cannot be looked into counts as one without it."""
        # Not os.access: where that follows no link, it asks by a system call (faccessat2) that old sandboxes deny.
        try:
            os.lstat(self._path)
        except OSError:
            return False
        return True

    def remove_file(self) -> bool:
        """Have no file stand; return whether there was one. Raises OSError."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def reset(self) -> None:
        """Let quotes leave again, unless the file stands."""
        self._reason, self._looked_ns = "", None
