"""Which trades the exchange lists of one symbol's day, and which of them the ledger counts. Pure."""

from collections.abc import Sequence
from decimal import Decimal

from core.daily_loss import Sums, start_ms_of
from core.day_file import DayRecord
from core.ledger import Ledger
from core.model import Fill
from utils.errors import OutcomeUnknown

_ZERO = Decimal(0)


class DayTrades:
    """The trades that the list told of when the day was opened: each counts there until the ledger has counted it.

    Which trades those will be, nobody can tell by their time or id: what the list said when the ledger was opened may
    have been a lie.
    """

    MOST_SHORT_LISTS = 5

    def __init__(self) -> None:
        self._before = 0
        """So many trades of the day are not among the fills that the ledger has counted."""
        self.lacking: DayRecord | None = None
        """The record of an earlier run that knew of more trades than the list that the day is counted from."""
        self._open_yet: list[Fill] = []
        """Those that the ledger has not counted, but would if it was told of them."""
        self._short_lists = 0

    def refuse_short(self, record: DayRecord | None, trades: int) -> None:
        """Raise OutcomeUnknown for a list that lacks trades which the record of this day knows, the first few times.

        A reading may lag or be empty, and would let a loss be forgotten; an account that was reset has fewer for good.
        """
        self.lacking = record if record is not None and trades < record.trades else None
        if self.lacking is not None and self._short_lists < self.MOST_SHORT_LISTS:
            self._short_lists += 1
            raise OutcomeUnknown(
                f"the exchange lists {trades} trades of today, and {self.lacking.trades} are known"
            )

    @staticmethod
    def are_all(ledger: Ledger, fills: Sequence[Fill], day: int) -> bool:
        """Tell whether these trades of the day have all that the ledger has counted of it."""
        listed = sum(ledger.has_summed(fill.trade_id, fill.time_ms) for fill in fills)
        return listed == ledger.count_since(start_ms_of(day)) and not ledger.ids_began_anew

    def take(self, ledger: Ledger, fills: Sequence[Fill], day: int) -> tuple[Sums, Sums]:
        """Return what these trades of the day have made, and what the ledger had when it began to add to that.

        The ledger counts from its opening on. Where that was on an earlier day, what it had of that is left out, if the
        list has all that it has counted of this one.
        """
        before = [fill for fill in fills if not ledger.has_summed(fill.trade_id, fill.time_ms)]
        self._before = len(before)
        self._open_yet = [fill for fill in before if not ledger.has_counted(fill.trade_id, fill.time_ms)]
        if ledger.fill_count > ledger.count_since(start_ms_of(day)) and self.are_all(ledger, fills, day):
            return Sums.of_fills(fills, _ZERO), Sums.of_ledger(ledger)
        return Sums.of_fills(before, _ZERO), Sums()

    def lacks(self, ledger: Ledger, fills: Sequence[Fill]) -> bool:
        """Tell whether these trades of the day are more than those that count already."""
        return sum(not ledger.has_summed(fill.trade_id, fill.time_ms) for fill in fills) > self._before

    def counted_since(self, ledger: Ledger) -> list[Fill]:
        """Return those that the ledger has counted since the last call: they are its own from now on."""
        counted, open_yet = list[Fill](), list[Fill]()
        for fill in self._open_yet:
            (counted if ledger.has_summed(fill.trade_id, fill.time_ms) else open_yet).append(fill)
        self._open_yet = open_yet
        self._before -= len(counted)
        return counted

    def known(self, ledger: Ledger, day: int) -> int:
        """Return how many trades of this day are known, whenever they were told of."""
        return self._before + ledger.count_since(start_ms_of(day))

    def begin_anew(self) -> None:
        """Note that another day has begun: no trade that was listed is one of it."""
        self._before, self.lacking, self._open_yet = 0, None, []
