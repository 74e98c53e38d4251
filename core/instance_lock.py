"""One daemon for each account and symbol on this machine, and how the last one ended."""

import errno
import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from core.file_locks import is_locked
from utils.clock import pause
from utils.errors import DiskRefused, StartRefused

log = logging.getLogger(__name__)

_NOT_WRITABLE = {errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EPERM}

_RUNNING = b"running\n"
_KEPT = b"kept   \n"
_RUNNING_KEPT = b"runkept\n"
"""All are equally long: a full disk takes each in the place of another."""

TRIES = 11
TRY_AGAIN_S = 0.002
"""A look takes microseconds; the event loop stands still meanwhile."""


def is_held(directory: Path, account: str, symbol: str) -> bool:
    """Tell whether a daemon on this machine trades this symbol on this account now."""
    return is_locked(directory / f"lock-{account}-{symbol}", shared=False)


def _lock(descriptor: int) -> None:
    """Lock a file for this process alone. Raises BlockingIOError if another one holds it, and not only looks at it.

    Whoever asks ``is_held`` has a lock on the file for the moment that takes.
    """
    for left in reversed(range(TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            pause(TRY_AGAIN_S)
        else:
            return


class InstanceLock:
    """A lock that its holder's death releases, whatever kind of death; held while the context lasts.

    ``account`` and ``symbol`` name it. Raises StartRefused on entering if another process holds it, or if the folder
    does not allow to lock; on a disk that takes nothing a file that is there can be locked all the same.
    ``was_left_running`` tells afterwards that the last holder did not say that it left nothing behind: it crashed, or
    could not verify. ``kept`` names the position that a run has kept for the next one, which has not begun: nobody
    holds it to its limits. It is empty without one. Both are true after a ``flatten`` that could not close it.
    """

    def __init__(self, directory: Path, account: str, symbol: str) -> None:
        self.symbol = symbol
        self._path = directory / f"lock-{account}-{symbol}"
        self._descriptor = -1
        self.was_left_running = False
        self.kept = ""

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._opened()
            _lock(self._descriptor)
            left = os.pread(self._descriptor, len(_RUNNING), 0)
            self.was_left_running = left not in (b"", _KEPT)
            self.kept = f"a position of {self.symbol}" if left in (_KEPT, _RUNNING_KEPT) else ""
        except BlockingIOError as error:
            self._release()
            raise StartRefused(
                f"instance: another daemon is already trading {self.symbol} on this account; stop it first"
            ) from error
        except OSError as error:
            self._release()
            raise StartRefused(
                f"instance: {self._path.parent} cannot be written to ({error.strerror});"
                " set state_directory in config.yaml to a folder that can"
            ) from error
        return self

    def _opened(self) -> int:
        """Return a descriptor of the file: one that can only be read is enough for a lock."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE or not self._path.exists():
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def mark_running(self, *, at_any_cost: bool = False) -> None:
        """Note that from now on something of this holder's may be at the exchange; what is kept stays so.

        Raises DiskRefused if the disk does not take it; ``at_any_cost`` that is only said: it is no reason to close
        nothing.
        """
        try:
            os.pwrite(self._descriptor, _RUNNING_KEPT if self.kept else _RUNNING, 0)
        except OSError as error:
            if not at_any_cost:
                raise DiskRefused.of(self._path.parent, error) from error
            log.error("that this run has begun could not be noted: %s", error.strerror)

    def mark_watched(self) -> None:
        """Note, after ``mark_running``, that a run has begun, which holds what was kept to its limits."""
        if not self.kept:
            return
        self.kept = ""
        try:
            os.pwrite(self._descriptor, _RUNNING, 0)
        except OSError as error:
            log.error("that a position is watched again could not be noted: %s", error.strerror)

    def leave_kept(self, position: str, *, is_clean: bool = True) -> None:
        """Note that this position was left at the exchange, for the next run to watch, and whether nothing else was."""
        self.kept = position
        try:
            os.pwrite(self._descriptor, _KEPT if is_clean else _RUNNING_KEPT, 0)
        except OSError as error:
            log.error("that this run has kept a position could not be noted: %s", error.strerror)

    def leave_clean(self) -> None:
        """Note that nothing of this holder's was left at the exchange; a disk that takes nothing keeps the opposite."""
        self.kept = ""
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            log.error("that this run has left nothing behind could not be noted: %s", error.strerror)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
