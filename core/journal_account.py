"""What the journal says of every order: its lines folded as they are read, so that only the orders are held."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from sys import intern
from typing import Self

from core.journal import STARTED, STOPPED, JournalLine
from core.model import OrderStatus
from core.order_life import Open, State

_NONE = Decimal(0)


@lru_cache(maxsize=256)
def state_of(text: str) -> State:
    """Return the state that a line names; one that this version does not know is in doubt."""
    rest, _, what_is_open = text.partition(" + ")
    try:
        return State(OrderStatus(rest), Open(what_is_open or Open.NOTHING))
    except ValueError:
        return State(OrderStatus.IN_DOUBT, Open.NOTHING)


@dataclass(slots=True)
class Recorded:
    """What the journal says of one order: where it stands by its last line, and what all of them say of its end.

    There may be a million of them, so that they share their texts.
    """

    first_ms: int
    last_ms: int
    symbol: str
    side: str
    level: int
    quantity: str
    state: State
    ends: tuple[OrderStatus, ...] = ()
    """Every final state that the exchange has reported, each once."""
    executed: Decimal = _NONE

    @classmethod
    def by(cls, line: JournalLine) -> Self:
        """Return an order by its first line."""
        quantity, state = intern(line.quantity), state_of(line.state)
        first = cls(line.time, line.time, intern(line.symbol), intern(line.side), line.level, quantity, state)
        first.add(line)
        return first

    def add(self, line: JournalLine) -> None:
        """Take in its next line."""
        self.last_ms, self.level, self.state = line.time, line.level, state_of(line.state)
        self.quantity = intern(line.quantity)
        if line.executed != "0":
            self.executed = max(self.executed, Decimal(line.executed))
        rest, is_open = self.state
        if rest.is_terminal and is_open is not Open.PROOF and rest not in self.ends:
            self.ends += (rest,)


class JournalAccount:
    """The journal of one account, taken in line after line. A busy one has millions, and the machine trades."""

    def __init__(self) -> None:
        self.orders: dict[str, Recorded] = {}
        """By client id."""
        self.symbols: set[str] = set()
        self.first_ms: int | None = None
        """When the first line was written; None if there is none."""
        self.oldest_ms: int | None = None
        """The least time of all lines: where the clock was set back, one before that of the first."""
        self.unreadable = 0
        self._breaks: list[tuple[int, int | None]] = []
        self._last_ms = 0
        self._last_state = STOPPED

    @classmethod
    def of(cls, lines: Iterable[JournalLine | None]) -> Self:
        """Return what these lines say; None is one that could not be read."""
        account = cls()
        for line in lines:
            if line is None:
                account.unreadable += 1
            else:
                account.add(line)
        return account

    def add(self, line: JournalLine) -> None:
        """Take in the next line."""
        if self.first_ms is None or self.oldest_ms is None:
            self.first_ms = self.oldest_ms = line.time
        elif line.time < self.oldest_ms:
            self.oldest_ms = line.time
        if line.id:
            self._add_order(line)
        elif line.state == STARTED and self._last_state != STOPPED:
            self._breaks.append((self._last_ms, line.time))
        self._last_ms, self._last_state = line.time, line.state

    def _add_order(self, line: JournalLine) -> None:
        known = self.orders.get(line.id)
        if known is None:
            self.orders[line.id] = Recorded.by(line)
        else:
            known.add(line)
        self.symbols.add(line.symbol)

    @property
    def breaks(self) -> list[tuple[int, int | None]]:
        """Return when it broke off: from the last line before to the next start, None if there was none."""
        is_broken_off = self._last_state != STOPPED
        return [*self._breaks, (self._last_ms, None)] if is_broken_off else list(self._breaks)
