"""What this machine has left: memory of the process, and space on its disks."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """How to ask a machine, in MiB: what this process holds in memory, and what is free on the disk of a folder.

    ``free_mb`` raises OSError where there is no answer.
    """

    memory_mb: Callable[[], float]
    free_mb: Callable[[Path], float]


def resident_mb() -> float:
    """Return how much memory this process holds, in MiB; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def free_mb(folder: Path) -> float:
    """Return how much may still be written to the disk of this folder, or of the one that it would be made in."""
    found = _disk_of(folder)
    return found.f_bavail * found.f_frsize / MIB


def disk_mb(folder: Path) -> float:
    """Return how large that disk is."""
    found = _disk_of(folder)
    return found.f_blocks * found.f_frsize / MIB


def _disk_of(folder: Path) -> os.statvfs_result:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.statvfs(folder)


THIS_MACHINE = Machine(resident_mb, free_mb)
