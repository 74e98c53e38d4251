"""What moves the wallet besides our trades: funding, transfers, and the rest; each counted once. Pure.

The account stream tells of a movement without an id, the exchange's record with one. They are told to be the same by
kind, asset, amount and time.

Source: binance-futures ACCOUNT_UPDATE (reasons), GET /fapi/v1/income (types).
"""

from collections import OrderedDict
from collections.abc import Mapping
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


class CashBook:
    """Adds up the movements of the wallet, each once, whichever of the two channels tells of it first, and how often.

    ``totals`` are the sums by kind and asset.
    """

    MATCH_MS = 60_000
    """The two channels may state times that differ by so much."""
    REMEMBERED = 5000

    def __init__(self) -> None:
        self.totals: dict[tuple[CashKind, str], Decimal] = {}
        self._seen: OrderedDict[object, None] = OrderedDict()
        self._unmatched: list[CashEntry] = []

    def add(self, entry: CashEntry) -> bool:
        """Count a movement; return False if it was counted before."""
        if not entry.amount or self._was_told(entry):
            return False
        if (twin := self._twin(entry)) is not None:
            self._unmatched.remove(twin)
            return False
        self._unmatched.append(entry)
        del self._unmatched[: -self.REMEMBERED]
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

    def _twin(self, entry: CashEntry) -> CashEntry | None:
        """Return the nearest in time that the other channel has told of and that may be the same."""
        candidates = [
            other
            for other in self._unmatched
            if bool(other.transaction) != bool(entry.transaction)
            and (other.kind, other.asset, other.amount) == (entry.kind, entry.asset, entry.amount)
            and (not other.symbol or not entry.symbol or other.symbol == entry.symbol)
            and abs(other.time_ms - entry.time_ms) <= self.MATCH_MS
        ]
        return min(candidates, key=lambda other: abs(other.time_ms - entry.time_ms), default=None)
