"""The metrics CSV: rows made into lines, and one file a local day, with a header once and whole lines only."""

import csv
import errno
import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from core.append_file import AppendFile
from core.metrics import COLUMNS, Row
from core.metrics_store import remove_oldest
from utils.machine import THIS_MACHINE, disk_mb
from utils.redaction import redact

REDACT_FROM = 6
"""Length from which a text may hold a secret, or a part of one that matters."""
_FORMULA_STARTS = frozenset(("=", "+", "-", "@", "\t", "\r"))
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?").fullmatch
"""What stands in a file as it is."""
_MOST_SHAPES = 10_000
"""So many kinds of lines are kept ready; there are more only if something in them never stops changing."""
_SECONDS_KEPT = 8
"""So much is kept of the text of rows, in seconds of them: most say what they said a second ago."""
_MOST_KEPT = 20_000
_LENGTH_OF_DAY = len("2026-11-21")

Batch = tuple[str, Sequence[Row]]
"""The ISO 8601 timestamp of a moment, and its rows."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of one local day, YYYY-MM-DD, each with its end."""

    day: str
    text: str
    count: int

    def without_first(self, count: int) -> "Lines":
        """Return the same without so many of its first lines."""
        return Lines(self.day, self.text.split("\n", count)[count], self.count - count)


