"""The metrics CSV on disk: one file a local day, a header once, whole lines only. Blocking: not for the event loop."""

import csv
import io
import re
import threading
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from core.append_file import AppendFile
from core.metrics import COLUMNS, Row
from utils.redaction import redact

REDACT_FROM = 6
"""Length from which a text may hold a secret, or a part of one that matters."""
_FORMULA_STARTS = frozenset(("=", "+", "-", "@", "\t", "\r"))
_SPECIAL = re.compile(r'"|(?:^|,)(?:[=+@]|-[^,])').search
"""Finds what has to be quoted, or may have to be: a quotation mark, and what a cell of a formula begins with."""


def csv_line(cells: Sequence[str]) -> str:
    """Return one line of CSV, with its end; no cell can break the line or be taken for a formula."""
    return csv_lines([cells])


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return lines of CSV, each with its end; no cell can break its line or be taken for a formula."""
    return "".join(_line(cells) for cells in rows)


def _line(cells: Sequence[str]) -> str:
    plain = ",".join(cells)
    if len(cells) > 1 and plain.count(",") == len(cells) - 1 and plain.isprintable() and not _SPECIAL(plain):
        return plain + "\n"  # what the writer would make of it, at a fraction of the cost
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return buffer.getvalue()


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
    """Appends rows to ``metrics-YYYYMMDD.csv`` in a directory, each to the file of its own local day.

    Whole lines only, whatever happens: see ``AppendFile``.
    """

    def __init__(self, directory: Path, instance_id: str, environment: str) -> None:
        self._directory = directory
        self._instance_id = instance_id
        self._environment = environment
        self._file = AppendFile()
        self._lock = threading.Lock()  # a cancelled writer thread may still be at it

    def path(self, day: str) -> Path:
        """Return the file of a local day, given as YYYYMMDD."""
        return self._directory / f"metrics-{day}.csv"

    def append(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Write rows, each with its ISO 8601 timestamp. Raises OSError if the disk does not take them."""
        with self._lock:
            for day, batch in groupby(rows, key=lambda row: row[0][:10].replace("-", "")):
                self._append_to(day, batch)

    def _append_to(self, day: str, rows: Iterable[tuple[str, Row]]) -> None:
        text = csv_lines(self._cells(timestamp, row) for timestamp, row in rows)
        if self._file.open(self.path(day)):
            text = HEADER + text
        self._file.write_whole(text.encode(), "metrics")

    def _cells(self, timestamp: str, row: Row) -> tuple[str, ...]:
        return (
            timestamp,
            self._instance_id,
            self._environment,
            row.name,
            row.value,
            row.unit,
            row.symbol,
            row.side,
            row.level,
            row.sub_type,
            redact(row.details) if len(row.details) >= REDACT_FROM else row.details,
        )

    def close(self) -> None:
        """Release the file."""
        self._file.close()
