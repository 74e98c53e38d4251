"""The worker that gets the daemon to a known state, at the start and after every gap, and keeps its lifelines.

One path for cold start, crash and reconnect: gate closed, account and symbol rules as they have to be, our orders out
and verified, trades since the last known one counted, position compared (``core.reconciliation``), a fresh book
(``core.market``), dead-man switch acknowledged (``core.dead_man``), gate open; then a first quote that the account
stream has to tell of before the others follow (``core.refresh``).
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from core.account_watch import AccountWatch
from core.cash_keeper import CashKeeper
from core.context import SymbolContext
from core.dead_man import DeadManSwitch
from core.events import ConnectionEvent, ConnectionKind, EventBus, OrderModifyFailureEvent
from core.execution import ExecutionEngine
from core.foreign_trades import ForeignTrades
from core.gate import Gate
from core.gateway import Gateway
from core.last_look import LastLook
from core.reconciliation import Reconciler
from core.recovery_steps import RECONCILE_KEY, RecoverySteps
from core.relapse import Relapses
from core.rules_change import ACCOUNT_CODES, RULES_CODES
from core.rules_watch import RulesWatch
from core.settings import SafetySettings
from core.stream_audit import StreamAudit
from core.user_stream import FillBook, UserEvents
from core.wake import Wake
from utils.clock import Clock
from utils.errors import ExchangeError, Refused
from utils.venue import private_target
from utils.ws import Backoff, Stream, WsTransport, rotation_age_s

log = logging.getLogger(__name__)

POSITION_KEY = "position"
FOREIGN_KEY = "foreign trade"
LIMIT_KEY = "limit"
LISTEN_KEY_GONE = -1125


class RecoveryManager:
    """Keeps the user stream, the listen key, the clock offset and the dead-man switch; reconciles after every gap.

    ``gate`` is the account's gate, the parent of every symbol's. ``progress`` returns a number for a symbol that grows
    only while its control loop works: the dead-man switch is fed by nothing else. ``on_fill`` is called with the symbol
    of every fill, ``on_forced`` with symbol and reason when the exchange itself has traded the position,
    ``on_new_units`` with the reason when the daemon has to begin anew under other rules. ``looks`` says of each symbol
    up to where that is known of its trades. ``leverage`` is what every symbol has to have. ``after_crash`` says that an
    earlier run may have left orders a moment ago, so that a first reading may lag.
    """

    name = "recovery"
    TURN_S = 0.5
    RETRY_S = 1.0
    LONGEST_RETRY_S = 5.0
    ACCOUNT_DEADLINE_S = 10.0
    RULES_DEADLINE_S = 20.0
    CLOCK_EVERY_S = 300.0
    LISTEN_KEY_RETRY_S = 30.0
    SHORT_LIMIT_S = 5
    """A limit that is over sooner is not worth the places in the queue."""
    UNEXPLAINED_AGAIN_S = 5.0
    """How soon a trade is looked for that explains the position; ever more seldom, at least once a minute."""
    UNEXPLAINED_AT_MOST_S = 60.0

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        execution: ExecutionEngine,
        transport: WsTransport,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
        gate: Gate,
        safety: SafetySettings,
        *,
        leverage: int,
        progress: Callable[[str], int],
        on_fill: Callable[[str], None],
        on_forced: Callable[[str, str], None],
        on_new_units: Callable[[str], None],
        looks: Mapping[str, LastLook],
        after_crash: bool,
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._gate = gate
        self._safety = safety
        self._due = asyncio.Event()
        self._relapses = Relapses()
        self._look_again_s = self.UNEXPLAINED_AGAIN_S
        self._looking_again: asyncio.TimerHandle | None = None
        self._foreign = {context.symbol: ForeignTrades() for context in contexts}
        self._on_forced, self._looks = on_forced, looks
        self._clock_doubt = Wake()
        self.steps = RecoverySteps(gate, clock)
        self.account = AccountWatch(contexts, gateway, bus, clock, gate, leverage)
        self.rules = RulesWatch(contexts, gateway, bus, clock, on_new_units)
        fills = FillBook(bus, clock, on_fill, self._foreign_trade)
        self.reconciler = Reconciler(
            gateway,
            execution,
            bus,
            fills,
            self.steps,
            on_forced=self._forced,
            on_missed=lambda fill: self.audit.missed(fill),
            looks=looks,
            after_crash=after_crash,
        )
        self.cash = CashKeeper(contexts, gateway, bus, self.reconciler.count_missed_trades)
        self.dead_man = DeadManSwitch(
            contexts, gateway, bus, clock, safety, progress=progress, on_lapse=self.request_reconcile
        )
        self._events = UserEvents(
            {context.symbol: context for context in contexts},
            execution,
            fills,
            on_doubt=self.request_reconcile,
            on_trade=lambda fill: self.audit.told(fill),
            on_forced=self._forced,
            on_key_expired=lambda: self.stream.drop("the listen key has expired"),
            on_config=self.account.changed,
            on_cash=self.cash.told,
        )
        self.stream = Stream(
            "account",
            transport,
            clock,
            Backoff(rng),
            target=self._new_target,
            on_message=self._events.receive,
            on_up=self._stream_up,
            on_down=self._stream_down,
            on_rotated=self._stream_rotated,
            max_age_s=rotation_age_s(rng),
        )
        self.audit = StreamAudit(
            contexts,
            gateway,
            execution,
            self.reconciler,
            clock,
            gate,
            is_up=lambda: self.stream.is_up,
            drop=self.stream.drop,
            request_reconcile=self.request_reconcile,
        )
        execution.on_refusal = self._refused
        bus.subscribe(self._amend_failed, OrderModifyFailureEvent, name="refusals")
        self.steps.close("waiting for the account stream")

    async def run(self) -> None:
        """Keep everything until cancelled; the account's gate is closed whenever this does not run."""
        self.request_reconcile("recovery starts")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stream.run(), name="account stream")
                group.create_task(self._reconcile_when_due(), name="reconciliation")
                group.create_task(self._keep_listen_key(), name="listen key")
                group.create_task(self.dead_man.run(), name="dead-man switch")
                group.create_task(self._keep_clock(), name="clock offset")
                group.create_task(self.audit.run(), name="stream audit")
                group.create_task(self.account.run(), name="account watch")
                group.create_task(self.rules.run(), name="rules watch")
                group.create_task(self.cash.run(), name="wallet")
                group.create_task(self._look_around(), name="look around")
        finally:
            self.steps.close("recovery is not running")
            self._gate.close(RECONCILE_KEY, "recovery is not running")

    # --- when to reconcile ------------------------------------------------------------------------------------

    def request_reconcile(self, reason: str) -> None:
        """Close the gate and have the exchange asked what is true."""
        if self.steps.close(self._awaited):
            log.info("reconciling with the exchange: %s", reason)
        self._due.set()

    @property
    def _awaited(self) -> str:
        """Return what recovery begins with."""
        return "asking the exchange" if self.stream.is_up else "waiting for the account stream"

    def _stream_up(self) -> None:
        self.audit.forget_echoes()
        for context in self._contexts:
            context.stream_is_proven = False
        self._bus.publish(ConnectionEvent("account", ConnectionKind.UP))
        self.request_reconcile("the account stream is up")

    def _stream_rotated(self) -> None:
        """Have the next quote prove the new connection: it may have been taken while there was nothing to say.

        What the old one has told until it was closed proves nothing of the new one.
        """
        for context in self._contexts:
            context.stream_is_proven = False
        self._bus.publish(ConnectionEvent("account", ConnectionKind.ROTATED))

    def _stream_down(self, reason: str) -> None:
        self._bus.publish(ConnectionEvent("account", ConnectionKind.DOWN, reason))
        self.request_reconcile(f"the account stream is down: {reason}")

    async def _reconcile_when_due(self) -> None:
        wait_s = self.RETRY_S
        while True:
            await self._due.wait()
            if pause_s := self._relapses.pause_s(self._clock.monotonic_ns()):
                self.steps.close(f"waiting for {pause_s:g} s: what is asked about comes back each time")
                await asyncio.sleep(pause_s)
            self._due.clear()
            if not self.stream.is_up:
                self.steps.close(self._awaited)
                continue  # it asks again when it is up
            if not await self._reconcile_all():
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, self.LONGEST_RETRY_S)
                self._due.set()
                continue
            wait_s = self.RETRY_S
            self.cash.look_soon()
            self._judge_positions()
            if not self._due.is_set() and self.stream.is_up:
                self.steps.open()
                self._relapses.settled(self._clock.monotonic_ns())

    async def _reconcile_all(self) -> bool:
        try:
            async with self.steps.step("reading the account's modes", self.ACCOUNT_DEADLINE_S):
                await self.account.check()
            async with self.steps.step("reading the symbols' rules", self.RULES_DEADLINE_S):
                await self.rules.refresh()
            for context in self._contexts:
                if not await self.reconciler.reconcile(context):
                    log.warning("%s: not reconciled: our orders are not verified to be out", context.symbol)
                    self.rules.look_soon()  # perhaps the symbol does not let them be cancelled
                    return False
        except ExchangeError as error:
            log.warning("not reconciled: %s", error)
            return False
        return True

    def _forced(self, symbol: str, reason: str, time_ms: int | None) -> None:
        """Halt for a trade of the exchange's own; it counts as looked at once that is on disk, also after a kill."""
        if time_ms is not None:
            self._looks[symbol].forced(time_ms)
        self._on_forced(symbol, reason)

    # --- what keeps the gate closed after that ----------------------------------------------------------------

    def _judge_positions(self) -> None:
        """Have no quote rest while a part of the position is there that no trade explains; look for the trade."""
        looks_again = False
        for context in self._contexts:
            unexplained = context.ledger.unexplained_quantity
            if not unexplained:
                context.gate.open(POSITION_KEY)
                continue
            looks_again = True
            context.gate.close(
                POSITION_KEY,
                f"no trade explains {unexplained:f} of the position: look at the account;"
                " a restart takes the exchange's figure for granted",
            )
        if self._looking_again is not None:
            self._looking_again.cancel()
        if not looks_again:
            self._look_again_s = self.UNEXPLAINED_AGAIN_S
            return
        self._looking_again = asyncio.get_running_loop().call_later(
            self._look_again_s, self.request_reconcile, "looking for a trade that explains the position"
        )
        self._look_again_s = min(2 * self._look_again_s, self.UNEXPLAINED_AT_MOST_S)

    def _foreign_trade(self, context: SymbolContext, order_id: int) -> None:
        """Have no quote rest beside another program, or a busy person, on the same position."""
        if self._foreign[context.symbol].add(order_id, self._clock.monotonic_ns()):
            context.gate.close(FOREIGN_KEY, f"somebody else trades {context.symbol} on this account")

    async def _look_around(self) -> None:
        """See every half second what nobody tells of: how long things take, what is missing, what is in doubt."""
        while True:
            await asyncio.sleep(self.TURN_S)
            self._renew_reasons()
            self.audit.look()
            if self._gateway.rest.clock_is_doubtful:
                self._clock_doubt.set()

    def _renew_reasons(self) -> None:
        """Have the reasons be those of now: how long a step has been taking, whether somebody else still trades."""
        self.steps.show()
        self._judge_limit()
        for context in self._contexts:
            if not self._foreign[context.symbol].is_going_on(self._clock.monotonic_ns()):
                context.gate.open(FOREIGN_KEY)

    def _judge_limit(self) -> None:
        """Have no quote rest that could be neither amended nor cancelled for long, and say for how much longer.

        Say so, too, where another program has used up so much that new quotes wait, or what they have to wait for.
        """
        wait_s = ceil(self._gateway.lanes.no_room_s())
        no_room = f"the request limits leave no room for another {wait_s} s" if wait_s else ""
        for context in self._contexts:
            context.no_room = no_room if wait_s > self.SHORT_LIMIT_S or context.no_room else ""
        limited_s = ceil(self._gateway.rest.limited_for_s)
        if limited_s <= 0:
            self._gate.open(LIMIT_KEY)
        elif limited_s > self.SHORT_LIMIT_S or LIMIT_KEY in self._gate.closed_by:
            self._gate.close(LIMIT_KEY, f"the exchange takes no requests for another {limited_s} s")

    def _refused(self, code: int) -> None:
        if code in RULES_CODES:
            self.rules.look_soon()
        if code in ACCOUNT_CODES:
            self.account.look_soon()

    def _amend_failed(self, event: OrderModifyFailureEvent) -> None:
        self._refused(event.code)

    # --- lifelines --------------------------------------------------------------------------------------------

    async def _new_target(self) -> str:
        return private_target(await self._gateway.create_listen_key())

    async def _keep_listen_key(self) -> None:
        wait_s = self._safety.listen_key_refresh_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._gateway.keep_listen_key()
                wait_s = self._safety.listen_key_refresh_s
            except Refused as refusal:
                if refusal.code == LISTEN_KEY_GONE:
                    self.stream.drop("the listen key has expired")
                wait_s = self.LISTEN_KEY_RETRY_S
            except ExchangeError as error:
                log.warning("the listen key could not be kept alive: %s", error)
                wait_s = self.LISTEN_KEY_RETRY_S

    async def _keep_clock(self) -> None:
        """Measure the offset to the exchange's clock now and then, and at once when a timestamp was refused."""
        while True:
            await self._clock_doubt.comes(self.CLOCK_EVERY_S)
            try:
                await self._gateway.rest.synchronise_clock()
            except ExchangeError as error:
                log.warning("the exchange's clock could not be read: %s", error)
                await asyncio.sleep(self.RETRY_S)
            self._clock_doubt.clear()
