"""What a daemon does with its orders as it happens: states, reasons, and its requests against those of replacing."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from core.context import SymbolContext
from core.events import (
    EngineEvent,
    EngineKind,
    Fact,
    FillEvent,
    OrderEvent,
    OrderModifyEvent,
    OrderModifyFailureEvent,
    OrderModifySuccessEvent,
    OrderResetEvent,
    ResetKind,
    RiskEvent,
)
from core.live_order import LiveOrder

KEPT_LINES = 400
REMEMBERED_STATES = 2000
HEARD = (
    OrderEvent,
    OrderModifyEvent,
    OrderModifyFailureEvent,
    OrderModifySuccessEvent,
    OrderResetEvent,
    FillEvent,
    EngineEvent,
    RiskEvent,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One living order."""

    client_id: str
    side: str
    level: int
    price: str
    quantity: str
    filled: str
    state: str
    age_s: float
    amends: int
    decision: str


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests about orders that were sent, and what the same amendments would have cost by cancelling and placing."""

    place: int
    amend: int
    cancel: int
    query: int
    amendments: int
    orders_a_place: float

    @classmethod
    def of(cls, sent: Counter[tuple[str, str]], orders_placed: int, amendments: int) -> "Requests":
        """Return them from what was counted, by method and path."""
        kinds: Counter[str] = Counter()
        for (method, path), count in sent.items():
            if path.endswith(("/order", "/batchOrders", "/openOrders", "/allOpenOrders")):
                kinds[method] += count
        orders_a_place = max(orders_placed / kinds["POST"], 1.0) if kinds["POST"] else 1.0
        return cls(kinds["POST"], kinds["PUT"], kinds["DELETE"], kinds["GET"], amendments, orders_a_place)

    @property
    def total(self) -> int:
        """Return how many were sent."""
        return self.place + self.amend + self.cancel + self.query

    @property
    def instead_of_amending(self) -> int:
        """Return what the amendments would have been: a cancel for each amend request, and its orders placed anew."""
        return self.amend + round(self.amendments / self.orders_a_place)

    @property
    def by_replacing(self) -> int:
        """Return how many there would have been in all."""
        return self.total - self.amend + self.instead_of_amending

    @property
    def saved_percent(self) -> float:
        """Return how much the amendments have saved of what they would have cost."""
        instead = self.instead_of_amending
        return 100 * (1 - self.amend / instead) if instead else 0.0

    def __str__(self) -> str:
        return (
            f"{self.amendments} amendments took {self.amend}, cancel and replace"
            f" {self.instead_of_amending}: {self.saved_percent:.0f} % saved ({self.total} against"
            f" {self.by_replacing} in all)"
        )


class Desk:
    """Listens to a daemon's events, and follows the state of each order from one to the next."""

    def __init__(self) -> None:
        self.context: SymbolContext | None = None
        self.flow: deque[str] = deque(maxlen=KEPT_LINES)
        self.news: deque[str] = deque(maxlen=KEPT_LINES)
        self.counts: Counter[str] = Counter()
        self._now_ms = 0
        self._states: dict[str, str] = {}

    def watch(self, context: SymbolContext) -> None:
        """Follow the orders of this symbol from now on."""
        self.context = context

    def hear(self, fact: Fact, now_ms: int) -> None:
        """Note what has happened, with the state that the order has now."""
        self._now_ms = now_ms
        match fact:
            case OrderEvent():
                self.counts[fact.kind.value] += 1
                what = f"{fact.kind} {_slot(fact)} {fact.quantity:f} @ {fact.price:f}"
                self._tell(fact.client_id, what, fact.details)
            case OrderModifyEvent() | OrderModifySuccessEvent() | OrderModifyFailureEvent():
                self._hear_amendment(fact)
            case FillEvent(fill=fill):
                self.counts["fills"] += 1
                what = f"fill {fill.side.lower()} {fact.level} {fill.quantity:f} @ {fill.price:f}"
                self._tell(fill.client_id, what, "")
            case OrderResetEvent():
                self.counts[f"reset {fact.kind}"] += 1
                took = f" after {fact.duration_ms:.0f} ms" if fact.kind is not ResetKind.STARTED else ""
                self._line("", f"reset {fact.kind}: {fact.orders} quotes{took}", "")
            case EngineEvent() if fact.kind in (EngineKind.GATE_OPEN, EngineKind.GATE_CLOSED):
                self._line("", f"{fact.kind}", fact.details)
            case RiskEvent():
                self._line("", f"risk {fact.kind}", fact.details)

    def _hear_amendment(
        self, fact: OrderModifyEvent | OrderModifySuccessEvent | OrderModifyFailureEvent
    ) -> None:
        if isinstance(fact, OrderModifyEvent):
            self.counts["amend sent"] += 1
            what = f"amend {_slot(fact)} {fact.old_price:f} -> {fact.new_price:f}"
            self._tell(fact.client_id, what, fact.reason)
        elif isinstance(fact, OrderModifyFailureEvent):
            self.counts["amend failed"] += 1
            self._tell(fact.client_id, f"not amended {_slot(fact)}", fact.reason)
        else:  # that the order has changed is an event of its own
            self.counts["amend done"] += 1
            self._follow(fact.client_id)

    def sweep(self, now_ms: int) -> None:
        """Note the states that orders have entered without an event: just before a request leaves, for example."""
        self._now_ms = now_ms
        for order in self._living():
            self._follow(order.client_id)

    def rows(self, now_ns: int) -> list[Row]:
        """Return the living orders, the highest price first."""
        return [self._row(order, now_ns) for order in sorted(self._living(), key=lambda o: -o.price_ticks)]

    def reset_in_s(self, now_ns: int) -> float | None:
        """Return the time to the next reset, None while none is planned."""
        due_ns = self.context.state.reset_due_ns if self.context is not None else 0
        return max((due_ns - now_ns) / 1e9, 0.0) if due_ns else None

    def _living(self) -> list[LiveOrder]:
        return self.context.orders.living() if self.context is not None else []

    def _row(self, order: LiveOrder, now_ns: int) -> Row:
        assert self.context is not None  # noqa: S101 - for the type checker: it has the order
        rules = self.context.rules
        return Row(
            order.client_id,
            order.side.lower(),
            order.level,
            rules.price_text(order.price_ticks),
            rules.quantity_text(order.lots),
            rules.quantity_text(order.executed_lots),
            str(order.shown_status),
            (now_ns - order.sent_ns) / 1e9,
            order.amends,
            order.decision or "placed",
        )

    def _tell(self, client_id: str, what: str, why: str) -> None:
        moved = self._moved(client_id)
        self._line(client_id, what, "  ".join(each for each in (moved, why) if each))

    def _follow(self, client_id: str) -> None:
        if moved := self._moved(client_id):
            self._line(client_id, moved, "")

    def _moved(self, client_id: str) -> str:
        """Return from which state to which the order has gone since it was looked at last; nothing if it has not."""
        order = self.context.orders.find(client_id) if self.context is not None else None
        if order is None:
            return ""
        before, state = self._states.get(client_id, ""), str(order.shown_status)
        if state == before:
            return ""
        self._states[client_id] = state
        if len(self._states) > REMEMBERED_STATES:
            self._states.pop(next(iter(self._states)))
        return f"{before} -> {state}" if before else state

    def _line(self, client_id: str, what: str, why: str) -> None:
        short = client_id.rpartition("-")[2]
        text = f"{time_text(self._now_ms)}  {short:>4}  {what:<44} {why}".rstrip()
        self.flow.append(text)
        self.news.append(text)


def _slot(fact: OrderEvent | OrderModifyEvent | OrderModifyFailureEvent) -> str:
    return f"{fact.side.lower()} {fact.level}"


def time_text(time_ms: int) -> str:
    """Return the time of day in UTC, with milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def counted(counts: Counter[str], names: dict[str, str]) -> Iterator[str]:
    """Yield what was counted under these names, in words."""
    for name, words in names.items():
        yield f"{words} {counts[name]}"
