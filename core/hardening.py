"""What the process keeps to itself: the files that it writes, its memory, and the file with the keys.

The checks of the key file are pure; the caller looks it up.
"""

import ctypes
import logging
import os
import resource
import stat
import sys
from pathlib import Path

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def write_for_the_owner_only() -> None:
    """Have every file and folder that is made from now on be of the owner alone."""
    os.umask(0o077)


def leave_no_core() -> None:
    """Have neither a crash nor another process of the same user get at this one's memory, where the system allows it.

    Source: prctl(2), PR_SET_DUMPABLE: also closes /proc/PID/environ and ptrace to the user's other processes.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        done = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        if done != 0:
            log.warning(
                "this process could not be closed to others (prctl: %s)", os.strerror(ctypes.get_errno())
            )


def key_file_objection(path: Path) -> str:
    """Return why keys of real accounts must not be read from this file, with the remedy; empty if they may."""
    try:
        found, folder = path.lstat(), path.parent.stat()
    except OSError as error:
        return f"{path} holds API keys and cannot be looked at ({error.strerror})"
    return _objection(path, found, folder, os.geteuid())


def _objection(path: Path, found: os.stat_result, folder: os.stat_result, uid: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        return f"{path} holds API keys and is {what}: put a regular file there, and `chmod 600 {path}`"
    if found.st_uid not in (uid, 0):
        return f"{path} holds API keys and belongs to another user: run `chown {uid} {path}`"
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        return f"{path} holds API keys and is open to other users (mode {mode:o}): run `chmod 600 {path}`"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return f"{path} holds API keys in a folder that everybody may write to: run `chmod o-w {path.parent}`"
    return ""
