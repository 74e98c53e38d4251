"""What moves the wallet besides our trades: funding, transfers, and the rest; each counted once. Pure.

The account stream tells of a movement without an id, the exchange's record with one. They are told to be the same by
kind, asset, amount and time.

Source: binance-futures ACCOUNT_UPDATE (reasons), GET /fapi/v1/income (types).
"""

from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

_ZERO = Decimal(0)


class CashKind(StrEnum):
    """What a movement of the wallet is."""

    FUNDING = "funding"
    TRANSFER = "transfer"
    OTHER = "other"
    """Rebates, insurance, trades on other symbols: neither profit of ours nor brought by anybody."""


_FUNDING = ("FUNDING_FEE", "SPECIAL_FUNDING_FEE")
_TRANSFERS = (
    *("DEPOSIT", "WITHDRAW", "WITHDRAW_REJECT", "ADMIN_DEPOSIT", "ADMIN_WITHDRAW", "WELCOME_BONUS"),
    *("TRANSFER", "INTERNAL_TRANSFER", "ASSET_TRANSFER", "MARGIN_TRANSFER", "CROSS_COLLATERAL_TRANSFER"),
    *("STRATEGY_UMFUTURES_TRANSFER", "AUTO_EXCHANGE", "COIN_SWAP_DEPOSIT", "COIN_SWAP_WITHDRAW"),
)
_KINDS: Mapping[str, CashKind] = {
    **dict.fromkeys(_FUNDING, CashKind.FUNDING),
    **dict.fromkeys(_TRANSFERS, CashKind.TRANSFER),
}


def cash_kind(name: str) -> CashKind:
    """Return what a reason of the stream, or a type of the record, is; one that we do not know is no profit of ours."""
    return _KINDS.get(name, CashKind.OTHER)


@dataclass(frozen=True, slots=True)
class CashEntry:
    """One movement; ``transaction`` is its name in the exchange's record, "" if the stream told of it.

    ``symbol`` is "" where there is none. ``balance`` is the wallet afterwards, as the stream states it.
    """

    kind: CashKind
    symbol: str
    asset: str
    amount: Decimal
    time_ms: int
    transaction: str = ""
    balance: Decimal = _ZERO


class _Alike:
    """Movements of one kind, asset and amount: the times at which each channel places them, oldest first."""

    KEPT = 500

    def __init__(self) -> None:
        self._streamed: list[int] = []
        self._recorded: list[int] = []
        self._forgotten = 0

    def count(self) -> int:
        """Return how many there were: as few as the two channels together can mean."""
        both = len(self._streamed) + len(self._recorded)
        return self._forgotten + both - _pairs(self._streamed, self._recorded, CashBook.MATCH_MS)

    def add(self, time_ms: int, *, is_recorded: bool) -> None:
        """Take what one of the channels tells."""
        times = self._recorded if is_recorded else self._streamed
        insort(times, time_ms)
        if len(times) > self.KEPT:
            before = self.count()
            del times[0]
            self._forgotten += before - self.count()


def _pairs(one: Sequence[int], other: Sequence[int], apart_ms: int) -> int:
    """Return how many pairs of the two there can be at most that lie no farther apart; both are sorted."""
    found = first = second = 0
    while first < len(one) and second < len(other):
        gap_ms = one[first] - other[second]
        found += abs(gap_ms) <= apart_ms
        first += gap_ms <= apart_ms
        second += gap_ms >= -apart_ms
    return found


class CashBook:
    """Adds up the movements of the wallet, each once, whichever of the two channels tells of it first, and how often.

    ``totals`` are the sums by kind and asset. Movements that are alike are never told apart one by one, because the one
    that a channel tells of next may be the twin of another: what counts is how many there are.
    """

    MATCH_MS = 60_000
    """The two channels may state times that differ by so much."""
    REMEMBERED = 5000

    def __init__(self) -> None:
        self.totals: dict[tuple[CashKind, str], Decimal] = {}
        self._seen: OrderedDict[object, None] = OrderedDict()
        self._alike: OrderedDict[tuple[CashKind, str, Decimal], _Alike] = OrderedDict()

    def add(self, entry: CashEntry) -> bool:
        """Count a movement; return False if it was counted before."""
        if not entry.amount or self._was_told(entry):
            return False
        alike = self._all_like(entry)
        before = alike.count()
        alike.add(entry.time_ms, is_recorded=bool(entry.transaction))
        if alike.count() == before:
            return False
        key = entry.kind, entry.asset
        self.totals[key] = self.totals.get(key, _ZERO) + entry.amount
        return True

    def total(self, kind: CashKind, asset: str) -> Decimal:
        """Return what movements of this kind have brought (taken when below zero) of this asset."""
        return self.totals.get((kind, asset), _ZERO)

    def _was_told(self, entry: CashEntry) -> bool:
        """Tell whether the same channel has told of it before, and remember that it has now."""
        key: object = (entry.transaction, entry.kind, entry.asset) if entry.transaction else entry
        if key in self._seen:
            return True
        self._seen[key] = None
        while len(self._seen) > self.REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _all_like(self, entry: CashEntry) -> _Alike:
        key = entry.kind, entry.asset, entry.amount
        alike = self._alike.setdefault(key, _Alike())
        self._alike.move_to_end(key)
        while len(self._alike) > self.REMEMBERED:
            self._alike.popitem(last=False)
        return alike
