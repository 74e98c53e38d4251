"""What the process keeps to itself."""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.hardening import _objection, key_file_objection

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with keys, as it should be."""
    tmp_path.chmod(0o700)
    file = tmp_path / ".env"
    file.write_text("BINANCE_API_KEY=a\n")
    file.chmod(0o600)
    return file


def test_key_file_of_the_owner_alone_is_accepted(keys: Path) -> None:
    """Also one that is only to be read, as service managers hand it over."""
    assert key_file_objection(keys) == ""
    keys.chmod(0o400)
    assert key_file_objection(keys) == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o644, 0o666])
def test_key_file_that_others_may_open_is_refused(keys: Path, mode: int) -> None:
    """Of the group or of the world, to read or to write; the remedy is a command."""
    keys.chmod(mode)
    text = key_file_objection(keys)
    assert text.endswith(f"is open to other users (mode {mode:o}): run `chmod 600 {keys}`")


def test_key_file_that_is_none_is_refused(keys: Path) -> None:
    """A link shows only where it points today; a folder, or nothing, holds no keys."""
    link = keys.with_name("link")
    link.symlink_to(keys)
    assert "is a symbolic link" in key_file_objection(link)
    assert "is no regular file" in key_file_objection(keys.parent)
    assert "cannot be looked at (No such file or directory)" in key_file_objection(keys.with_name("none"))


def test_key_file_of_somebody_else_is_refused(keys: Path) -> None:
    """They could change it; root could anyway."""
    found, folder = keys.lstat(), keys.parent.stat()
    theirs = _owned_by(found, 4242)
    assert _objection(keys, theirs, folder, 1000, "pmm").endswith(f"another user: run `chown 1000 {keys}`")
    assert _objection(keys, _owned_by(found, 0), folder, 1000, "root") == ""


def test_root_is_told_to_leave_the_key_file_to_its_owner(keys: Path) -> None:
    """Given to root, the daemon could not read it any more, and its next start would be refused."""
    found, folder = _owned_by(keys.lstat(), 4242), keys.parent.stat()
    text = _objection(keys, found, folder, 0, "quant-pmm")
    assert text.endswith("belongs to another user: run this as its owner, `runuser -u quant-pmm -- ...`")
    assert _objection(keys, found, folder, 0, "").endswith("another user: run this as user 4242")


def test_owner_of_a_key_file_is_named(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's list of users, whoever is missing there by the number."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(type(keys), "lstat", lambda self: _owned_by(self.stat(), 1))
    assert f"`runuser -u {pwd.getpwuid(1).pw_name} -- ...`" in key_file_objection(keys)
    monkeypatch.setattr(type(keys), "lstat", lambda self: _owned_by(self.stat(), 3_999_999))
    assert "run this as user 3999999" in key_file_objection(keys)


def _owned_by(found: os.stat_result, uid: int) -> os.stat_result:
    values = list(found)
    values[stat.ST_UID] = uid
    return os.stat_result(values)


def test_key_file_in_a_folder_of_everybody_is_refused(keys: Path) -> None:
    """Another file could be put in its place; not where only its owner may move it."""
    keys.parent.chmod(0o707)
    assert "in a folder that everybody may write to: run `chmod o-w" in key_file_objection(keys)
    keys.parent.chmod(0o1777)
    assert key_file_objection(keys) == ""


def test_process_leaves_no_core_and_writes_for_its_owner_only(tmp_path: Path) -> None:
    """Seen from inside of a process that did both."""
    script = (
        "import ctypes, os, resource, sys\n"
        "from core.hardening import leave_no_core, write_for_the_owner_only\n"
        "leave_no_core(); write_for_the_owner_only()\n"
        "os.mkdir(sys.argv[1]); open(sys.argv[1] + '/file', 'w').close()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    made = tmp_path / "made"
    run = [sys.executable, "-c", script, str(made)]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("(0, 0)")
    if sys.platform == "linux":
        assert result.stdout == "(0, 0) 0\n", "PR_GET_DUMPABLE"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made / "file")] == [0o700, 0o600]
