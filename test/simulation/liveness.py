"""What has to come after a storm: the daemon quotes again, or is in a pause whose named cause is true."""

from collections.abc import Sequence

from core.day_keeper import DAY_IS_LATE
from core.gate import STOPPING
from core.posture import Posture
from sim.account_payloads import available
from test.simulation.facts import LEVELS, LIMIT_QUOTE, LYING_READS, OTHER_HANDS, SIZE_QUOTE, Facts
from test.simulation.operating import UNEXPLAINED

SHARES = {"start": 0.55, "question": 0.93, "order": 0.73}
"""Up to which share of a limit what quotes need may go, less a few requests; the rest is kept for cancels."""
_MOVES = ("move-market", "jump", "flash_crash", "mark-offset")
_STILL = ("halt", "quiet-market", "fall-behind")
BY_FAULTS: Sequence[tuple[str, float, Sequence[str]]] = (
    (UNEXPLAINED, 300.0, (*LYING_READS, "hide-trades")),
    ("somebody else trades", 22.0, OTHER_HANDS),
    ("refused: ", 1.0, ("restrict", "halt", "symbol-rules", "transfer", "leverage")),
    ("price", 100.0, (*_MOVES, *_STILL)),
    ("moved", 100.0, (*_MOVES, *_STILL)),
)
"""Causes by a text in them, with the faults that make them true, and for how many seconds after these they may stand.

Nobody asks for a look at the account sooner than an operator comes; others are waited for until they have not traded
for 20 s; a refusal is over with what it was for; a move counts for as long as it is in the window, and a market that
stood still, or was told of late, shows only afterwards how far it has moved meanwhile.
"""


_DAY_MS = 86_400_000
_LATE_DAY_MS = 480_000
"""A day that began in a storm may be known a minute after the end of that, which is the round's at the latest."""


class Liveness:
    """Tells whether the daemon quotes as it should, and why not."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

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

    def causes(self) -> tuple[str, ...]:
        """Return the named causes of a pause, none if the daemon is idle and does not say why."""
        context, world = self._facts.context, self._facts.world
        if context is None or STOPPING in context.gate.reasons:  # a run that ends may begin anew
            is_starting = world.waits and (context is not None or world.engine is None)
            return (f"the start waits: {world.waits[-1]}",) if is_starting and world.waits[-1] else ()
        named = list(context.gate.reasons) if not context.gate.is_open else []
        if context.refusal:
            named.append(f"refused: {context.refusal}")
        if context.no_room:
            named.append(context.no_room)
        if context.posture >= Posture.PULL or self._has_nothing_to_reduce():
            named.append(f"{context.posture.label}: {context.posture_reason}")
        return tuple(named)

    def true_cause(self) -> str:
        """Return the first named cause of a pause that is the case, empty if there is none."""
        return next((cause for cause in self.causes() if self._is_true(cause)), "")

    def may_not_ask(self) -> bool:
        """Tell whether the exchange answers no question: it said so, or another program has used up the minute."""
        facts = self._facts
        least = (1 - SHARES["question"]) * facts.world.exchange._venue.limits.sizes.weight_per_minute
        is_used_up = facts.struck(61.0, "used-weight") and facts.weight_left <= least
        return facts.now_s < facts.silent_until_s or is_used_up

    def _has_nothing_to_reduce(self) -> bool:
        """Tell whether only quotes that reduce are allowed, and less is held than an order."""
        context = self._facts.context
        assert context is not None
        held = abs(context.ledger.position_quantity) * context.state.risk_price(context.rules)
        return context.posture is Posture.ONE_SIDE and held < SIZE_QUOTE

    def _is_true(self, cause: str) -> bool:
        """Tell whether the cause of a pause is the case: a market that has moved, or a halt that stands."""
        if self._facts.operator.latch.path.exists() or self._facts.world.state.strategy_paused:
            return "halt" in cause or "risk" in cause
        if cause.startswith(Posture.ONE_SIDE.label):
            return self._has_nothing_to_reduce()
        if "request limits" in cause:
            return self._is_used_up(is_start=cause.startswith("the start"))
        if "takes no requests" in cause:
            return self._facts.now_s < self._facts.silent_until_s
        if "-2019" in cause:
            return self._is_margin_short()
        if DAY_IS_LATE in cause:
            return self._facts.world.clock.time_ms() % _DAY_MS < _LATE_DAY_MS
        if "are known" in cause:
            return self._facts.nemesis.fired_at_exchange("wipe-account") > 0
        return any(
            text in cause and self._facts.struck(within_s, *kinds) for text, within_s, kinds in BY_FAULTS
        )

    def _is_used_up(self, *, is_start: bool) -> bool:
        """Tell whether another program has, in this window, used what quoting would need of a limit at the exchange."""
        if not self._facts.struck(61.0, "used-weight", "used-orders"):
            return False
        limits, now_ms = self._facts.world.exchange._venue.limits, self._facts.world.clock.time_ms()
        sizes = limits.sizes
        pools = (
            (limits.weight, sizes.weight_per_minute, SHARES["start" if is_start else "question"]),
            (limits.orders_10s, sizes.orders_per_ten_seconds, SHARES["order"]),
            (limits.orders_1m, sizes.orders_per_minute, SHARES["order"]),
        )
        return any(window.add(0, now_ms) >= limit * share for window, limit, share in pools)

    def _is_margin_short(self) -> bool:
        """Tell whether what is left of the wallet is less than one more quote needs: transfers may have taken it."""
        venue = self._facts.world.exchange._venue
        leverage = venue.account.leverages[self._facts.instrument.symbol]
        return available(venue) < SIZE_QUOTE / leverage
