"""What the workers know together: one `SymbolState` for each symbol, and the names the first one lends them.

Workers receive a `SharedState`; only `main.py` fetches the one at the end of this file by name. It is
changed in place and never replaced, because others hold it. Nothing here reads a clock, a file or a socket.
"""

import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, overload

if TYPE_CHECKING:  # run as a script, this file finds no package `core`
    from core.analysis import MarketAnalysis
    from core.model import BookTop, Position, SymbolRules

T = TypeVar("T")


@dataclass(slots=True)
class SymbolState:
    """What is known about one symbol; changed in place by the workers.

    Times are epoch seconds, 0.0 means never. `position` is in base units, below zero when short.
    """

    symbol: str = ""
    mark_price: Decimal = Decimal(0)
    position: Decimal = Decimal(0)
    last_order_time: float = 0.0
    last_risk_check: float = 0.0
    strategy_paused: bool = False

    book: "BookTop | None" = None
    """Best bid and ask, None before the first."""
    book_proven_ns: int = 0
    """Monotonic time at which the book was last known to be the exchange's present one."""
    mark_received_ns: int = 0
    """Monotonic time at which the stream of the mark price last brought one, or began."""
    mark_proven_ns: int = 0
    """Monotonic time at which the mark price was last known to be the exchange's present one."""
    stream_delay_ms: float = 0.0
    """From the exchange's event time to our receiving it, on the exchange's clock as we know it."""
    analysis: "MarketAnalysis | None" = None
    """Volatility, flow, levels: what is known of the market besides best bid and ask."""
    exchange_position: "Position | None" = None
    """The position as the exchange last reported it over REST."""
    quoted_mid_half_ticks: int = 0
    """The mid on which the last refresh was decided."""
    refreshes: int = 0
    last_change: str = ""
    """What the last refresh that amended anything amended, and why."""
    reset_due_ns: int = 0
    """Monotonic time of the next timed reset of the quotes, 0 while none is planned."""
    dead_man_ack_ns: int = 0
    """Monotonic time of the sending that the exchange acknowledged last as a sign of life, 0 before the first."""
    dead_man_until_ns: int = 0
    """Monotonic time up to which the exchange's countdown runs at least, 0 while it does not run."""
    dead_man_sends_until_ns: int = 2**63 - 1
    """Monotonic time up to which a new quote may leave: a later one might come to rest after the countdown."""
    tick_to_order_ms: float = 0.0
    """Age of the book at the moment the last quote that was decided on it was sent."""

    def begin_anew(self) -> None:
        """Forget what was counted in ticks and lots of rules that are no more, and what a price was while they held."""
        self.mark_price = Decimal(0)
        self.book, self.book_proven_ns, self.analysis = None, 0, None
        self.quoted_mid_half_ticks = self.reset_due_ns = 0

    def mid(self, rules: "SymbolRules") -> Decimal:
        """Return the mid price, 0 before the first book."""
        return rules.tick_size * self.book.mid_half_ticks / 2 if self.book is not None else Decimal(0)

    def risk_price(self, rules: "SymbolRules") -> Decimal:
        """Return the price at which positions are valued for limits: the higher of mark price and mid."""
        return max(self.mark_price, self.mid(rules))


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The values of one symbol at one moment."""

    symbol: str
    mark_price: Decimal
    position: Decimal
    last_order_time: float
    last_risk_check: float
    strategy_paused: bool


def _decimal(name: str, value: object) -> Decimal:
    """Return `value` as a Decimal that equals it; a float keeps its exact binary value."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float):
        raise TypeError(f"{name} must be a Decimal, not {type(value).__name__}")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{name} must be a finite number, not {value}")
    return number


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be epoch seconds as a float, not {type(value).__name__}")
    if (
        not abs(value) <= sys.float_info.max
    ):  # also true for NaN, and for a whole number too large for a float
        raise ValueError(f"{name} must be a finite number of epoch seconds")
    return float(value)


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


class _OfPrimary(Generic[T]):
    """An attribute of SharedState that reads and assigns the primary symbol's attribute of the same name."""

    def __init__(self, accept: Callable[[str, object], T]) -> None:
        self.accept = accept

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, state: None, owner: type) -> Self: ...
    @overload
    def __get__(self, state: "SharedState", owner: type) -> T: ...
    def __get__(self, state: "SharedState | None", owner: type) -> Self | T:
        if state is None:
            return self
        value: T = getattr(state.primary, self.name)
        return value

    def __set__(self, state: "SharedState", value: T) -> None:
        state.safe_update(**{self.name: value})


