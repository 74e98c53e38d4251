"""Files that are whole or not there: what is on disk once one is written."""

import errno
import os
import stat
from pathlib import Path

import pytest

from utils.durable import write_whole


def test_name_of_a_file_is_on_disk_once_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes first, then the folder that names them: a loss of power finds the new file."""
    synced: list[tuple[bool, bytes]] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        path = tmp_path / "state" / "halt.json"
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, path.read_bytes() if path.exists() else b""))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(tmp_path / "state" / "halt.json", b"new")
    assert synced == [(False, b""), (True, b"new")]


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOTSUP, errno.EIO], ids=errno.errorcode.get)
def test_folder_that_cannot_be_synced_is_an_error_only_of_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """Some file systems have no such thing."""
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(refusal, os.strerror(refusal))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if refusal == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            write_whole(tmp_path / "halt.json", b"new")
    else:
        write_whole(tmp_path / "halt.json", b"new")
    assert (tmp_path / "halt.json").read_bytes() == b"new"
