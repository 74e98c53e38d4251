"""How much of the metrics is kept: the oldest finished days go when all files together outgrow a bound. Blocking."""

import logging
import re
from pathlib import Path

from core.append_file import is_being_written

log = logging.getLogger(__name__)

MB = 1_000_000

_NAME = re.compile(r"metrics-[0-9]{8}\.csv").fullmatch
"""What a daemon names its files; nothing else in the folder is ever touched."""


def remove_oldest(directory: Path, max_mb: int, today: Path) -> None:
    """Remove the oldest metrics files until the rest is within ``max_mb``, and say so in the log.

    Never that of today, one that another daemon writes to, a link, or a file of another name. 0 keeps everything.
    """
    if max_mb > 0:
        try:
            _remove_oldest(directory, max_mb, today)
        except OSError as error:  # what was written is written: the next look tries again
            log.warning("old metrics could not be removed: %s", error.strerror)


def _remove_oldest(directory: Path, max_mb: int, today: Path) -> None:
    sizes = {
        path: path.stat().st_size
        for path in sorted(directory.iterdir())
        if _NAME(path.name) and path.is_file() and not path.is_symlink()
    }
    held = sum(sizes.values())
    for path, size in sizes.items():
        if held <= max_mb * MB:
            break
        if path == today or is_being_written(path):
            continue
        path.unlink(missing_ok=True)
        held -= size
        log.warning(
            "%s (%.0f MB) was removed: the metrics may hold %d MB (logging.max_metrics_mb)",
            path.name,
            size / MB,
            max_mb,
        )
