"""One daemon for each account and symbol: who holds the lock, who is refused, and that death releases it."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from core.instance_lock import InstanceLock
from test.daemon import read_only_locks
from test.process import Stage, eventually
from utils.errors import DiskRefused, StartRefused

ROOT = Path(__file__).resolve().parents[1]
REFUSAL = "instance: another daemon is already trading BTCUSDT on this account; stop it first"


def lock(folder: Path, account: str = "live", symbol: str = "BTCUSDT") -> InstanceLock:
    """A lock in this folder, not held yet."""
    return InstanceLock(folder, account, symbol)


def test_lock_that_is_held_refuses_the_next_one(tmp_path: Path) -> None:
    """In one sentence with the remedy; after the end of the first it can be had again."""
    with lock(tmp_path), pytest.raises(StartRefused) as refused, lock(tmp_path):
        pass
    assert str(refused.value) == REFUSAL
    with lock(tmp_path):
        pass


@pytest.mark.parametrize(("account", "symbol"), [("testnet", "BTCUSDT"), ("live", "ETHUSDT")])
def test_other_account_or_symbol_has_a_lock_of_its_own(tmp_path: Path, account: str, symbol: str) -> None:
    """They are in nobody's way."""
    with lock(tmp_path), lock(tmp_path, account, symbol), pytest.raises(StartRefused), lock(tmp_path):
        pass


def test_refused_one_keeps_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    """No descriptor is left open, and the holder still holds."""
    with lock(tmp_path):
        before = os.listdir("/proc/self/fd")
        for _ in range(2):
            with pytest.raises(StartRefused, match="another daemon"), lock(tmp_path):
                pass
        assert os.listdir("/proc/self/fd") == before


def test_look_at_the_lock_is_no_daemon(tmp_path: Path) -> None:
    """Whoever looks whether a daemon trades holds a lock for a moment; a start in that moment waits for its end."""
    with lock(tmp_path):
        pass
    look = os.open(tmp_path / "lock-live-BTCUSDT", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    Timer(0.004, os.close, [look]).start()
    with lock(tmp_path):
        pass


def test_error_inside_releases_the_lock(tmp_path: Path) -> None:
    """Whatever ended the work."""
    with pytest.raises(ValueError, match="planted"), lock(tmp_path):
        raise ValueError("planted")
    with lock(tmp_path):
        pass


def test_folder_is_made(tmp_path: Path) -> None:
    """The first start finds none."""
    with lock(tmp_path / "state" / "deeper"):
        assert [path.name for path in (tmp_path / "state" / "deeper").glob("lock-*")]


def test_folder_that_cannot_be_made_is_refused_with_the_setting(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "state").touch()
    with pytest.raises(StartRefused) as refused, lock(tmp_path / "state"):
        pass
    sentence = str(refused.value)
    assert sentence.startswith(f"instance: {tmp_path / 'state'} cannot be written to (")
    assert "set state_directory in config.yaml to a folder that can" in sentence


def test_file_that_cannot_be_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network share without locks; the descriptor is closed again."""

    def unsupported(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StartRefused, match="Operation not supported"), lock(tmp_path):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_file_on_a_disk_that_takes_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was remounted read-only: the lock holds, tells how the last run ended, and ends no run that has to close."""
    with lock(tmp_path) as first:
        first.mark_running()
    read_only_locks(monkeypatch)
    with lock(tmp_path) as second:
        assert second.was_left_running
        with pytest.raises(StartRefused, match="another daemon"), lock(tmp_path):
            pass
        with pytest.raises(DiskRefused, match="make room on the disk"):
            second.mark_running()
        second.mark_running(at_any_cost=True)
        second.leave_clean()
    with lock(tmp_path) as third:
        assert third.was_left_running
    with pytest.raises(StartRefused, match="Read-only file system"), lock(tmp_path, "other"):
        pass


def test_position_that_is_kept_for_another_run_is_known_until_one_begins(tmp_path: Path) -> None:
    """To every process after it: no order was left, so that is no crash."""
    with lock(tmp_path) as first:
        first.mark_running()
        first.leave_kept("a position of 0.013 BTC")
        assert first.kept == "a position of 0.013 BTC"
    for _ in range(2):
        with lock(tmp_path) as second:
            assert second.kept == "a position of BTCUSDT"
            assert not second.was_left_running
    with lock(tmp_path) as third:
        third.mark_running()
    with lock(tmp_path) as fourth:
        assert fourth.kept == "a position of BTCUSDT"
        assert fourth.was_left_running
        fourth.mark_running()
        fourth.mark_watched()
        assert fourth.kept == ""
    with lock(tmp_path) as fifth:
        assert fifth.kept == ""
        assert fifth.was_left_running


def test_every_mark_takes_the_place_of_the_one_before_it(tmp_path: Path) -> None:
    """A disk without room takes what makes no file longer."""
    path = tmp_path / "lock-live-BTCUSDT"
    sizes = []
    with lock(tmp_path) as held:
        for mark in (
            held.mark_running,
            lambda: held.leave_kept("a position"),
            held.mark_running,
            held.mark_watched,
        ):
            mark()
            sizes.append(path.stat().st_size)
    assert sizes == [8] * 4


def test_death_of_the_holder_releases_the_lock(tmp_path: Path) -> None:
    """Killed without a last word: the file stays, the lock does not."""
    program = (
        "import pathlib, sys, time\n"
        "from core.instance_lock import InstanceLock\n"
        "with InstanceLock(pathlib.Path(sys.argv[1]), 'live', 'BTCUSDT'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(3600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StartRefused, match="another daemon"), lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with lock(tmp_path):
        pass


def test_second_daemon_ends_with_two_and_the_first_goes_on(tmp_path: Path) -> None:
    """Two real processes on one account, each with its folder of logs but the same state."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange)
        first = stage.quoting(exchange, folder)
        second = stage.daemon(folder)
        assert second.wait(30) == 2
        assert f"refused to start: {REFUSAL}" in second.err
        assert "Traceback" not in second.err
        eventually(lambda: len(exchange.open_orders()) == 6, 5, "the first does not quote any more")
        assert first.is_running
        assert first.end(signal.SIGTERM) == 0
        third = stage.quoting(exchange, folder)
        assert third.end(signal.SIGTERM) == 0
