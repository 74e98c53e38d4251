"""What the process keeps to itself: the files that it writes, its memory, and the file with the keys.

The checks of the key file are pure; the caller looks it up.
"""

import ctypes
import logging
import os
import pwd
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
    uid = os.geteuid()
    return _objection(path, found, folder, uid, _name_of(found.st_uid) if uid == 0 else "")


def _name_of(uid: int) -> str:
    """Return the name of a user, empty if none is known."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _objection(path: Path, found: os.stat_result, folder: os.stat_result, uid: int, owner: str) -> str:
    if not stat.S_ISREG(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        return f"{path} holds API keys and is {what}: put a regular file there, and `chmod 600 {path}`"
    if found.st_uid not in (uid, 0):
        return f"{path} holds API keys and belongs to another user: {_owner_remedy(path, found.st_uid, uid, owner)}"
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        return f"{path} holds API keys and is open to other users (mode {mode:o}): run `chmod 600 {path}`"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return f"{path} holds API keys in a folder that everybody may write to: run `chmod o-w {path.parent}`"
    return ""


def _owner_remedy(path: Path, owner_uid: int, uid: int, owner: str) -> str:
    """Return what to do about a file of somebody else's. Root leaves it to its owner, whose daemon has to read it."""
    if uid != 0:
        return f"run `chown {uid} {path}`"
    return f"run this as its owner, `runuser -u {owner} -- ...`" if owner else f"run this as user {owner_uid}"
