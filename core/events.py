"""What has happened: facts, and the bus that carries them to those who watch. Decisions are calls, not events."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from core.model import Fill, Side

log = logging.getLogger(__name__)


class OrderKind(StrEnum):
    """What became of an order."""

    PLACED = "placed"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    AMENDED = "amended"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NEVER_EXISTED = "never_existed"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """Something happened to an order of ours."""

    symbol: str
    kind: OrderKind
    client_id: str
    side: Side
    level: int
    price: Decimal
    quantity: Decimal
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Modification:
    """What the three events of an amendment say; quantities are totals, what is executed included."""

    symbol: str
    client_id: str
    side: Side
    level: int
    old_price: Decimal
    new_price: Decimal
    old_quantity: Decimal
    new_quantity: Decimal
    reason: str = ""
    code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderModifyEvent(_Modification):
    """An amendment of an order of ours was sent; ``reason`` says in a few words why.

    This and the two that may follow tell the story of our request. That the order at the exchange has changed, from
    whichever channel we know it, is an OrderEvent of kind ``amended``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderModifySuccessEvent(_Modification):
    """The exchange has taken the amendment; what rests is the new price and quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderModifyFailureEvent(_Modification):
    """The amendment did not happen, or nobody knows; ``reason`` says why, ``code`` is the exchange's, 0 without one.

    ``in_doubt`` is True where the outcome is unknown: either the old or the new may rest.
    """

    in_doubt: bool = False


class ResetKind(StrEnum):
    """How far a reset of the quotes has come."""

    STARTED = "started"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResetEvent:
    """All quotes of a symbol go out, are verified, and come back; ``orders`` is how many were out or came back."""

    symbol: str
    kind: ResetKind
    reason: str = ""
    orders: int = 0
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class FillEvent:
    """A trade of ours was counted."""

    fill: Fill
    level: int


class RiskKind(StrEnum):
    """What the risk check found or did."""

    LIMITS = "limits"
    BREACH = "breach"
    FLAT = "flat"
    NOT_FLAT = "not_flat"
    POSITION_ADOPTED = "position_adopted"
    QUOTES_TRIMMED = "quotes_trimmed"


@dataclass(frozen=True, slots=True)
class RiskEvent:
    """The risk check has something to say; ``value_quote`` is the notional it is about."""

    symbol: str
    kind: RiskKind
    value_quote: Decimal
    details: str


class ConnectionKind(StrEnum):
    """What became of a connection or of the data it brings."""

    UP = "up"
    DOWN = "down"
    STALE = "stale"
    FRESH = "fresh"
    RECONCILED = "reconciled"
    DEAD_MAN = "dead_man"


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A stream went up or down, data became stale or fresh, the books were compared with the exchange's."""

    name: str
    kind: ConnectionKind
    details: str = ""
    symbol: str = "-"


class EngineKind(StrEnum):
    """What became of the daemon or one of its workers."""

    STARTED = "started"
    GATE_OPEN = "gate_open"
    GATE_CLOSED = "gate_closed"
    WORKER_RESTARTED = "worker_restarted"
    WORKER_GAVE_UP = "worker_gave_up"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """The daemon, or one of its workers, changed state."""

    kind: EngineKind
    details: str = ""
    symbol: str = "-"


Fact = (
    OrderEvent
    | OrderModifyEvent
    | OrderModifySuccessEvent
    | OrderModifyFailureEvent
    | OrderResetEvent
    | FillEvent
    | RiskEvent
    | ConnectionEvent
    | EngineEvent
)


class EventBus:
    """Hands each fact to every subscriber, at once and in the order of subscription.

    A subscriber that fails is logged and counted; it harms neither the publisher nor the others.
    """

    def __init__(self) -> None:
        self.published = 0
        self.failures = 0
        self._subscribers: list[Callable[[Fact], None]] = []

    def subscribe(self, subscriber: Callable[[Fact], None]) -> None:
        """Have a function called with every fact from now on. It must not block."""
        self._subscribers.append(subscriber)

    def publish(self, fact: Fact) -> None:
        """Hand the fact to every subscriber."""
        self.published += 1
        for subscriber in self._subscribers:
            try:
                subscriber(fact)
            except Exception:
                self.failures += 1
                log.exception("a subscriber failed on %s", type(fact).__name__)
