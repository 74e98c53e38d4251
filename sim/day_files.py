"""Market streams written into files of Binance's public format, day by day, so that they can be replayed like those.

Rows are gathered and written as whole gzip members, each in one go, so that a file ends with a whole line also after a
kill; what a power cut has left of a member is cut off when the file is opened again.

Source: data.binance.vision (bookTicker, aggTrades); Market streams (bookTicker, aggTrade).
"""

import errno
import gzip
import os
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sim.market import MarketError
from sim.public_files import HEADERS, QUOTES, TRADES, file_endings
from sim.stream_reader import BAD_PAYLOAD, trade_quantity

_ENDING = ".csv.gz"
_DECIMAL = re.compile(r"\d{1,20}(\.\d{1,20})?")
_CHUNK = 1 << 16


class DayFiles:
    """The files in `folder`: quotes and trades of each symbol and UTC day. Days are those of the transaction times.

    What comes again after a reconnect is left out. `refused` counts the messages that could not be used:
    those that cannot be read, and quotes that are no market.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[Path, list[str]] = {}
        self._opened: set[Path] = set()
        self._last_ids: dict[tuple[str, str], int] = {}
        self.counts = {QUOTES: 0, TRADES: 0}
        self.refused = 0

    def put(self, payload: Mapping[str, Any]) -> None:
        """The quote or trade in the payload will be written by the next `flush`; other payloads are passed over.

        So are trades that were against invisible orders alone: they consume no queue, and fill nobody.

        Raises:
            MarketError: its file cannot be made.
        """
        kind = {"bookTicker": QUOTES, "aggTrade": TRADES}.get(str(payload.get("e")))
        if kind is None:
            return
        try:
            symbol, time_ms, row_id = (
                str(payload["s"]),
                int(payload["T"]),
                int(payload["u" if kind == QUOTES else "a"]),
            )
            row = _quote_row(payload) if kind == QUOTES else _trade_row(payload)
        except BAD_PAYLOAD:
            self.refused += 1
            return
        if row_id <= self._last_ids.get((kind, symbol), -1):
            return
        self._last_ids[kind, symbol] = row_id
        if kind == TRADES and not Decimal(trade_quantity(payload)):
            return
        if kind == QUOTES and not 0 < Decimal(payload["b"]) < Decimal(payload["a"]):
            self.refused += 1  # a replay would end at it
            return
        self._day(kind, symbol, time_ms).append(row)
        self.counts[kind] += 1

    def flush(self) -> None:
        """All rows are in their files.

        Raises:
            MarketError: a file cannot be written.
        """
        for path, rows in self._rows.items():
            if rows:
                _append(path, rows)
                rows.clear()

    def resume(self) -> None:
        """The ids start anew, because another exchange may answer after a reconnect."""
        self._last_ids.clear()

    def _day(self, kind: str, symbol: str, time_ms: int) -> list[str]:
        day = datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
        for each in (QUOTES, TRADES):
            self._begin(self._folder / f"{symbol}-{each}-{day}{_ENDING}", each)
        return self._rows.setdefault(self._folder / f"{symbol}-{kind}-{day}{_ENDING}", [])

    def _begin(self, path: Path, kind: str) -> None:
        """The file is there with its header: a day is replayed only if it has quotes and trades."""
        if path in self._opened:
            return
        stem = path.name.removesuffix(_ENDING)
        for ending in file_endings():
            if ending != _ENDING and (path.parent / f"{stem}{ending}").exists():
                raise MarketError(
                    f"{path.parent} has a file {stem}{ending} already: record into another folder."
                )
        if not _cut_to_whole_members(path):
            _append(path, [",".join(HEADERS[kind])])
        self._opened.add(path)


def _quote_row(payload: Mapping[str, Any]) -> str:
    numbers = [_decimal(payload[key]) for key in ("b", "B", "a", "A")]
    return ",".join([str(int(payload["u"])), *numbers, str(int(payload["T"])), str(int(payload["E"]))])


def _trade_row(payload: Mapping[str, Any]) -> str:
    if not isinstance(payload["m"], bool):
        raise TypeError("m is neither true nor false")
    cells = [str(int(payload["a"])), _decimal(payload["p"]), _decimal(trade_quantity(payload))]
    cells += [str(int(payload[key])) for key in ("f", "l", "T")]
    return ",".join([*cells, "true" if payload["m"] else "false"])


def _decimal(value: object) -> str:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError(f"{value} is no decimal text")
    return value


def _append(path: Path, rows: list[str]) -> None:
    member = gzip.compress(("\n".join(rows) + "\n").encode("ascii"), mtime=0)
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if file.write(member) < len(member):
                file.truncate(size)  # nothing that is appended behind half a member could be read
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise MarketError(
            f"{path} cannot be written ({error.strerror}): free space or use another folder."
        ) from error


def _cut_to_whole_members(path: Path) -> bool:
    """Whether the file has anything in it is told, after a member that is not whole has been cut off."""
    try:
        size = path.stat().st_size if path.exists() else 0
        whole = _whole_members(path) if size else 0
        if whole < size:
            with path.open("r+b") as file:
                file.truncate(whole)
    except (OSError, zlib.error) as error:
        raise MarketError(f"{path} cannot be gone on with ({error}): record into another folder.") from error
    return whole > 0


def _whole_members(path: Path) -> int:
    """The length of the file up to the end of its last whole gzip member is returned."""
    end = read = 0
    unpacker = zlib.decompressobj(wbits=31)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            read += len(chunk)
            while chunk:
                unpacker.decompress(chunk)
                chunk = unpacker.unused_data
                if not unpacker.eof:
                    break
                end = read - len(chunk)
                unpacker = zlib.decompressobj(wbits=31)
    return end