class Applied(Coroutine[Any, Any, None]):
    """The result of something that is already done: it may be awaited, or run, and need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()

    def send(self, _value: object) -> NoReturn:
        """Finish at once, as a coroutine without an await does."""
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, _tb: Any = None) -> NoReturn:
        """Raise what is thrown in: there is nobody in here to catch it."""
        raise typ if val is None else val

    def close(self) -> None:
        """Nothing is open."""


_APPLIED = Applied()


class SharedState:
    """The state of every symbol that is traded.

    `mark_price`, `position`, `last_order_time`, `last_risk_check` and `strategy_paused` read and assign
    those of the primary symbol: the first one added. Before that they belong to no symbol, and go to the
    first one that is added.
    """

    __slots__ = ("_lock", "primary", "symbols")

    mark_price = _OfPrimary(_decimal)
    position = _OfPrimary(_decimal)
    last_order_time = _OfPrimary(_seconds)
    last_risk_check = _OfPrimary(_seconds)
    strategy_paused = _OfPrimary(_switch)

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.symbols: dict[str, SymbolState] = {}
        self.primary = SymbolState()

    def add(self, symbol: str) -> SymbolState:
        """`symbol` has a state, which is returned; adding it again changes nothing."""
        with self._lock:
            if symbol not in self.symbols:
                state = SymbolState(symbol) if self.symbols else self.primary
                state.symbol = symbol
                self.symbols[symbol] = state
            return self.symbols[symbol]

    def of(self, symbol: str) -> SymbolState:
        """Return the state of `symbol`; KeyError when it was never added."""
        with self._lock:
            if symbol not in self.symbols:
                raise KeyError(
                    f"{symbol} is not a symbol of this state; known: {', '.join(self.symbols) or 'none'}"
                )
            return self.symbols[symbol]

    def safe_update(self, **values: object) -> Applied:
        """All of `values` are applied to the primary symbol in one step, or none of them is.

        It is done on return; the result may be awaited as well.

        Raises:
            AttributeError: a name is unknown.
            TypeError, ValueError: a value is of the wrong type, or not a finite number.
        """
        accepted = {name: _flat_name(name).accept(name, value) for name, value in values.items()}
        with self._lock:
            for name, value in accepted.items():
                setattr(self.primary, name, value)
        return _APPLIED

    def snapshot(self, symbol: str | None = None) -> StateSnapshot:
        """Return the values of `symbol` (None: the primary one) as they are together at this moment."""
        with self._lock:
            state = self.primary if symbol is None else self.of(symbol)
            return StateSnapshot(**{item.name: getattr(state, item.name) for item in fields(StateSnapshot)})

    def reset(self) -> None:
        """The state is as new: no symbols, and every name has its initial value."""
        with self._lock:
            self.symbols.clear()
            self.primary = SymbolState()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SharedState):
            return NotImplemented
        return (self.symbols, self.primary) == (other.symbols, other.primary)

    __hash__ = None  # type: ignore[assignment]  # it changes in place

    def __repr__(self) -> str:
        values = self.snapshot()
        return (
            f"<SharedState symbol={values.symbol or 'none'} "
            f"mark_price={values.mark_price} position={values.position} "
            f"last_order_time={values.last_order_time} last_risk_check={values.last_risk_check} "
            f"strategy_paused={values.strategy_paused}>"
        )


_FLAT_NAMES: dict[str, _OfPrimary[Any]] = {
    name: attribute for name, attribute in vars(SharedState).items() if isinstance(attribute, _OfPrimary)
}


def _flat_name(name: str) -> _OfPrimary[Any]:
    if name not in _FLAT_NAMES:
        raise AttributeError(f"the shared state has no {name}; it has {', '.join(_FLAT_NAMES)}")
    return _FLAT_NAMES[name]


def _demonstrate() -> None:
    """Print a state as it is at first, after assignments, and after one update under the lock."""
    state = SharedState()
    print(f"initial state: {state}")
    state.mark_price, state.position = Decimal("65000.5"), Decimal("0.003")
    print(f"updated state: {state}")
    state.safe_update(
        mark_price=Decimal("64990.1"), position=Decimal(0), last_risk_check=1.0, strategy_paused=True
    )
    print(f"after safe_update: {state}")


if __name__ == "__main__":
    _demonstrate()

shared_state = SharedState()