def csv_line(cells: Sequence[str]) -> str:
    """Return one line of CSV, with its end; no cell can break the line or be taken for a formula."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return buffer.getvalue()


def _day(batch: Batch) -> str:
    """Return the local day of the rows of one moment."""
    return batch[0][:_LENGTH_OF_DAY]


def _cell(cell: str) -> str:
    """Return one cell of a line of several, as ``csv_line`` writes it; most need nothing done."""
    if cell.isprintable() and cell[:1] not in _FORMULA_STARTS and "," not in cell and '"' not in cell:
        return cell
    return csv_line((cell, ""))[:-2]


def _harmless(cell: str) -> str:
    if cell.isprintable() and cell[:1] not in _FORMULA_STARTS:
        return cell
    text = "".join(character if character.isprintable() else " " for character in cell)
    if text[:1] in _FORMULA_STARTS and text != "-" and not _is_number(text):
        return "'" + text
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


HEADER = csv_line(COLUMNS)


class MetricsFile:
    """Makes lines of rows, and appends them to ``metrics-YYYYMMDD.csv`` in a directory, each to that of its local day.

    ``append`` and ``close`` block, and are not for the event loop; the others are for it, and for it alone. Whole lines
    only, whatever happens: see ``AppendFile``. ``max_mb`` is how much all days together may hold, 0 for no bound: when
    a file is begun, and now and then, the oldest are removed (``core.metrics_store``). ``free_mb`` tells what is free
    on the disk of a folder, ``disk_mb`` how large that is.
    """

    LOOK_EVERY_BYTES = 50_000_000
    LEFT_MB = 50
    """The last of a disk is left to the journal and the state: without those nothing is traded."""
    LEFT_SHARE = 0.05
    """Of a small disk it is no more than that share."""

    def __init__(
        self,
        directory: Path,
        instance_id: str,
        environment: str,
        max_mb: int = 0,
        free_mb: Callable[[Path], float] = THIS_MACHINE.free_mb,
        disk_mb: Callable[[Path], float] = disk_mb,
    ) -> None:
        self._directory = directory
        self._instance_id = instance_id
        self._environment = environment
        self._max_mb = max_mb
        self._free_mb = free_mb
        self._disk_mb = disk_mb
        self._full = Path()
        """The file that had no room, and for which old ones were looked for."""
        self._tidied = Path()
        self._since_tidied = 0
        self._file = AppendFile()
        self._present = "", directory
        """The day that was written to last, and its file."""
        self._shapes: dict[tuple[str, ...], tuple[str, str]] = {}
        self._tails: dict[Row, str] = {}
        """The lines of rows without their timestamps."""
        self._masked: dict[Row, tuple[str, str]] = {}
        """The same of rows in which a secret may be found that is learned later, with what is shown of it."""
        self._lock = threading.Lock()  # a cancelled writer thread may still be at it

    def path(self, day: str) -> Path:
        """Return the file of a local day, given as YYYYMMDD."""
        return self._directory / f"metrics-{day}.csv"

    def lines(self, batches: Sequence[Batch]) -> list[Lines]:
        """Return the lines of the rows of some moments, in their order."""
        made: list[Lines] = []
        for day, moments in groupby(batches, key=_day):  # hardly ever there is more than one
            of_day = list(moments)
            made.append(Lines(day, self._text(of_day), sum(len(rows) for _, rows in of_day)))
        return made

    def forget(self, rows_a_second: int) -> None:
        """Let go of the texts of rows that are kept, if those are many beside the rows that a second has brought."""
        if len(self._tails) + len(self._masked) > min(_SECONDS_KEPT * rows_a_second, _MOST_KEPT):
            self._tails.clear()
            self._masked.clear()

    def append(self, lines: Sequence[Lines]) -> None:
        """Write these lines, in their order. Raises OSError if the disk does not take them, or is all but full."""
        with self._lock:
            if lines:
                self._leave_the_last(self._path_on(lines[-1].day))
            for day, of_day in groupby(lines, key=attrgetter("day")):
                self._append_to(day, "".join(each.text for each in of_day))

    def _leave_the_last(self, path: Path) -> None:
        """Raise OSError where this file would take the last of its disk, and no old one makes room for it."""
        if self._has_room():
            self._full = Path()
            return
        if path != self._full:  # not each second
            self._full = path
            self._file.close()  # else the day that has ended would count as being written still
            self._tidy(path)
            if self._has_room():
                return
        raise OSError(errno.ENOSPC, "the last of the disk is left to the journal of orders")

    def _has_room(self) -> bool:
        free_mb = self._free_mb(self._directory)
        return free_mb >= self.LEFT_MB or free_mb >= self.LEFT_SHARE * self._disk_mb(self._directory)

    def _tidy(self, path: Path) -> None:
        self._tidied, self._since_tidied = path, 0
        remove_oldest(self._directory, self._max_mb, path, self._free_mb)

    def _path_on(self, day: str) -> Path:
        """Return the file of a local day, given as YYYY-MM-DD; it is the same object while the day lasts."""
        if day != self._present[0]:
            self._present = day, self.path(day.replace("-", ""))
        return self._present[1]

    def _append_to(self, day: str, text: str) -> None:
        path = self._path_on(day)
        if self._file.open(path):
            text = HEADER + text
        data = text.encode()
        self._file.write_whole(data, "metrics")
        self._since_tidied += len(data)
        if path != self._tidied or self._since_tidied >= self.LOOK_EVERY_BYTES:
            self._tidy(path)

    def _text(self, batches: Sequence[Batch]) -> str:
        parts: list[str] = []
        for timestamp, rows in batches:
            tails = list(map(self._tails.get, rows))
            known = [self._tail(row) if tail is None else tail for row, tail in zip(rows, tails, strict=True)]
            if known:
                parts += (timestamp, timestamp.join(known))
        return "".join(parts)

    def _tail(self, row: Row) -> str:
        """Return the line of a row without its timestamp, and keep it for the next row that says the same."""
        details = row.details
        if len(details) < REDACT_FROM:
            tail = self._tails[row] = self._made_tail(row, details)
            return tail
        shown = redact(details)
        before = self._masked.get(row)
        if before is not None and before[0] == shown:
            return before[1]
        tail = self._made_tail(row, shown)
        self._masked[row] = shown, tail
        return tail

    def _made_tail(self, row: Row, details: str) -> str:
        value = row.value
        shape = row.name, row.unit, row.symbol, row.side, row.level, row.sub_type
        before, after = self._shapes.get(shape) or self._shape(shape)
        if not _NUMBER(value):
            value = _cell(value)
        return f"{before}{value}{after}{_cell(details) if details else ''}\n"

    def _shape(self, shape: tuple[str, ...]) -> tuple[str, str]:
        """Return what lines of this shape have before and behind their value, and keep it: most lines have few."""
        name, *others = shape
        before = ",".join(["", *map(_cell, (self._instance_id, self._environment, name)), ""])
        after = ",".join(["", *map(_cell, others), ""])
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[shape] = before, after
        return before, after

    def close(self) -> None:
        """Release the file."""
        self._file.close()
