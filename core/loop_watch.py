"""The worker that watches from outside: is the loop in time, was a clock stepped, does somebody want a halt?

What it finds late, the gate's last word has said before (``objection``): that is asked in the turn of each send.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.context import SymbolContext
from core.events import EngineEvent, EngineKind, EventBus
from core.gate import Gate
from core.kill_switch import KillSwitch
from core.loop_lag import Lag, LoopLag
from utils.clock import Clock, ServerClock
from utils.http import BinanceRest

log = logging.getLogger(__name__)

LAG_KEY = "loop lag"


class LoopWatch:
    """Looks at the loop, the clocks and the kill switch four times a second.

    ``gate`` is the account's gate. ``hold`` halts a symbol for a reason and keeps its position, ``is_held`` tells
    whether that still stands. ``on_jump`` is called with a reason after the process stood still, so long that nothing
    it knew is true any more. ``on_turn`` is called at each turn.
    """

    name = "loop watch"
    TURN_S = 0.25

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gate: Gate,
        rest: BinanceRest,
        bus: EventBus,
        clock: Clock,
        switch: KillSwitch,
        max_lag_ms: int,
        *,
        hold: Callable[[str, str], None],
        is_held: Callable[[str], bool],
        on_jump: Callable[[str], None],
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        self.lag = LoopLag(int(self.TURN_S * 1e9), max_lag_ms * 1_000_000)
        self._contexts = contexts
        self._gate = gate
        self._rest = rest
        self._bus = bus
        self._clock = clock
        self._switch = switch
        self._hold = hold
        self._is_held = is_held
        self._on_jump = on_jump
        self._on_turn = on_turn
        self._is_late = False
        self._is_halted = False
        self._heeded = 0
        """How many throws of the switch were followed."""
        self._ahead_ms = self._wall_ahead_ms()

    def objection(self) -> str:
        """Return why nothing may leave at this very moment, an empty string if it may."""
        if reason := self._switch.reason():
            return f"halted: {reason}"
        return self.lag.objection(self._clock.monotonic_ns())

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._beat()
            self.look_at_switch()
            self._look_at_clock()
            if self._on_turn is not None:
                self._on_turn()
            await asyncio.sleep(self.TURN_S)

    # --- the loop ---------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        now_ns = self._clock.monotonic_ns()
        found, late_ns = self.lag.beat(now_ns)
        if found is not Lag.NONE:
            self._late(found, late_ns)
        elif self._is_late and self.lag.is_clean(now_ns):
            self._is_late = False
            self._gate.open(LAG_KEY)
            self._bus.publish(EngineEvent(EngineKind.LOOP_IN_TIME))

    def _late(self, found: Lag, late_ns: int) -> None:
        text = f"the event loop stood still for {late_ns / 1e9:.1f} s"
        self._gate.close(LAG_KEY, text)
        if not self._is_late or found is Lag.JUMP:
            log.error("%s; no quotes until it has been in time for %.0f s", text, self.lag.CLEAN_NS / 1e9)
            self._bus.publish(EngineEvent(EngineKind.LOOP_LATE, text))
        self._is_late = True
        if found is Lag.JUMP:
            # whoever was suspended sets both clocks on waking by one that may be a second off: no step, and wrong
            self._rest.clock_is_doubtful = True
            for context in self._contexts:  # only what comes from now on proves anything
                context.state.book_proven_ns -= late_ns
            self._on_jump(text)

    # --- the clocks -------------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """Have the exchange's clock measured anew after a step of ours, though nothing may be about to be signed."""
        ahead_ms = self._wall_ahead_ms()
        step_ms, self._ahead_ms = ahead_ms - self._ahead_ms, ahead_ms
        if abs(step_ms) >= ServerClock.STEP_MS:
            self._rest.clock_is_doubtful = True
            log.warning(
                "the clock of this machine was stepped by %+d ms; measuring the exchange's anew", step_ms
            )
            self._bus.publish(EngineEvent(EngineKind.CLOCK_STEPPED, f"{step_ms:+d} ms"))

    def _wall_ahead_ms(self) -> int:
        return self._clock.time_ms() - self._clock.monotonic_ns() // 1_000_000

    # --- the switch -------------------------------------------------------------------------------------------

    def look_at_switch(self) -> None:
        """Halt what is quoted if the switch was thrown; let go of it once an operator has cleared that."""
        reason = self._switch.reason()
        if reason and (not self._is_halted or self._heeded != self._switch.throws):
            self._is_halted, self._heeded = True, self._switch.throws
            log.error("HALT: %s; quotes go out, the position is kept, until `python main.py resume`", reason)
            self._bus.publish(EngineEvent(EngineKind.HALT_ASKED, reason))
            for context in self._contexts:
                self._hold(context.symbol, reason)
        elif self._is_halted and not any(self._is_held(context.symbol) for context in self._contexts):
            self._is_halted = False
            self._switch.reset()
