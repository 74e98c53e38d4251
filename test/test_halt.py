"""A halt outlives the process, and a file that cannot be trusted is a halt."""

import asyncio
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from commands.resume import resume
from commands.run import begin_embedded_account, note_halt
from commands.signals import signals_go_to
from commands.wiring import EMBEDDED_ACCOUNT, account_of
from core.append_file import AppendFile
from core.day_file import DayFile
from core.exit_code import ExitCode
from core.halt import Halt, HaltLatch
from core.instance_lock import InstanceLock
from core.kill_switch import KillSwitch
from core.settings import Settings, settings_from
from utils.config_loader import get_config
from utils.errors import DiskRefused


def latch(directory: Path, account: str = "paper", symbol: str = "BTCUSDT") -> HaltLatch:
    """A latch as every start makes it."""
    return HaltLatch(directory, account, symbol)


def settings_in(folder: Path) -> Settings:
    """The settings of a daemon on an embedded exchange that has its state here."""
    (folder / "config.yaml").write_text(f"state_directory: {folder}\n", encoding="utf-8")
    (folder / ".env").touch()
    return settings_from(get_config(folder / ".env", folder / "config.yaml"))


def test_no_halt_stands_where_none_was_engaged(tmp_path: Path) -> None:
    """Not even a folder is needed."""
    assert latch(tmp_path / "state").read() is None


def test_halt_is_read_by_the_next_start(tmp_path: Path) -> None:
    """With its reason and its time, from a folder that it made."""
    latch(tmp_path / "state").engage("position over the limit", 1_790_000_000_000)
    assert latch(tmp_path / "state").read() == Halt("BTCUSDT", "position over the limit", 1_790_000_000_000)


def test_halt_holds_one_symbol_on_one_account(tmp_path: Path) -> None:
    """Others go on."""
    latch(tmp_path).engage("position over the limit", 5)
    assert latch(tmp_path, symbol="ETHUSDT").read() is None
    assert latch(tmp_path, account="live").read() is None


def test_clearing_says_whether_there_was_a_halt(tmp_path: Path) -> None:
    """Once cleared, it is gone."""
    latch(tmp_path).engage("position over the limit", 5)
    assert latch(tmp_path).clear()
    assert latch(tmp_path).read() is None
    assert not latch(tmp_path).clear()


def test_newer_halt_replaces_the_older(tmp_path: Path) -> None:
    """The file is whole, and nothing else is left in the folder."""
    latch(tmp_path).engage("first", 5)
    latch(tmp_path).engage("second", 6)
    assert latch(tmp_path).read() == Halt("BTCUSDT", "second", 6)
    assert os.listdir(tmp_path) == ["halt-paper-BTCUSDT.json"]


def test_halt_that_is_asked_for_does_not_replace_one(tmp_path: Path) -> None:
    """That one may be of a position that is to be closed; nothing else is left in the folder."""
    latch(tmp_path / "state").engage_first("asked for", 5)
    assert latch(tmp_path / "state").read() == Halt("BTCUSDT", "asked for", 5)
    latch(tmp_path / "state").engage("over the limit", 6, is_closing=True)
    latch(tmp_path / "state").engage_first("asked for", 7)
    assert latch(tmp_path / "state").read() == Halt("BTCUSDT", "over the limit", 6, is_closing=True)
    assert os.listdir(tmp_path / "state") == ["halt-paper-BTCUSDT.json"]


def test_signal_to_halt_is_on_disk_though_the_event_loop_never_turns_again(tmp_path: Path) -> None:
    """The process may hang, and be killed for it; the next one knows."""
    settings = settings_in(tmp_path)
    halt = latch(tmp_path, EMBEDDED_ACCOUNT, *settings.symbols)

    async def hang() -> None:
        switch = KillSwitch(tmp_path, time.monotonic_ns)
        with signals_go_to(lambda _: None, switch, partial(note_halt, settings)):
            os.kill(os.getpid(), signal.SIGUSR1)
            give_up_s = time.monotonic() + 5
            while halt.read() is None and time.monotonic() < give_up_s:
                time.sleep(0.005)  # noqa: ASYNC251 - nothing turns the loop
            assert switch.reason() == "SIGUSR1 received"

    asyncio.run(hang())
    standing = halt.read()
    assert standing is not None
    assert (standing.reason, standing.is_closing) == ("SIGUSR1 received", False)


