"""How a position is closed without ever turning it: what is known at one moment, and the next step. Pure.

The rules that every step keeps:

1. Only reduce-only orders, in at most the size that the exchange reports at that moment, rounded down to its step.
2. One closing order at a time: while the outcome of one is unknown it is asked about, and nothing is sent.
3. No reading is not "flat": a position that could not be read is read again.
4. The price is bounded, and the bound widens from order to order, up to ``Terms.max_slippage_bps``; at the deadline a
   market order is the last resort. Why: docs/risk.md.
5. A request that was refused for good is not repeated as it was more than three times, and then every 10 s, for nothing
   tells that its cause is gone, and what is over its limit does not wait for long; after three refusals of whatever
   kind there are growing pauses.

Source: binance-futures new order (reduceOnly), filters (PERCENT_PRICE, MIN_NOTIONAL), error codes.
"""

from dataclasses import dataclass
from decimal import Decimal

from core.model import Side, SymbolRules

REDUCE_ONLY_REJECTED = -2022
"""There is nothing to reduce, or the order would enlarge: the position is not what it was."""
REDUCE_ONLY_COVERED = -4118
"""Other orders of the same side would turn the position together with this one."""
MARKET_OUT_OF_BAND = -4131
LIMIT_OUT_OF_BAND = frozenset({-4016, -4024})
BELOW_MIN_NOTIONAL = -4164
OTHER_STEP = frozenset({-1111, -4003, -4004, -4005, -4014, -4023, BELOW_MIN_NOTIONAL})
"""The rules of the symbol are not those that we know: a step, a smallest or largest size, a smallest notional."""

LADDER = 4
"""After so many orders the price has the whole slippage."""
SAME_AGAIN = 3
SAME_AGAIN_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.4, 5.0
"""How long the close holds its breath after the third refusal in a row; twice as long after each further one."""
BAND_MARGIN = Decimal("0.001")
"""How far inside of the price band a price is kept, as a fraction: the mark price moves meanwhile."""
_BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class Terms:
    """How much a close may cost before its deadline, which counts from its beginning."""

    max_slippage_bps: Decimal
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is known at one moment. ``quantity`` and ``resting`` are None where the exchange gave no answer to believe.

    ``resting`` counts orders of ours that are open; where nobody knows, the close goes on, because cancels were sent
    before it and a position over its limit does not wait for a list. ``in_flight`` says that a closing order has no
    known outcome, and ``touch`` is best bid and ask in ticks.
    """

    quantity: Decimal | None
    resting: int | None
    in_flight: bool
    touch: tuple[int, int] | None
    mark_price: Decimal
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """Send one reduce-only order: immediate-or-cancel at this price, or at market with ``price_ticks`` None."""

    side: Side
    lots: int
    price_ticks: int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask what became of the closing order that has no known outcome."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Cancel what rests of ours; only then is there room to close."""


