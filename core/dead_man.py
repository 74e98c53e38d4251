"""The dead-man switch: the exchange cancels our orders by itself when it has not heard from us for a while.

Source: binance-futures auto-cancel all open orders (countdownCancelAll).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.context import SymbolContext
from core.events import ConnectionEvent, ConnectionKind, EventBus
from core.gateway import Gateway
from core.settings import SafetySettings
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

GATE_KEY = "dead man"
AHEAD_MS = 1000
"""By so much the timestamp of a request may be ahead of the exchange's clock."""


def last_moments_ns(window_s: float, recv_window_ms: int) -> int:
    """Return for how long before the end of its window nothing may leave that could come to rest after it.

    At most a third of the window: signs of life are sent three times in it or more often, so that this is reached only
    when they fail.
    """
    return min((recv_window_ms + AHEAD_MS) * 1_000_000, int(window_s * 1e9) // 3)


class DeadManSwitch:
    """Armed before the first quote of each symbol, and refreshed only while its control loop makes progress.

    ``progress`` returns a number for a symbol that grows only while its control loop works. ``on_lapse`` is called with
    a reason when the exchange has meanwhile cancelled. The countdown of a symbol is one for the whole account: where
    another instance trades on it and nothing of ours can rest, it is left alone, to fire once that one is dead.
    """

    RETRY_S = 1.0
    AFTER_LAPSE_S = 0.01

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        clock: Clock,
        safety: SafetySettings,
        *,
        progress: Callable[[str], int],
        on_lapse: Callable[[str], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._safety = safety
        self._progress = progress
        self._on_lapse = on_lapse
        self._last_moments_ns = last_moments_ns(safety.dead_man_window_s, gateway.rest.recv_window_ms)
        self._fed_at_progress: dict[str, int] = {}
        self._ack_ns: dict[str, int] = {}
        self._failing: dict[str, type[ExchangeError]] = {}
        self._lapses: dict[str, asyncio.TimerHandle] = {}
        """What looks again when the window is over, even while an answer is waited for."""
        self.is_anothers: Callable[[], bool] = lambda: False
        """Tells whether another instance trades on this account; whoever knows puts it here."""
        for context in contexts:
            context.gate.close(GATE_KEY, "dead-man switch is not armed yet")

    async def run(self) -> None:
        """Refresh the exchange's countdown of each symbol while its control loop makes progress, and only then."""
        try:
            while True:
                fed = [await self._feed_one(context) for context in self._contexts]
                await asyncio.sleep(self._safety.dead_man_refresh_s if all(fed) else self.RETRY_S)
        finally:
            for lapse in self._lapses.values():
                lapse.cancel()

    def _is_left_alone(self, context: SymbolContext) -> bool:
        return self.is_anothers() and not context.orders.living()

    async def _feed_one(self, context: SymbolContext) -> bool:
        if self._is_left_alone(context):
            context.gate.close(GATE_KEY, "dead-man switch is left to the other instance")
            return True
        progress = self._progress(context.symbol)
        fed = progress != self._fed_at_progress.get(context.symbol) and await self._arm(context)
        if fed:  # which may have had to wait: what was done until it left is not to feed once more
            self._fed_at_progress[context.symbol] = self._progress(context.symbol)
        self._judge(context)
        return fed

    async def _arm(self, context: SymbolContext) -> bool:
        sent_ns = self._clock.monotonic_ns()
        try:
            await self._gateway.arm_dead_man(context.symbol, int(self._safety.dead_man_window_s * 1000))
        except ExchangeError as error:
            if type(error) is not self._failing.get(
                context.symbol
            ):  # once for as long as it is of the same kind
                self._failing[context.symbol] = type(error)
                log.warning("%s: the dead-man switch could not be refreshed: %s", context.symbol, error)
            return False
        self._failing.pop(context.symbol, None)
        # by now, and not by when it was sent: when it reached the exchange, nobody knows
        if self._has_lapsed(context, self._clock.monotonic_ns()):
            self._on_lapse("the dead-man switch had lapsed")
        self._ack_ns[context.symbol] = context.state.dead_man_ack_ns = sent_ns
        context.state.dead_man_until_ns = sent_ns + int(self._safety.dead_man_window_s * 1e9)
        context.state.dead_man_sends_until_ns = context.state.dead_man_until_ns - self._last_moments_ns
        self._judge_at_lapse(context)
        if context.gate.open(GATE_KEY):
            self._tell(context, "armed")
        return True

    def _judge_at_lapse(self, context: SymbolContext) -> None:
        if (before := self._lapses.get(context.symbol)) is not None:
            before.cancel()
        left_s = (context.state.dead_man_until_ns - self._clock.monotonic_ns()) / 1e9
        self._lapses[context.symbol] = asyncio.get_running_loop().call_later(
            left_s + self.AFTER_LAPSE_S, self._judge, context
        )

    def _has_lapsed(self, context: SymbolContext, now_ns: int) -> bool:
        ack_ns = self._ack_ns.get(context.symbol)
        return ack_ns is not None and now_ns - ack_ns > self._safety.dead_man_window_s * 1e9

    def ack_age_s(self, symbol: str) -> float | None:
        """Return how long ago the exchange took the last sign of life that it has acknowledged; None for never."""
        ack_ns = self._ack_ns.get(symbol)
        return None if ack_ns is None else (self._clock.monotonic_ns() - ack_ns) / 1e9

    def _judge(self, context: SymbolContext) -> None:
        if self._is_left_alone(context) or not self._has_lapsed(context, self._clock.monotonic_ns()):
            return
        if context.gate.close(GATE_KEY, "dead-man switch has lapsed"):
            log.error(
                "%s: the dead-man switch has lapsed: the exchange has cancelled our orders", context.symbol
            )
            self._tell(context, "lapsed")

    def _tell(self, context: SymbolContext, what: str) -> None:
        self._bus.publish(ConnectionEvent("dead-man switch", ConnectionKind.DEAD_MAN, what, context.symbol))

    async def disarm(self) -> None:
        """Stop the exchange's countdown; only after it was verified that no order of ours rests."""
        for context in self._contexts:
            if self._is_left_alone(context):
                log.info("%s: the dead-man switch stays armed for the other instance", context.symbol)
                continue
            await self._gateway.arm_dead_man(context.symbol, 0)
            context.state.dead_man_until_ns = 0
