"""The journal of orders: a line on disk for each change of an order, so that every order can be accounted for later.

``orders-ACCOUNT-YYYYMMDD.jsonl`` in the state directory, by UTC day. Only whole lines are written; readers leave out
what they cannot read and say how much that was.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from core.append_file import AppendFile
from core.live_order import LiveOrder
from core.model import Side, SymbolRules
from core.order_life import State
from utils.redaction import redact

log = logging.getLogger(__name__)

DAY_FORMAT = "%Y%m%d"
_DAY_MS = 24 * 3600 * 1000
KEEP_DAYS = 14
"""How many days the daemon keeps."""


class JournalLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an order stands since ``time``, in epoch ms; or, with an empty ``id``, what became of the daemon.

    ``state`` is what rests, followed by what is open about it; numbers are decimal text, ``executed`` is cumulative.
    """

    time: int
    state: str
    id: str = ""
    symbol: str = ""
    side: str = ""
    level: int = 0
    price: str = ""
    quantity: str = ""
    executed: str = "0"
    reason: str = ""


STARTED, RUNNING, STOPPED = "STARTED", "RUNNING", "STOPPED"
"""What a line without an order says: a daemon has begun, has nothing to tell of any order, or has ended in order."""


class Note(NamedTuple):
    """Where an order stood at a moment; the line is made of it when it is written, which is not when it happens."""

    time_ms: int
    rules: SymbolRules
    client_id: str
    side: Side
    level: int
    state: State
    price_ticks: int
    lots: int
    executed: tuple[int, Decimal]
    reason: str

    @classmethod
    def of(cls, order: LiveOrder, rules: SymbolRules, now_ms: int) -> "Note":
        """Return where an order stands now."""
        return cls(
            now_ms,
            rules,
            order.client_id,
            order.side,
            order.level,
            order.state,
            order.price_ticks,
            order.lots,
            order.executed,
            order.reason,
        )

    def line(self) -> JournalLine:
        """Return the line that says so."""
        rules, (lots, rest) = self.rules, self.executed
        return JournalLine(
            time=self.time_ms,
            state=str(self.state),
            id=self.client_id,
            symbol=rules.symbol,
            side=self.side.value,
            level=self.level,
            price=rules.price_text(self.price_ticks),
            quantity=rules.quantity_text(self.lots),
            executed=f"{rules.quantity(lots) + rest:f}" if any(self.executed) else "0",
            reason=redact(self.reason) if self.reason else "",
        )


def _day_name(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY_MS / 1000, UTC).strftime(DAY_FORMAT)


def _day_of(line: JournalLine) -> int:
    """Return the number of the UTC day of a line."""
    return line.time // _DAY_MS


class JournalFile:
    """Appends lines to the journal of one account, each to the file of its day; the oldest files are deleted.

    While the file of the day after is there, lines go on in that: the clock was set back over midnight, and who reads
    the files by their days would else have the end of an order before its beginning. ``keep_days`` is how many files
    are kept, that of today included: by the days that were written to, not by the clock, which may be weeks ahead.
    """

    def __init__(self, directory: Path, account: str, keep_days: int) -> None:
        self._directory = directory
        self._account = account
        self._keep_days = keep_days
        self._file = AppendFile()
        self._encoder = msgspec.json.Encoder()
        self._newest_day = ""
        self._present = -1, "", directory
        """The number of the day of the last line, and the name and the file of the one that it was written to."""
        self._lock = threading.Lock()  # a cancelled writer thread may still be at it

    def path(self, day: str) -> Path:
        """Return the file of a UTC day, given as YYYYMMDD."""
        return self._directory / f"orders-{self._account}-{day}.jsonl"

    def append(self, lines: Sequence[JournalLine]) -> None:
        """Write lines. Raises OSError if the disk does not take them."""
        with self._lock:
            for number, batch in groupby(lines, key=_day_of):
                if number != self._present[0]:
                    following, day = _day_name(number + 1), _day_name(number)
                    day = following if self.path(following).exists() else day
                    self._present = number, day, self.path(day)
                _, day, path = self._present
                self._file.open(path)
                data = b"".join(self._encoder.encode(line) + b"\n" for line in batch)
                self._file.write_whole(data, "the journal of orders")
                if day > self._newest_day:
                    self._newest_day = day
                    self._delete_old(day)

    def _delete_old(self, today: str) -> None:
        """Delete the oldest files; one that the disk does not let go of is no reason to write no line."""
        for path in journal_paths(self._directory, self._account)[: -self._keep_days]:
            if path.stem[-8:] >= today:
                return
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s could not be deleted: %s", path.name, error.strerror)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def journal_paths(directory: Path, account: str) -> list[Path]:
    """Return the files of an account's journal, the oldest day first."""
    found = directory.glob(f"orders-{account}-{'[0-9]' * 8}.jsonl")
    return sorted(path for path in found if path.stem == f"orders-{account}-{path.stem[-8:]}")


def read_journal(paths: Iterable[Path]) -> Iterator[JournalLine | None]:
    """Yield the lines of these files in their order, None for one that cannot be read. Raises OSError."""
    decoder = msgspec.json.Decoder(JournalLine)
    for path in paths:
        for text in _whole_lines(path):
            try:
                line = decoder.decode(text.decode())  # msgspec looks into no key that it does not know
            except (msgspec.MsgspecError, UnicodeDecodeError):
                line = None
            yield line


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that may still be written to: a last one without its end is not there yet."""
    with path.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                yield text