@dataclass(frozen=True, slots=True)
class Relearn:
    """Read the rules of the symbol again: they are not those that we know."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again a little later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """There is nothing left that could be closed; ``dust`` says what is left all the same, mostly nothing."""

    dust: str = ""


Step = Close | Ask | Clear | Relearn | Wait | Done


@dataclass(slots=True)
class Efforts:
    """What has been tried since the close began."""

    orders: int = 0
    clears: int = 0
    """Times in a row that what rests was cancelled, without a closing order in between."""
    refusal: int = 0
    """Code with which the last closing order was refused; 0 if it was not."""
    has_relearned: bool = False
    """The rules have been read again since the last refusal that was about them."""
    _last: tuple[object, ...] = ()
    _same: int = 0
    _refused_s: float = 0.0
    _in_a_row: int = 0
    """Refusals since the last order that was taken."""

    def sent(self, close: Close, scene: Scene) -> None:
        """Note a closing order that is about to be sent."""
        request = _request(close, scene)
        self._same = self._same if request == self._last else 0
        self._last = request
        self.orders += 1
        self.clears = self.refusal = 0

    def refused(self, code: int, elapsed_s: float) -> None:
        """Note that it was refused for good, with the code."""
        if code in OTHER_STEP:
            self.has_relearned = False
        self.refusal = code
        self._same += 1
        self._in_a_row += 1
        self._refused_s = elapsed_s

    def taken(self) -> None:
        """Note that it was not refused."""
        self._same = self._in_a_row = 0

    def may_repeat(self, close: Close, scene: Scene) -> bool:
        """Tell whether this order may be sent, as far as the same was refused before."""
        since_s = scene.elapsed_s - self._refused_s
        if self._same >= SAME_AGAIN and _request(close, scene) == self._last:
            return since_s >= SAME_AGAIN_S
        more = self._in_a_row - SAME_AGAIN
        return more < 0 or since_s >= min(FIRST_PAUSE_S * 2.0 ** min(more, 10), LONGEST_PAUSE_S)


def _request(close: Close, scene: Scene) -> tuple[object, ...]:
    """Return all that the answer to an order depends on, as far as it is known here."""
    return close, scene.quantity, scene.resting, scene.touch


def next_step(scene: Scene, efforts: Efforts, rules: SymbolRules, terms: Terms) -> Step:
    """Return what is to be done now."""
    if scene.quantity is None:
        return Wait("the position cannot be read")
    lots = rules.floor_lots(abs(scene.quantity))
    if lots < max(rules.min_lots, 1):
        return Done(dust(scene.quantity, rules, "less than the smallest order"))
    if scene.in_flight:
        return Ask()
    if efforts.refusal in OTHER_STEP and not efforts.has_relearned:
        return Relearn()
    worth_quote = abs(scene.quantity) * scene.mark_price
    if efforts.refusal == BELOW_MIN_NOTIONAL and worth_quote < rules.min_notional_quote:
        return Done(dust(scene.quantity, rules, "worth less than the exchange takes orders for"))
    if scene.resting and efforts.clears < SAME_AGAIN:
        return Clear()
    side = Side.SELL if scene.quantity > 0 else Side.BUY
    return _close(side, lots, scene, efforts, rules, terms)


def _close(
    side: Side, lots: int, scene: Scene, efforts: Efforts, rules: SymbolRules, terms: Terms
) -> Close | Wait:
    is_overdue = scene.elapsed_s >= terms.deadline_s
    price_ticks = None
    if not is_overdue or efforts.refusal == MARKET_OUT_OF_BAND:
        bps = Decimal(0) if efforts.refusal in LIMIT_OUT_OF_BAND else slippage_bps(efforts.orders, terms)
        price_ticks = limit_ticks(side, scene, bps, rules)
        if price_ticks is None and not is_overdue:
            return Wait("nobody trades inside of the price band")
    most = rules.market_max_lots if price_ticks is None else rules.max_lots
    close = Close(side, min(lots, most), price_ticks)
    if not efforts.may_repeat(close, scene):
        return Wait(f"the exchange refuses the closing order (code {efforts.refusal})")
    return close


def slippage_bps(orders: int, terms: Terms) -> Decimal:
    """Return how much worse than the touch the price may be after so many orders."""
    return terms.max_slippage_bps * min(orders + 1, LADDER) / LADDER


def limit_ticks(side: Side, scene: Scene, slippage: Decimal, rules: SymbolRules) -> int | None:
    """Return the price that is worse than the touch by so many bps; None if inside of the price band nobody trades.

    Without a touch it counts from the mark price. It is on a tick, and never worse than that.
    """
    mark, share = scene.mark_price, slippage / _BPS
    if side is Side.SELL:
        best = rules.price(scene.touch[0]) if scene.touch else mark
        ticks = rules.ceil_ticks(best * (1 - share))
        if mark > 0:
            ticks = max(ticks, rules.ceil_ticks(mark * rules.multiplier_down * (1 + BAND_MARGIN)))
        return ticks if 0 < rules.price(ticks) <= best else None
    best = rules.price(scene.touch[1]) if scene.touch else mark
    ticks = rules.floor_ticks(best * (1 + share))
    if mark > 0:
        ticks = min(ticks, rules.floor_ticks(mark * rules.multiplier_up * (1 - BAND_MARGIN)))
    return ticks if 0 < best <= rules.price(ticks) else None


def dust(quantity: Decimal, rules: SymbolRules, why: str) -> str:
    """Return in words what stays, and why; nothing for nothing."""
    if quantity == 0:
        return ""
    return f"DUST: {quantity:f} {rules.base_asset} stay: {why}"
