"""Whether a process that lives holds a lock on a file: the kernel releases it with the process, however that ends."""

import fcntl
import os
from pathlib import Path


def is_locked(path: Path, *, shared: bool) -> bool:
    """Tell whether another process holds a lock on this file: an exclusive one, or with ``shared`` any."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
