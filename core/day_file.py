"""The day's result on disk: what must survive a restart, and what `resume` says while no daemon runs.

Two files a symbol: the daemon alone writes ``day-…``, the command ``resume --accept-loss`` alone writes ``accepted-…``.
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from core.daily_loss import start_ms_of
from utils.durable import write_whole

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRecord:
    """One day of one symbol on one account, as it was at ``saved_ms``.

    ``unrealized_at_start_quote`` and the two of ``accepted`` are what a restart goes on with; the rest is for people,
    because the exchange's own record is asked again.
    """

    account: str
    symbol: str
    day: int
    date: str
    unrealized_at_start_quote: Decimal
    result_quote: Decimal
    whole_quote: Decimal
    limit_quote: Decimal
    text: str
    accepted_quote: Decimal
    accepted_ms: int
    saved_ms: int
    trades: int = 0
    """How many of the day were known: a list that has fewer is not the whole one."""
    version: int = VERSION

    @property
    def is_over(self) -> bool:
        """Tell whether the limit was reached."""
        return 0 < self.limit_quote <= -self.result_quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """An operator has accepted what was lost on a day: it shall count anew from ``accepted_ms`` on.

    ``accepted_quote`` is the day's result then, as the last record had it, None where there was none; the daemon goes
    by its own, which is newer.
    """

    account: str
    symbol: str
    day: int
    accepted_quote: Decimal | None
    accepted_ms: int


class DamagedDay(Exception):
    """The file of the day cannot be used; ``str()`` says why in a few words."""


def date_text(day: int) -> str:
    """Return a day as people write it."""
    return datetime.fromtimestamp(start_ms_of(day) / 1000, UTC).date().isoformat()


class _Sealed(msgspec.Struct):
    """A record with the checksum of its text."""

    check: str
    record: msgspec.Raw


def _seal(record: object) -> bytes:
    raw = msgspec.json.encode(record)
    return msgspec.json.encode(_Sealed(f"{zlib.crc32(raw):08x}", msgspec.Raw(raw))) + b"\n"


class DayFile:
    """The two files of one symbol on one account."""

    def __init__(self, directory: Path, account: str, symbol: str) -> None:
        self._account = account
        self._symbol = symbol
        self.path = directory / f"day-{account}-{symbol}.json"
        self.accepted_path = directory / f"accepted-{account}-{symbol}.json"

    def read(self, today: int) -> DayRecord | None:
        """Return the latest record, None if there is no file.

        Raises DamagedDay for one that cannot be ours, OSError for one that cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            sealed = msgspec.json.decode(data, type=_Sealed)
            record = msgspec.json.decode(sealed.record, type=DayRecord)
        except (msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError) as error:
            raise DamagedDay("it is torn or damaged") from error
        self._check(sealed, record, today)
        return record

    def _check(self, sealed: _Sealed, record: DayRecord, today: int) -> None:
        if sealed.check != f"{zlib.crc32(sealed.record):08x}":
            raise DamagedDay("its checksum is wrong")
        if record.version != VERSION:
            raise DamagedDay(f"it is of version {record.version}, this program writes {VERSION}")
        if (record.account, record.symbol) != (self._account, self._symbol):
            raise DamagedDay(f"it belongs to {record.symbol} on {record.account}")
        if record.day > today:
            raise DamagedDay(f"it is of {record.date}, a day that has not come")

    def write(self, record: DayRecord) -> None:
        """Have the record on disk, whole or not at all. Raises OSError if the disk does not take it."""
        write_whole(self.path, _seal(record))

    def put_aside(self) -> Path:
        """Keep a file that cannot be used for people to look at; return where it is."""
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        return aside

    def acceptance(self, day: int) -> Acceptance | None:
        """Return what an operator has accepted on this day, None if nothing; what cannot be read accepts nothing."""
        try:
            found = msgspec.json.decode(self.accepted_path.read_bytes(), type=Acceptance)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError):
            return None
        is_ours = (found.account, found.symbol, found.day) == (self._account, self._symbol, day)
        return found if is_ours else None

    def accept(self, day: int, result_quote: Decimal | None, now_ms: int) -> None:
        """Have the loss of this day accepted, from now on; None if nobody knows it yet. Raises OSError."""
        accepted = Acceptance(
            account=self._account,
            symbol=self._symbol,
            day=day,
            accepted_quote=result_quote,
            accepted_ms=now_ms,
        )
        write_whole(self.accepted_path, msgspec.json.encode(accepted) + b"\n")

    def remove(self) -> None:
        """Have neither file: the account is a new one."""
        self.path.unlink(missing_ok=True)
        self.accepted_path.unlink(missing_ok=True)
