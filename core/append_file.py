"""A file that only grows, by whole batches of lines: a killed process leaves no half of one. Blocking."""

import fcntl
import logging
import os
from pathlib import Path

from core.file_locks import is_locked

log = logging.getLogger(__name__)


class AppendFile:
    """One file at a time, opened when it is first written to.

    A batch is written by one call; what a full disk took only in part is taken back. A torn last line that an earlier
    crash has left is cut off on opening. Where somebody has removed the file, or given it another name, a new one is
    begun: what goes to a file without a name is lost, and takes up space all the same.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1
        self._is_marked = False

    def open(self, path: Path) -> bool:
        """Have this file open; return whether it is empty. Raises OSError if the disk does not allow it."""
        is_open = self._descriptor >= 0 and (path is self._path or path == self._path)
        if is_open and not self._is_at(path):
            log.warning("%s was removed or renamed; a new one is begun", path)
            is_open = False
        if not is_open:
            self.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._is_marked = _mark_open(descriptor)
                _cut_torn_line(descriptor)
            except OSError:
                os.close(descriptor)
                raise
            self._path, self._descriptor = path, descriptor
        elif not self._is_marked:  # somebody looked just when it was opened
            self._is_marked = _mark_open(self._descriptor)
        return os.fstat(self._descriptor).st_size == 0

    def _is_at(self, path: Path) -> bool:
        """Tell whether the open file is the one of this name."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def write_whole(self, data: bytes, what: str) -> None:
        """Have all of the data in the open file, or none of it. Raises OSError, naming ``what`` found no space."""
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                raise OSError(28, f"no space left for a whole batch of {what}")
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_being_written(path: Path) -> bool:
    """Tell whether a process that lives has this file open to write to it."""
    return is_locked(path, shared=True)


def _mark_open(descriptor: int) -> bool:
    """Have others see that the file is open, for as long as this process lives; not while somebody looks: False."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _cut_torn_line(descriptor: int) -> None:
    """Cut off what follows the last end of line."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(end - 4096, 0)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
