"""A disk that is full for a while: a small one of its own where this user may mount it, else a limit on file sizes."""

import errno
import os
import random
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

_SIZE = "8m"


class Disk(Protocol):
    """What can be full, and have room again."""

    def fill(self) -> None:
        """From now on nothing more can be written."""

    def free(self) -> None:
        """Now it can."""


class SmallDisk:
    """A file system of eight megabytes at ``path``, until the context ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ballast = path / "ballast"

    def __enter__(self) -> "SmallDisk":
        self._path.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=700", "none", self._path], check=True
        )
        return self

    def __exit__(self, *_what: object) -> None:
        # lazily: a program that was killed a moment ago may not be off it yet
        subprocess.run(["umount", "-l", self._path], check=True)

    def fill(self) -> None:
        """Leave not a byte free."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (2**20, 4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()


def can_mount() -> bool:
    """Tell whether this user may have a small disk."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


class SizeLimit:
    """No file of a process grows beyond the largest in ``folder``, or a little more: a write across that is torn."""

    def __init__(self, pid: int, folder: Path, rng: random.Random) -> None:
        self._pid, self._folder, self._rng = pid, folder, rng
        self._hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]

    def fill(self) -> None:
        """From now on a file that has reached the limit takes nothing more."""
        sizes = [path.stat().st_size for path in self._folder.glob("*/*") if path.is_file()]
        limit = self._rng.choice([min(sizes), max(sizes) + self._rng.randrange(2000)])
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (limit, self._hard))

    def free(self) -> None:
        """Give the space back, if the process still lives."""
        try:
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (self._hard, self._hard))
        except ProcessLookupError:
            pass  # it has been asked to stop while the disk was full
