"""A halt outlives the process, and a file that cannot be trusted is a halt."""

import os
from pathlib import Path

import pytest

from core.halt import Halt, HaltLatch


def latch(directory: Path, account: str = "paper", symbol: str = "BTCUSDT") -> HaltLatch:
    """A latch as every start makes it."""
    return HaltLatch(directory, account, symbol)


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


@pytest.mark.parametrize("text", [b"", b"{", b"null", b'{"symbol":"BTCUSDT"}', b"\xff\xfe"])
def test_damaged_file_is_a_halt(tmp_path: Path, text: bytes) -> None:
    """What cannot be read does not set anything free."""
    latch(tmp_path).path.write_bytes(text)
    assert latch(tmp_path).read() == Halt("BTCUSDT", "the halt file is damaged", 0)


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
