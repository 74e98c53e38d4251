"""What has to come after a storm: the daemon quotes again, or is in a pause whose named cause is true."""

from collections.abc import Callable

from core.posture import Posture
from sim.account_payloads import available
from test.simulation.facts import LEVELS, LIMIT_QUOTE, LYING_READS, OTHER_HANDS, SIZE_QUOTE, Facts
from test.simulation.operating import UNEXPLAINED


class Liveness:
    """Tells whether the daemon quotes as it should, and why not."""

    def __init__(self, facts: Facts, silent_until_s: Callable[[], float]) -> None:
        self._facts = facts
        self._silent_until_s = silent_until_s

    def is_quoting(self) -> bool:
        """Tell whether all quotes rest that the posture and the limit allow, and nothing about them is in doubt."""
        context, world = self._facts.context, self._facts.world
        if context is None or not context.gate.is_open or context.state.strategy_paused:
            return False
        if world.disagreements():
            return False
        number = len(world.ours())
        if number == 2 * LEVELS:
            return True
        return number > 0 and self._is_held_back()

    def lack(self) -> str:
        """Return in a few words what keeps a daemon that says nothing from quoting as it should."""
        world = self._facts.world
        return "; ".join([f"{len(world.ours())} orders rest", *world.disagreements()])

    def _is_held_back(self) -> bool:
        """Tell whether fewer quotes than usual are right: a posture says so, or the limit leaves no room for all."""
        context = self._facts.context
        assert context is not None
        if context.posture >= Posture.ONE_SIDE:
            return True
        held = abs(context.ledger.position_quantity) * context.state.risk_price(context.rules)
        held *= 1 + context.limits.drift_buffer_percent / 100
        return held + LEVELS * SIZE_QUOTE > LIMIT_QUOTE

    def pause(self) -> str:
        """Return the named cause of a pause, empty if there is none: the daemon is idle and does not say why."""
        context = self._facts.context
        if context is None:
            return ""
        if not context.gate.is_open:
            return "; ".join(context.gate.reasons)
        if context.refusal:
            return f"refused: {context.refusal}"
        if context.posture >= Posture.PULL or self._has_nothing_to_reduce():
            return f"{context.posture.label}: {context.posture_reason}"
        return ""

    def _has_nothing_to_reduce(self) -> bool:
        """Tell whether only quotes that reduce are allowed, and less is held than an order."""
        context = self._facts.context
        assert context is not None
        held = abs(context.ledger.position_quantity) * context.state.risk_price(context.rules)
        return context.posture is Posture.ONE_SIDE and held < SIZE_QUOTE

    def is_true(self, cause: str) -> bool:
        """Tell whether the cause of a pause is the case: a market that has moved, or a halt that stands."""
        if self._facts.operator.latch.path.exists() or self._facts.world.state.strategy_paused:
            return "halt" in cause or "risk" in cause
        if UNEXPLAINED in cause:
            return self._facts.struck(300.0, *LYING_READS, "hide-trades")
        if "somebody else trades" in cause:
            return self._facts.struck(300.0, *OTHER_HANDS)
        if cause.startswith(Posture.ONE_SIDE.label):
            return self._has_nothing_to_reduce()
        if "takes no requests" in cause:
            return self._facts.now_s < self._silent_until_s()
        if "-2019" in cause:
            return self._is_margin_short()
        if cause.startswith("refused: "):
            return self._facts.struck(20.0, "restrict", "halt", "symbol-rules", "transfer", "leverage")
        if "price" in cause or "moved" in cause:
            return self._facts.struck(100.0, "move-market", "jump", "flash_crash", "mark-offset")
        return False

    def _is_margin_short(self) -> bool:
        """Tell whether what is left of the wallet is less than one more quote needs: transfers may have taken it."""
        venue = self._facts.world.exchange._venue
        leverage = venue.account.leverages[self._facts.instrument.symbol]
        return available(venue) < SIZE_QUOTE / leverage
