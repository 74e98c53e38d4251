"""The number of a start, for the client ids: greater than that of every start before, whatever the clock says."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from utils.durable import write_whole
from utils.errors import DiskRefused

KEPT = 100
"""So many earlier runs are remembered: their orders may still be met."""


class _Boot(msgspec.Struct):
    """The content of the file of a symbol."""

    boot: int
    earlier: list[int] = []
    """The numbers before it, the latest last."""


def next_boot(
    directory: Path, account: str, symbols: Sequence[str], now_ms: int, *, at_any_cost: bool = False
) -> int:
    """Return a number that no start before was given for any of these symbols; it is on disk before it is returned.

    It is the wall clock in ms, or one more than the last number where the clock was set back. So it also grows where
    a file was lost, as long as the clock is right. Without symbols nothing is kept: the account ends with the process.

    Raises DiskRefused if the disk does not take it: an id that may come again must not be used. ``at_any_cost`` it is
    used all the same, the clock has to do: for what must not wait for a disk.
    """
    paths = [directory / f"boot-{account}-{symbol}.json" for symbol in symbols]
    number = max([now_ms, *(_last(path) + 1 for path in paths)])
    try:
        for path in paths:
            write_whole(path, msgspec.json.encode(_Boot(number, _numbers(path)[-KEPT:])))
    except OSError as error:
        if at_any_cost:
            return number
        raise DiskRefused.of(directory, error) from error
    return number


def earlier_boots(directory: Path, account: str, symbols: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the last runs of this account and these symbols, that of ``next_boot`` included."""
    paths = [directory / f"boot-{account}-{symbol}.json" for symbol in symbols]
    return frozenset(number for path in paths for number in _numbers(path))


def _last(path: Path) -> int:
    """Return the last number; 0 if there was none, or it cannot be read: then the clock has to do."""
    return max(_numbers(path), default=0)


def _numbers(path: Path) -> list[int]:
    """Return the numbers that a file holds, none if it cannot be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Boot)
    except (OSError, msgspec.MsgspecError):
        return []
    return [*found.earlier, found.boot]