def test_signal_to_halt_that_the_disk_does_not_take_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in memory all the same."""
    settings = settings_in(tmp_path)
    [symbol] = settings.symbols
    name = f"halt-{EMBEDDED_ACCOUNT}-{symbol}-asked-{threading.get_native_id()}"
    (tmp_path / f"{name}.tmp").symlink_to("/dev/full")
    note_halt(settings, "asked for")
    assert f"{symbol}: the halt (asked for) could not be written: No space left on device" in caplog.text


@pytest.mark.parametrize("text", [b"", b"{", b"null", b'{"symbol":"BTCUSDT"}', b"\xff\xfe"])
def test_damaged_file_is_a_halt(tmp_path: Path, text: bytes) -> None:
    """What cannot be read does not set anything free, and does not say that a close is finished."""
    latch(tmp_path).path.write_bytes(text)
    assert latch(tmp_path).read() == Halt("BTCUSDT", "the halt file is damaged", 0, is_closing=True)


def test_latch_cut_off_anywhere_never_says_that_a_close_is_finished(tmp_path: Path) -> None:
    """Whatever a disk leaves of the file of an unfinished close, the next start looks at the position."""
    latch(tmp_path).engage("position over the limit", 5, is_closing=True)
    whole = latch(tmp_path).path.read_bytes()
    for length in range(len(whole) + 1):
        latch(tmp_path).path.write_bytes(whole[:length])
        standing = latch(tmp_path).read()
        assert standing is not None
        assert standing.is_closing


def test_latch_of_an_older_version_says_nothing_of_a_close(tmp_path: Path) -> None:
    """It is read as it was meant: a halt that stands, and nothing to do."""
    latch(tmp_path).path.write_bytes(b'{"symbol":"BTCUSDT","reason":"first","since_ms":5}')
    assert latch(tmp_path).read() == Halt("BTCUSDT", "first", 5, is_closing=False)


def test_finished_close_leaves_the_halt_standing(tmp_path: Path) -> None:
    """The same reason since the same time; a latch that was cleared meanwhile is not set again."""
    latch(tmp_path).engage("position over the limit", 5, is_closing=True)
    latch(tmp_path).finish()
    assert latch(tmp_path).read() == Halt("BTCUSDT", "position over the limit", 5)
    latch(tmp_path).clear()
    latch(tmp_path).finish()
    assert latch(tmp_path).read() is None


def test_file_that_cannot_be_opened_is_a_halt(tmp_path: Path) -> None:
    """A folder in its place, for example."""
    latch(tmp_path).path.mkdir()
    standing = latch(tmp_path).read()
    assert standing is not None
    assert standing.reason == "the halt file cannot be read (Is a directory)"


def test_disk_that_takes_nothing_is_an_error_and_leaves_the_old_halt(tmp_path: Path) -> None:
    """Whole or not at all: the caller learns that the new one does not stand."""
    old = latch(tmp_path)
    old.engage("first", 5)
    old.path.with_suffix(".tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        old.engage("second", 6)
    assert latch(tmp_path).read() == Halt("BTCUSDT", "first", 5)


def test_halt_of_an_embedded_daemon_that_runs_stands_whatever_day_its_journal_has(tmp_path: Path) -> None:
    """The clock was weeks ahead for a moment: a later journal, which nobody writes, stays beside today's."""
    settings = settings_in(tmp_path)
    [symbol] = settings.symbols
    halt = latch(settings.state_directory, EMBEDDED_ACCOUNT, symbol)
    halt.engage("asked for", 5)
    (settings.state_directory / f"orders-{EMBEDDED_ACCOUNT}-20991231.jsonl").touch()
    journal = AppendFile()
    journal.open(settings.state_directory / f"orders-{EMBEDDED_ACCOUNT}-20260101.jsonl")
    begin_embedded_account(settings)
    assert halt.read() is not None
    journal.close()
    begin_embedded_account(settings)
    assert halt.read() is None


def test_state_that_cannot_be_cleared_refuses_the_start_on_the_embedded_exchange(tmp_path: Path) -> None:
    """It may be another user's: one sentence that names the folder, and no traceback."""
    settings = settings_in(tmp_path)
    [symbol] = settings.symbols
    latch(tmp_path, EMBEDDED_ACCOUNT, symbol).path.mkdir()
    with pytest.raises(DiskRefused, match=f"{tmp_path} cannot be written to"):
        begin_embedded_account(settings)


def test_resume_clears_no_halt_whose_close_begins_while_it_waits_for_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two symbols one is being closed; when that is done, the other one is over its limit."""
    (tmp_path / ".env").write_text("EXCHANGE_ENV=paper\nPAPER_URL=http://127.0.0.1:9\n", encoding="utf-8")
    (tmp_path / "config.yaml").write_text(f"state_directory: {tmp_path}\n", encoding="utf-8")
    settings = settings_from(get_config(tmp_path / ".env", tmp_path / "config.yaml"))
    [first] = settings.quotes
    settings = replace(settings, quotes=(first, replace(first, symbol="ETHUSDT")))
    account = account_of(settings)
    bitcoin, ether = (latch(tmp_path, account, symbol) for symbol in settings.symbols)

    class Moments:
        """What a daemon does while `resume` sleeps."""

        def wait(self, _seconds: float) -> None:
            if bitcoin.read() is None:
                bitcoin.engage("position over the limit", 6, is_closing=True)
                ether.finish()

    monkeypatch.setattr("commands.resume.Event", Moments)
    ether.engage("position over the limit", 5, is_closing=True)
    with InstanceLock(tmp_path, account, "BTCUSDT"), InstanceLock(tmp_path, account, "ETHUSDT"):
        assert resume(settings, accept_loss=False) is ExitCode.REFUSED
    assert capsys.readouterr().out.startswith("BTCUSDT: not resumed: nobody has verified yet")
    assert bitcoin.read() == Halt("BTCUSDT", "position over the limit", 6, is_closing=True)
    assert ether.read() == Halt("ETHUSDT", "position over the limit", 5)


@pytest.mark.parametrize("accept_loss", [False, True])
def test_resume_that_the_disk_does_not_allow_says_so_and_leaves_what_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, accept_loss: bool
) -> None:
    """A folder of another user, or a full disk, on which files can be removed and none be written."""
    settings = settings_in(tmp_path)
    [symbol] = settings.symbols
    halt, file = latch(tmp_path, EMBEDDED_ACCOUNT, symbol), tmp_path / "HALT"
    if accept_loss:
        halt.engage("asked for", 5)
        file.touch()
        DayFile(tmp_path, EMBEDDED_ACCOUNT, symbol).accepted_path.with_suffix(".tmp").symlink_to("/dev/full")
    else:
        file.mkdir()
    assert resume(settings, accept_loss=accept_loss) is ExitCode.FAULT
    said = capsys.readouterr().out
    assert said.startswith(f"{symbol}: not resumed: {tmp_path} cannot be written to (")
    assert file.exists()
    assert (halt.read() is not None) is accept_loss
