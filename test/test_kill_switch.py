"""The switch that stops everything from outside: a file or a signal, and no way back but a reset."""

import os
from pathlib import Path

import pytest

from core.kill_switch import KillSwitch


def test_file_is_seen_soon_and_outlives_its_removal(tmp_path: Path) -> None:
    """It is looked for at most every 50 ms; that it is gone is no consent."""
    now_ns = 0
    switch = KillSwitch(tmp_path, lambda: now_ns)
    assert switch.reason() == ""
    (tmp_path / "HALT").touch()
    now_ns = 49_999_999
    assert switch.reason() == ""
    now_ns = 50_000_000
    assert switch.reason() == f"there is a file {tmp_path}/HALT"
    assert switch.remove_file()
    assert not switch.remove_file()
    now_ns = 10**12
    assert switch.reason() != ""
    switch.reset()
    assert switch.reason() == ""


def test_file_is_seen_where_faccessat2_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's filter older than that system call answers it with EPERM, which is not to mean: no file."""
    access = os.access

    def filtered(path: str, mode: int, *, follow_symlinks: bool = True) -> bool:
        return follow_symlinks and access(path, mode)

    monkeypatch.setattr(os, "access", filtered)
    (tmp_path / "HALT").touch()
    assert KillSwitch(tmp_path, lambda: 0).file_is_there()


def test_reset_looks_again_at_once(tmp_path: Path) -> None:
    """A file that still stands throws it again in the same moment."""
    switch = KillSwitch(tmp_path, lambda: 0)
    switch.throw("SIGUSR1 received")
    (tmp_path / "HALT").symlink_to("nowhere")
    assert switch.reason() == "SIGUSR1 received"
    switch.reset()
    assert switch.reason().endswith("/HALT")


def test_folder_that_is_not_there_is_no_halt(tmp_path: Path) -> None:
    """A state directory may not have been made yet."""
    assert KillSwitch(tmp_path / "state", lambda: 0).reason() == ""
