"""How much of the metrics is kept: the oldest finished days go when all outgrow a bound, or the disk. Blocking."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from core.append_file import is_being_written
from core.resource_watch import LOW_FREE_MB
from utils.machine import MIB

log = logging.getLogger(__name__)

MB = 1_000_000

_NAME = re.compile(r"metrics-[0-9]{8}\.csv").fullmatch
"""What a daemon names its files; nothing else in the folder is ever touched."""


def remove_oldest(directory: Path, max_mb: int, today: Path, free_mb: Callable[[Path], float]) -> None:
    """Remove the oldest metrics files until the rest is within ``max_mb``, and say so in the log.

    Likewise until ``LOW_FREE_MB`` are free on their disk, which ``free_mb`` tells. Never that of today, one that
    another daemon writes to, a link, or a file of another name. 0 keeps everything.
    """
    if max_mb > 0:
        try:
            _remove_oldest(directory, max_mb, today, free_mb)
        except OSError as error:  # what was written is written: the next look tries again
            log.warning("old metrics could not be removed: %s", error.strerror)


def _remove_oldest(directory: Path, max_mb: int, today: Path, free_mb: Callable[[Path], float]) -> None:
    sizes = {
        path: path.stat().st_size
        for path in sorted(directory.iterdir())
        if _NAME(path.name) and path.is_file() and not path.is_symlink()
    }
    over = sum(sizes.values()) - max_mb * MB
    missing = (
        LOW_FREE_MB - free_mb(directory)
    ) * MIB  # counted, not asked again: some disks give room back late
    for path, size in sizes.items():
        if over <= 0 and missing <= 0:
            break
        if path == today or is_being_written(path):
            continue
        path.unlink(missing_ok=True)
        why = (
            f"the metrics may hold {max_mb} MB (logging.max_metrics_mb)"
            if over > 0
            else f"less than {LOW_FREE_MB} MB were free on its disk"
        )
        log.warning("%s (%.0f MB) was removed: %s", path.name, size / MB, why)
        over -= size
        missing -= size
