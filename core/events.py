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


Fact = OrderEvent | FillEvent | RiskEvent | ConnectionEvent | EngineEvent


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
