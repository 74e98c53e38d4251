"""Somebody else who places orders with our prefix on this account: another instance of this program, elsewhere.

The lock on this machine cannot see it. An order names the run that placed it. One of a run that is neither this nor an
earlier one of this state directory, and younger than this run, has a writer that lives. An older one was left by a run
elsewhere that is gone, unless more of them come.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from core.client_ids import boot_of, is_ours
from core.context import SymbolContext
from core.events import EngineEvent, EngineKind, EventBus
from core.gate import Gate
from core.gateway import Gateway
from core.model import OrderReport
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

GATE_KEY = "stranger"


class ForeignWriter:
    """Tells orders of another living instance from all others, keeps the gate closed while it trades, or gives way.

    ``boot`` is the number of this run, ``earlier`` those of runs before it. ``give_way`` is called with a reason when
    this run has to end: it had not begun to quote, or began later than the other. What another instance placed is not
    touched, so that two never cancel each other's orders for ever.
    """

    name = "foreign writer"
    LEFTOVER_MS = 3000
    """An order of a run that is gone may still come in so long after this one began."""
    PROBATION_S = 8.0
    """So long nothing is quoted after an order of an unknown run was found: a living one would place it again."""
    LOOK_EVERY_S = 1.0
    CLEAN_S = 60.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        gate: Gate,
        bus: EventBus,
        clock: Clock,
        *,
        boot: int,
        earlier: AbstractSet[int],
        give_way: Callable[[str], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._gate = gate
        self._bus = bus
        self._clock = clock
        self._boot = boot
        self._known = {boot, *earlier}
        self._give_way = give_way
        self._began_ms = gateway.rest.server_clock.time_ms()
        self._has_quoted = False
        self._seen_ns: int | None = None
        self._until_ns = 0
        self._wake = asyncio.Event()
        self.gave_way = False
        for context in contexts:
            context.gate.listen(self._note_opening)

    @property
    def is_seen(self) -> bool:
        """Tell whether another living instance was seen, and has not been quiet for long since."""
        return self._seen_ns is not None

    def _note_opening(self) -> None:
        self._has_quoted = self._has_quoted or any(context.gate.is_open for context in self._contexts)

    def is_strangers(self, report: OrderReport) -> bool:
        """Tell whether a living instance elsewhere placed this order, which is left alone; draw the consequences."""
        boot = boot_of(report.client_id)
        if boot is None or boot in self._known or report.status.is_terminal:
            return False
        if report.update_ms <= self._began_ms + self.LEFTOVER_MS:
            if not self._has_quoted:
                self._make_sure(report.client_id)
            return False
        self._established(report.client_id, boot)
        return True

    def _make_sure(self, client_id: str) -> None:
        """Quote nothing for a while after a leftover of an unknown run: it may not be one."""
        text = f"making sure that nobody else trades on this account ({client_id} is of an unknown run)"
        if self._gate.close(GATE_KEY, text):
            log.warning("%s", text)
            self._until_ns = self._clock.monotonic_ns() + int(self.PROBATION_S * 1e9)
            self._wake.set()

    def _established(self, client_id: str, boot: int) -> None:
        now_ns = self._clock.monotonic_ns()
        is_new, self._seen_ns = self._seen_ns is None, now_ns
        self._until_ns = now_ns + int(self.CLEAN_S * 1e9)
        if not is_new:
            return
        text = f"another instance trades on this account: it placed {client_id}"
        self._gate.close(GATE_KEY, text)
        self._bus.publish(EngineEvent(EngineKind.STRANGER, text))
        self._wake.set()
        if not self._has_quoted or boot < self._boot:
            log.critical("%s; giving way to it. Stop it first, if this one is to trade", text)
            self.gave_way = True
            self._give_way(text)
        else:
            log.critical(
                "%s; no quotes until it has been quiet for %.0f s. Stop one of the two", text, self.CLEAN_S
            )

    async def run(self) -> None:
        """Look for its orders while there is a suspicion, and open the gate once there is none; until cancelled."""
        while True:
            await self._wake.wait()
            while self._clock.monotonic_ns() < self._until_ns:
                began_ns = self._clock.monotonic_ns()
                await asyncio.sleep(self.LOOK_EVERY_S)
                if not await self._look():
                    self._until_ns += self._clock.monotonic_ns() - began_ns
            self._wake.clear()
            if self._seen_ns is not None:
                log.warning("the other instance has been quiet for %.0f s", self.CLEAN_S)
            self._seen_ns = None
            self._gate.open(GATE_KEY)

    async def _look(self) -> bool:
        """Look for its orders; return whether the exchange has shown them all: else nothing can be concluded."""
        is_whole = True
        for context in self._contexts:
            try:
                resting = await self._gateway.open_orders(context.rules, is_ours)
            except ExchangeError:
                is_whole = False
                continue
            for report in resting:
                self.is_strangers(report)
        return is_whole
