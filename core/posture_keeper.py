"""Has each symbol take the posture that its readings call for, in the same turn, and says so with the numbers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from core.context import SymbolContext
from core.events import EventBus, RiskEvent, RiskKind
from core.model import Side
from core.posture import POSITION, WORST_CASE, Posture, Reading, Staircase, Stance
from core.risk import exposure_of, known_position, position_notional_quote, position_share
from utils.clock import Clock

log = logging.getLogger(__name__)

POSTURE_KEY = "posture"

OwnPosture = Callable[[SymbolContext], Stance]
"""What calls for a posture beside the readings: a position that is being closed, a halt."""


class PostureKeeper:
    """Looks at the readings whenever it is told to, and by itself when the price leaps.

    ``loss`` returns the reading of today's loss, None where there is none.
    """

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        bus: EventBus,
        clock: Clock,
        *,
        own: OwnPosture,
        loss: Callable[[], Reading | None],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._own = own
        self._loss = loss
        self._stairs = {context.symbol: Staircase() for context in contexts}
        for context in contexts:
            context.prices.on_step = partial(self._leap, context)

    def _leap(self, context: SymbolContext) -> None:
        self.look(context)

    def look(self, context: SymbolContext) -> Stance:
        """Have the symbol stand as its readings call for; return what the readings alone call for."""
        now_ns = self._clock.monotonic_ns()
        context.prices.wait(now_ns)
        called = self._stairs[context.symbol].update(self._readings(context), now_ns)
        if called.posture >= Posture.PULL:
            context.gate.close(POSTURE_KEY, called.reason)
        else:
            context.gate.open(POSTURE_KEY)
        own = self._own(context)
        self._take(context, own if own.posture > called.posture else called)
        return called

    def begin_anew(self, context: SymbolContext) -> Stance:
        """Have the symbol stand where its readings are now, whatever they were: an operator has looked."""
        self._stairs[context.symbol] = Staircase()
        return self.look(context)

    def forget(self, context: SymbolContext, name: str) -> None:
        """Have a reading begin anew, because what it was about has ended."""
        self._stairs[context.symbol].forget(name)

    def _readings(self, context: SymbolContext) -> Iterator[Reading]:
        yield context.prices.reading()
        held, price = known_position(context), context.state.risk_price(context.rules)
        share = position_share(held, price, context.limits)
        yield Reading(POSITION, share, lambda: f"the position {held:f} is at {share:.0%} of its limit")
        exposure = exposure_of(context)
        worst = max(exposure.share(Side.BUY), exposure.share(Side.SELL))
        yield Reading(
            WORST_CASE, worst, lambda: f"position and orders together are at {worst:.0%} of the limit"
        )
        loss = self._loss()
        if loss is not None:
            yield loss

    def _take(self, context: SymbolContext, stance: Stance) -> None:
        before, context.posture_reason = context.posture, stance.reason
        if stance.posture is before:
            return
        context.posture = stance.posture
        details = f"{before.label} -> {stance.posture.label}: {stance.reason or 'calm again'}"
        level = logging.WARNING if stance.posture > before else logging.INFO
        log.log(level, "%s: posture %s", context.symbol, details)
        held = context.ledger.position_quantity
        notional = position_notional_quote(held, context.state.risk_price(context.rules))
        self._bus.publish(RiskEvent(context.symbol, RiskKind.POSTURE, notional, details))
        context.on_posture(context)
