"""What belongs to one symbol, in one place, handed to the workers that keep it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from core.change_lock import ChangeLock
from core.daily_loss import DayResult
from core.gate import Gate
from core.ledger import Ledger
from core.model import SymbolRules
from core.order import LiveOrders
from core.posture import WIDEN_FACTOR, Posture
from core.price_watch import PriceWatch
from core.settings import QuoteSettings, RiskSettings
from core.state import SymbolState


def _nobody(_context: "SymbolContext", _mid_half_ticks: int) -> None:
    """Nobody wants to know of a new book."""


def _no_one(_context: "SymbolContext") -> None:
    """Nobody wants to know of another posture, or of a proof."""


@dataclass(slots=True)
class SymbolContext:
    """One symbol's rules, settings, state, orders and books.

    ``lock`` is held while orders are being changed or counted, so that a refresh, a withdrawal, a flatten and a
    reconciliation never overlap. ``gate`` is asked before each quote, and ``limits`` are kept by each. ``on_book`` is
    called with each new mid of a book that proves to be the present one; it has to be quick.

    ``stream_is_proven`` says that the present connection of the account stream has told of an order of ours; until then
    quotes go out one at a time. ``on_proven`` is called once that has happened.

    ``posture`` is how far risk holds the quotes back; ``on_posture`` is called when it has changed. ``day`` is what the
    symbol has made since 00:00 UTC, None while that is not known or not asked for.
    """

    settings: QuoteSettings
    rules: SymbolRules
    state: SymbolState
    gate: Gate
    limits: RiskSettings
    orders: LiveOrders = field(default_factory=LiveOrders)
    ledger: Ledger = field(default_factory=Ledger)
    lock: ChangeLock = field(default_factory=ChangeLock)
    on_book: "Callable[[SymbolContext, int], None]" = _nobody
    posture: Posture = Posture.NORMAL
    posture_reason: str = ""
    on_posture: "Callable[[SymbolContext], None]" = _no_one
    stream_is_proven: bool = False
    on_proven: "Callable[[SymbolContext], None]" = _no_one
    prices: PriceWatch = field(init=False)
    day: DayResult | None = None
    widened: QuoteSettings = field(init=False)
    """The settings with the offset that a posture of WIDEN has."""
    refusal: str = ""
    """Why the exchange has refused quotes again and again, as long as they are held back for it."""
    no_room: str = ""
    """That, and for how long, the request limits leave no room for new quotes, or for what these have to wait for."""

    symbol: str = field(init=False)
    size_units: int = field(init=False)
    """What one quote may be worth, in ticks times lots."""

    def __post_init__(self) -> None:
        self.symbol = self.rules.symbol
        self.size_units = self.rules.units(self.settings.size_quote)
        self.widened = replace(self.settings, offset_percent=self.settings.offset_percent * WIDEN_FACTOR)
        self.prices = PriceWatch(self.limits.max_price_change, self.limits.price_change_window_s)

    @property
    def quoting(self) -> QuoteSettings:
        """Return the settings of the quotes as the posture has them: farther from the mid while it is to widen."""
        return self.settings if self.posture < Posture.WIDEN else self.widened

    @property
    def told_position(self) -> Decimal | None:
        """Return the position to tell people of: by our books, and by the exchange until those are opened.

        None while neither knows it.
        """
        if self.ledger.is_open:
            return self.ledger.position_quantity
        read = self.state.exchange_position
        return read.quantity if read is not None else None

    def prove_stream(self) -> None:
        """Note that the account stream has told of an order of ours."""
        if not self.stream_is_proven:
            self.stream_is_proven = True
            self.on_proven(self)
