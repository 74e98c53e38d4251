"""What has happened: facts, and the bus that carries them to those who watch. Decisions are calls, not events."""

from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

from msgspec import Struct

from core.event_bus import Bus
from core.market_model import DepthView, MarketTrade
from core.model import BookTop, Fill, Side
from utils.clock import Clock
from utils.word import Word


class OrderKind(Word):
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


class ResetKind(Word):
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


class RiskKind(Word):
    """What the risk check found or did."""

    LIMITS = "limits"
    BREACH = "breach"
    FLAT = "flat"
    NOT_FLAT = "not_flat"
    HELD = "held"
    POSITION_ADOPTED = "position_adopted"
    QUOTES_TRIMMED = "quotes_trimmed"
    POSTURE = "posture"
    DAY = "day"
    LOSS_ACCEPTED = "loss_accepted"
    ACCOUNT = "account"
    RULES = "rules"
    FOREIGN_TRADE = "foreign_trade"
    EQUITY_ADOPTED = "equity_adopted"


@dataclass(frozen=True, slots=True)
class RiskEvent:
    """The risk check has something to say; ``value_quote`` is the notional it is about."""

    symbol: str
    kind: RiskKind
    value_quote: Decimal
    details: str


class ConnectionKind(Word):
    """What became of a connection or of the data it brings."""

    UP = "up"
    DOWN = "down"
    STALE = "stale"
    FRESH = "fresh"
    RECONCILED = "reconciled"
    ROTATED = "rotated"
    DEAD_MAN = "dead_man"


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A stream went up or down, data became stale or fresh, the books were compared with the exchange's."""

    name: str
    kind: ConnectionKind
    details: str = ""
    symbol: str = "-"


class EngineKind(Word):
    """What became of the daemon or one of its workers."""

    STARTED = "started"
    GATE_OPEN = "gate_open"
    GATE_CLOSED = "gate_closed"
    WORKER_RESTARTED = "worker_restarted"
    WORKER_GAVE_UP = "worker_gave_up"
    STOPPING = "stopping"
    STOPPED = "stopped"
    HALT_ASKED = "halt_asked"
    LOOP_LATE = "loop_late"
    LOOP_IN_TIME = "loop_in_time"
    CLOCK_STEPPED = "clock_stepped"
    DISK_TROUBLE = "disk_trouble"
    DISK_WELL = "disk_well"
    MEMORY = "memory"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """The daemon, or one of its workers, changed state."""

    kind: EngineKind
    details: str = ""
    symbol: str = "-"


class BookEvent(Struct, frozen=True, gc=False):
    """Best bid or ask of a symbol has changed. A msgspec struct, for one comes with every change of the book."""

    symbol: str
    book: BookTop


@dataclass(frozen=True, slots=True)
class DepthEvent:
    """The levels of a symbol's book are these now."""

    symbol: str
    depth: DepthView


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """Somebody has traded on the market."""

    symbol: str
    trade: MarketTrade


@dataclass(frozen=True, slots=True)
class SignificantTradeEvent:
    """A trade of the market that is large, or the first one after a while of small ones; ``why`` says which."""

    symbol: str
    trade: MarketTrade
    notional_quote: Decimal
    why: str


@dataclass(frozen=True, slots=True)
class GapEvent:
    """Something is missing in a stream of the market: what was to follow ``last_id`` did not."""

    symbol: str
    stream: str
    last_id: int
    details: str


RecordedFact = (
    OrderEvent
    | OrderModifyEvent
    | OrderModifySuccessEvent
    | OrderModifyFailureEvent
    | OrderResetEvent
    | FillEvent
    | RiskEvent
    | ConnectionEvent
    | EngineEvent
    | GapEvent
)
"""What has a row in the metrics file each time."""
Fact = RecordedFact | BookEvent | DepthEvent | TradeEvent | SignificantTradeEvent

RECORDED: tuple[type[RecordedFact], ...] = get_args(RecordedFact)
MAY_DROP: frozenset[type] = frozenset({BookEvent, DepthEvent, TradeEvent, SignificantTradeEvent})
"""What a subscriber that is too slow may miss: the market goes on, and the next one says it all."""


class EventBus(Bus[Fact]):
    """The bus of a run; what a slow subscriber may miss are facts of the market, not of orders, risk or connections."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock, may_drop=MAY_DROP.__contains__)
