"""What the daemon believes, held against what the exchange knows: always, when all is quiet, and at the end."""

import csv
from collections import Counter
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path

from core.live_order import LiveOrder
from core.metrics import COLUMNS, MAKER_FILL, TAKER_FILL
from core.model import OrderStatus
from test.simulation.facts import Facts

_RANK = {
    OrderStatus.PENDING_NEW: 0,
    OrderStatus.IN_DOUBT: 0,
    OrderStatus.ACTIVE: 1,
    OrderStatus.PARTIALLY_FILLED: 2,
}
_ENDED = 3
_FILLS = frozenset((MAKER_FILL, TAKER_FILL))
_DOUBTFUL_S = 90.0
_LYING_LISTS = ("empty-list", "hide-trades", "stale-reads")
_OPENING_S = 15.0
"""Opening the books takes no longer."""
_LINES = 100_000
"""So many lines of a file are looked at together: those of a week do not fit into memory."""
_BEHIND_TIME = list(COLUMNS[1:])
_VALUE, _SUB_TYPE, _DETAILS = map(_BEHIND_TIME.index, ("value", "sub_type", "details"))


class BookRules:
    """INV-10, -11, -12, -22, -33 and -37."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[str, tuple[int, int]] = {}
        self._going: dict[str, None] = {}
        """Those of the known orders whose end is not known yet."""
        self._wrong_since_s: dict[str, float] = {}
        self._untold_id: int | None = None
        """The last trade before the books were opened, where the list of trades may have been told short."""

    def restarted(self) -> None:
        """Note that a new process knows nothing yet."""
        self._known.clear()
        self._going.clear()
        self._wrong_since_s.clear()
        self._untold_id = None

    def look(self) -> None:
        """Look at the daemon's books, now and then."""
        context = self._facts.context
        if context is None:
            return
        if context.ledger.is_open and self._untold_id is None:
            self._untold_id = self._last_trade_id() if self._facts.struck(_OPENING_S, *_LYING_LISTS) else 0
        for order in context.orders.living():
            self.inv_10_knowledge_only_grows(order)
        for client_id in tuple(self._going):
            order = context.orders.find(client_id)
            if order is not None and order.status.is_terminal:
                self.inv_10_knowledge_only_grows(order)
        if len(self._known) > 2000:
            for client_id in list(self._known)[:1000]:
                del self._known[client_id]
                self._going.pop(client_id, None)
        self.inv_12_books_are_not_wrong_for_long()

    def inv_10_knowledge_only_grows(self, order: LiveOrder) -> None:
        """INV-10: rank and executed quantity of an order never fall, and no more is executed than was ordered.

        An end that was only concluded (refused, never existed) may be undone by the exchange's word: it is passed over.
        """
        if order.status.is_terminal and not order.end_is_reported:
            return
        rank = _RANK.get(order.status, _ENDED)
        before_rank, before_lots = self._known.get(order.client_id, (0, 0))
        if rank < before_rank or order.executed_lots < before_lots:
            self._facts.violated(
                "INV-10",
                f"{order.client_id} fell from {(before_rank, before_lots)} to {(rank, order.executed_lots)}",
            )
        if order.executed_lots > order.lots:
            self._facts.violated(
                "INV-10", f"{order.client_id}: {order.executed_lots} of {order.lots} lots executed"
            )
        self._known[order.client_id] = rank, order.executed_lots
        if rank < _ENDED:
            self._going[order.client_id] = None
        else:
            self._going.pop(order.client_id, None)

    def inv_12_books_are_not_wrong_for_long(self) -> None:
        """INV-12: what the daemon thinks of an order is not wrong, or undecided, for more than 90 s without a break.

        Nothing may stay unnoticed for longer than an audit (60 s) and what it needs to find out; while faults strike,
        and while the exchange wants no question, the clock does not run.
        """
        facts = self._facts
        lines = {line.split(" ")[0]: line for line in facts.world.disagreements()}
        if not lines:
            self._wrong_since_s.clear()
            return
        now_s = facts.now_s
        self._wrong_since_s = {name: self._wrong_since_s.get(name, now_s) for name in lines}
        calm_s = now_s - max(facts.nemesis.last_s, facts.silent_last_s)
        for name, since_s in self._wrong_since_s.items():
            if min(now_s - since_s, calm_s) > _DOUBTFUL_S:
                facts.violated("INV-12", f"wrong for {now_s - since_s:.0f} s: {lines[name]}")

    def _last_trade_id(self) -> int:
        fills = self._facts.world.exchange._venue.ledger.fills
        return fills[-1].trade_id if fills else 0

    # --- when all is quiet ------------------------------------------------------------------------------------

    def differences(self) -> list[str]:
        """Return in what the daemon's books differ from the exchange's, each with its rule; empty if in nothing."""
        context = self._facts.context
        if context is None or not context.ledger.is_open:
            return ["no books are open"]
        return [
            *(f"INV-37 {line}" for line in self._facts.world.disagreements()),
            *self._inv_12_position(),
            *self._inv_11_trades(),
        ]

    def _inv_12_position(self) -> list[str]:
        """INV-12: the position equals the exchange's, to the last digit."""
        facts, context = self._facts, self._facts.context
        assert context is not None
        instrument = facts.instrument
        theirs = instrument.rules.quantity(
            facts.world.exchange._venue.account.positions[instrument.symbol].lots
        )
        ours = context.ledger.position_quantity
        return [] if ours == theirs else [f"INV-12 position is {ours}, {theirs} at the exchange"]

    def _inv_11_trades(self) -> list[str]:
        """INV-11, INV-33: trades since the books were opened count once; their profit and fees are the exchange's.

        The change of the wallet is these two and funding, so that equality here is the identity of the equity.
        Books that were opened on a list of trades that was empty or short, which was a lie, do not know where they
        begin: what was traded before may be in them, or not.
        """
        context = self._facts.context
        assert context is not None
        ledger, first = context.ledger, context.ledger.opened_after_id
        if self._facts.nemesis.fired_at_exchange("wipe-account"):
            return []  # ids begin anew there: nothing to count by
        count, profit, fees = 0, Decimal(0), Decimal(0)
        for fill in reversed(self._facts.world.exchange._venue.ledger.fills):
            if fill.trade_id <= first:
                break
            if fill.trade_id <= (self._untold_id or 0) and not ledger.has_counted(
                fill.trade_id, fill.time_ms
            ):
                continue
            count, profit, fees = count + 1, profit + fill.realised, fees + fill.fee
        ours = (ledger.fill_count, ledger.realized_pnl_quote, sum(ledger.fees.values(), Decimal(0)))
        theirs = (count, profit, fees)
        return (
            [] if ours == theirs else [f"INV-11 trades, profit and fees are {ours}, {theirs} at the exchange"]
        )

    # --- at the end -------------------------------------------------------------------------------------------

    def inv_22_files_parse(self) -> None:
        """INV-22: each metrics file has one header, whole rows, no NaN, and no trade twice in one run of the daemon."""
        for path in self._facts.world.metrics_files():
            self._check_metrics(path)

    def _check_metrics(self, path: Path) -> None:
        counted: Counter[str] = Counter()
        numbers: set[str] = set()  # there are far fewer values than rows
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file, strict=True), [])
            if header != list(COLUMNS):
                if header:  # a file that was just made has nothing
                    self._facts.violated("INV-22", f"{path.name} begins with {header}")
                return
            while lines := list(islice(file, _LINES)):  # behind their timestamps most lines are like others
                alike = Counter([line.partition(",")[2] for line in lines])
                if said := _not_well_formed(alike, numbers, counted):
                    self._facts.violated("INV-22", f"{path.name}: {said}")
                    return
        self._check_trades(path, counted)

    def _check_trades(self, path: Path, counted: Counter[str]) -> None:
        twice = [trade for trade, number in counted.items() if number > 1]
        if twice and not self._facts.nemesis.fired_at_exchange("wipe-account") and not self._was_restarted():
            self._facts.violated("INV-22", f"{path.name}: trades {twice[:5]} are counted twice")

    def _was_restarted(self) -> bool:
        return sum(self._facts.operator.exits.values()) + self._facts.nemesis.fired["vanish"] > 0


def _not_well_formed(alike: Counter[str], numbers: set[str], trades: Counter[str]) -> str:
    """Return what is wrong with lines without their timestamps, "" if nothing; count the trades that they tell of.

    ``alike`` is how often there is each line; ``numbers`` are the values that are known to be numbers.
    """
    for row, times in zip(csv.reader(alike, strict=True), alike.values(), strict=True):
        if len(row) != len(_BEHIND_TIME) or row == _BEHIND_TIME:
            return str(row)
        if (value := row[_VALUE]) not in numbers:
            if not _is_number(value):
                return f"{value!r} is no number"
            numbers.add(value)
        if row[_SUB_TYPE] in _FILLS and "trade=" in row[_DETAILS]:
            trades[row[_DETAILS].split("trade=")[1].split()[0]] += times
    return ""


def _is_number(text: str) -> bool:
    try:
        return not text or Decimal(text).is_finite()
    except InvalidOperation:
        return False
