"""Files that are whole or not there, whatever happens while they are written."""

import errno
import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Have the file hold these bytes on disk, or else what it held before; a loss of power changes neither.

    Raises OSError if the disk does not take them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_names(path.parent)


def _sync_names(folder: Path) -> None:
    """Have the names in a folder on disk, unless its file system has no way to do that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
