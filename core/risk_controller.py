"""The worker that checks the position, and closes it when it is over the limit."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from core.breach import BreachWatch
from core.context import SymbolContext
from core.day_keeper import DAY_KEY, DayKeeper
from core.events import ConnectionEvent, ConnectionKind, EventBus, RiskEvent, RiskKind
from core.flattening import Flattened, Flattening
from core.gateway import Gateway
from core.halt import Halt, HaltLatch
from core.halt_keeper import HaltKeeper
from core.model import Position
from core.posture import LOSS, Posture, Stance
from core.posture_keeper import PostureKeeper
from core.risk import breach_text, known_position, position_notional_quote
from core.settings import RiskSettings
from core.wake import Wake
from utils.background import RunBlocking
from utils.clock import Clock
from utils.errors import AuthFailed, ExchangeError, OutcomeUnknown
from utils.quietly import quietly

log = logging.getLogger(__name__)

GATE_KEY = "risk"
FORCED_KEY = "forced"
CHECK_KEY = "position check"


class RiskController:
    """Reads each position from the exchange at an interval, and at once after a fill.

    A position over ``initial_capital × leverage × max_net_position_ratio`` closes the gate in the same turn, engages
    the halt latch, takes the quotes out, closes the position and verifies both (``core.flattening``). Quoting stays
    paused until an operator clears the halt. Nothing is closed or halted unless a reading of the exchange's position
    that is newer than the trigger bears it out, or the exchange has told of a trade of its own (``halt``). Until a
    close is verified its latch says so, and the next run takes it up (``take_up``).

    ``on_difference`` is called when the exchange's position stays different from ours, ``on_latched`` with the symbol
    when the halt for every trade of the exchange's own that ``halt`` was told of is on disk.
    """

    name = "risk"
    ALARM_EVERY_S = 10.0
    """So often it is said aloud, at most, that a position cannot be closed."""
    UNCONFIRMED_AFTER_S = 3.0
    LOOK_EVERY_S = 0.05
    SPACING_S = 0.4
    """However many fills come, checks are at least so far apart: each costs request weight."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        flattening: Flattening,
        bus: EventBus,
        clock: Clock,
        settings: RiskSettings,
        latches: Mapping[str, HaltLatch],
        run_blocking: RunBlocking,
        days: DayKeeper,
        on_difference: Callable[[str], None],
        on_latched: Callable[[str], None],
        max_book_age_ms: int,
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._flattening = flattening
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._halts = HaltKeeper(latches, clock, run_blocking, self._latched)
        self._breaches = {context.symbol: BreachWatch(settings) for context in contexts}
        self._days = days
        self._on_difference = on_difference
        self._on_latched = on_latched
        self._max_book_age_ns = max_book_age_ms * 1_000_000
        self._forced: dict[str, str] = {}
        self._wakes = {context.symbol: Wake() for context in contexts}
        self._hurries = {context.symbol: Wake() for context in contexts}
        self._context_of = {context.symbol: context for context in contexts}
        self._confirmed_ns = {context.symbol: 0 for context in contexts}
        self._differing: dict[str, tuple[Decimal, int]] = {}
        self._halted: dict[str, str] = {}
        self._held: dict[str, str] = {}
        self._unlatched: set[str] = set()
        """Those that are held since the last check: a halt that was cleared before is not theirs."""
        self._must_flatten: set[str] = set()
        self._not_closed_before_ns: dict[str, int] = {}
        self._closing_locks = {context.symbol: asyncio.Lock() for context in contexts}
        self._is_running = False
        self.checks = {context.symbol: 0 for context in contexts}
        """How often each position was looked at."""
        self._alarmed_ns: dict[str, int] = {}
        self._day_complaint = ""
        self.postures = PostureKeeper(contexts, bus, clock, own=self._own_posture, loss=days.reading)
        bus.subscribe(self._on_connection, ConnectionEvent)
        for context in contexts:
            context.gate.close(CHECK_KEY, "position is not confirmed yet")

    def check_now(self, symbol: str) -> None:
        """Have the position checked without waiting for the interval."""
        self._wakes[symbol].set()

    def _on_connection(self, event: ConnectionEvent) -> None:
        """Look at the position at once when the books have been compared: quoting may wait for that."""
        if event.kind is ConnectionKind.RECONCILED and event.symbol in self._wakes:
            self._wakes[event.symbol].set()
            if self._days.is_waiting(self._context_of[event.symbol]):
                self._hurries[event.symbol].set()

    def halt(self, symbol: str, reason: str) -> None:
        """Halt the symbol as if it had broken its limit, for a reason that the exchange itself has told of.

        The gate closes in this turn, the rest comes with the check that follows, also where no position can be read:
        a process that ended before it could would leave nothing behind of what has happened.
        """
        self._context_of[symbol].gate.close(FORCED_KEY, reason)
        self._forced[symbol] = reason
        self._wakes[symbol].set()

    def hold(self, symbol: str, reason: str) -> None:
        """Halt the symbol in this turn, its position kept, until an operator clears the halt. Limits go on to hold."""
        context = self._context_of[symbol]
        context.gate.close(GATE_KEY, "the position is kept until `python main.py resume`")
        context.state.strategy_paused = True
        self._held[symbol] = reason
        self._unlatched.add(symbol)
        self._show(context)
        self._bus.publish(RiskEvent(symbol, RiskKind.HELD, self._notional(context), reason))
        self._wakes[symbol].set()

    def is_held(self, symbol: str) -> bool:
        """Tell whether the symbol is halted for a reason from elsewhere."""
        return symbol in self._held

    @property
    def is_closing(self) -> bool:
        """Tell whether a position still has to be closed, or a halt that was asked for has not begun yet."""
        return bool(self._must_flatten or self._forced)

    def take_up(self, halt: Halt, settled_ns: int) -> None:
        """Go on with the close that an earlier run has begun, in this turn.

        It is not called closed before ``settled_ns`` (monotonic): until then something that was sent may be executed.
        """
        context = self._context_of[halt.symbol]
        context.gate.close(GATE_KEY, "halted by risk")
        context.state.strategy_paused = True
        self._must_flatten.add(halt.symbol)
        self._halted[halt.symbol] = halt.reason
        self._not_closed_before_ns[halt.symbol] = settled_ns
        self._halts.take_up(halt)
        text = f"an earlier run has not finished its close: {halt.reason}"
        self._publish(context, RiskKind.BREACH, self._notional(context), text)
        self._show(context)

    async def closed(self) -> None:
        """Wait until nothing has to be closed any more, and the disk knows it, or hangs.

        Close it here if nobody runs the checks.
        """
        while self.is_closing:
            if not self._is_running:
                symbols = {*self._must_flatten, *self._forced}
                await asyncio.gather(*(self._close(self._context_of[each]) for each in symbols))
            await asyncio.sleep(self.LOOK_EVERY_S)
        await self._halts.settled()

    async def is_close_noted(self) -> bool:
        """Tell whether the disk knows of every close that is not finished; what is on its way there is waited for.

        A halt that was asked for and has not begun is left to the next run, like a close.
        """
        while self._forced:
            symbol, reason = self._forced.popitem()
            if symbol not in self._must_flatten:
                self._must_flatten.add(symbol)
                self._halted[symbol] = reason
                await self._halts.engage(symbol, reason, is_closing=True)
        await self._halts.settled()
        return all(self._halts.is_on_disk(symbol) for symbol in self._must_flatten)

    async def run(self) -> None:
        """Check every position until cancelled; the gates are closed whenever this does not run."""
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                for context in self._contexts:
                    self._bus.publish(self._limits(context))
                    group.create_task(self._watch(context), name=f"{self.name} {context.symbol}")
        finally:
            self._is_running = False
            for context in self._contexts:
                context.gate.close(CHECK_KEY, "position is not being checked")

    def _limits(self, context: SymbolContext) -> RiskEvent:
        limit = self._settings.position_limit_quote
        return RiskEvent(context.symbol, RiskKind.LIMITS, limit, f"position limit {limit:f}")

    async def _watch(self, context: SymbolContext) -> None:
        wake, hurry = self._wakes[context.symbol], self._hurries[context.symbol]
        while True:
            wake.clear()
            hurry.clear()
            await self.check(context)
            self.checks[context.symbol] += 1
            spacing_s = min(self.SPACING_S, self._settings.check_interval_s)
            if await hurry.comes(spacing_s):
                continue
            await wake.comes(self._settings.check_interval_s - spacing_s)

    def _own_posture(self, context: SymbolContext) -> Stance:
        """Return what a position that is being closed, or a halt, calls for, whatever the readings say."""
        reason = self._halted.get(context.symbol, "")
        if context.symbol in self._must_flatten:
            return Stance(Posture.FLATTEN, reason)
        if (
            not reason and context.symbol in self._held
        ):  # lower than what a limit calls for: that is still done
            return Stance(Posture.PULL, self._held[context.symbol])
        return Stance(Posture.HALT, reason) if reason else Stance()

    async def check(self, context: SymbolContext) -> None:
        """Read the position and do what it calls for; then have the symbol stand as all readings call for.

        What our own readings call for is done only if the exchange's position could be read just now.
        """
        is_confirmed = False
        try:
            is_confirmed = await self._check(context)
        finally:
            called = self.postures.look(context)
        calls = called.posture is Posture.FLATTEN and context.symbol not in self._halted
        if calls and is_confirmed and self._bears_out(context, called):
            await self._respond(context, lambda: called.reason)
        if not self._days.is_waiting(context):
            context.gate.open(DAY_KEY)

    @staticmethod
    def _bears_out(context: SymbolContext, called: Stance) -> bool:
        """Tell whether the position that was just read is the one by which our readings call for a close."""
        read = context.state.exchange_position
        return read is not None and read.quantity == known_position(context) and bool(called.reason)

    def _notional(self, context: SymbolContext) -> Decimal:
        """Return what the position is worth, as the exchange reported it last."""
        reading, price = context.state.exchange_position, context.state.risk_price(context.rules)
        held = reading.quantity if reading is not None else context.ledger.position_quantity
        return position_notional_quote(held, price)

    async def _check(self, context: SymbolContext) -> bool:
        """Read the position and do what it calls for; return whether it could be read."""
        await self._look_for_resume(context)
        await self._latch_hold(context.symbol)
        self._halts.keep(context.symbol)
        if context.symbol in self._must_flatten:
            context.state.last_risk_check = self._clock.time_ms() / 1000
            return await self._close(context)
        if context.symbol in self._forced:
            return await self._close(context)
        try:
            position = await self._read(context)
        except ExchangeError as error:
            self._unconfirmed(context, error)
            return False
        self._confirm(context, position)
        price = self._price_of_breach(context, position)
        if price is not None:
            if self._lags(context, position):
                self._unconfirmed(context, OutcomeUnknown("the reading lags behind our own fills"))
                return False
            await self._respond(
                context, lambda: breach_text(position.quantity, price, context.rules, self._settings)
            )
        elif context.ledger.is_open:
            self._compare(context, position)
            await self._count_day(context, position)
        return True

    async def _latch_hold(self, symbol: str) -> None:
        """Have a halt from outside stand on disk, in the place of one that stood before it: that may be cleared."""
        is_new = symbol in self._unlatched and symbol not in self._must_flatten
        self._unlatched.discard(symbol)
        if symbol in self._held and (is_new or not self._halts.stands(symbol)):
            await self._halts.engage(symbol, self._held[symbol], is_closing=False)

    async def _close(self, context: SymbolContext) -> bool:
        """Go on with a close, or begin the one that was asked for; return whether it is verified."""
        reason = self._forced.pop(context.symbol, "")
        if context.symbol in self._must_flatten:  # it would call for nothing else
            context.gate.open(FORCED_KEY)
            return await self._flatten(context)
        await self._respond(context, lambda: reason)
        return False

    def _latched(self, symbol: str) -> None:
        if (
            symbol not in self._forced
        ):  # else what is on disk may be an older halt, which may be cleared just now
            self._on_latched(symbol)

    def _price_of_breach(self, context: SymbolContext, position: Position) -> Decimal | None:
        """Return the price at which the position is over a limit beyond doubt, None if it is not."""
        state, now_ns = context.state, self._clock.monotonic_ns()
        is_fresh = now_ns - state.book_proven_ns <= self._max_book_age_ns
        bid = context.rules.price(state.book.bid_ticks) if is_fresh and state.book is not None else None
        mark_price = position.mark_price or state.mark_price
        return self._breaches[context.symbol].price_of_breach(position.quantity, mark_price, bid, now_ns)

    def _lags(self, context: SymbolContext, position: Position) -> bool:
        """Tell whether a reading of the position is older than a fill in our books, and differs from them."""
        now_ms = self._gateway.rest.server_clock.time_ms()
        return context.ledger.outdates(position, now_ms) and position.quantity != known_position(context)

    async def _read(self, context: SymbolContext) -> Position:
        """Return the exchange's position; that nothing is held, where our books say otherwise, needs a witness."""
        position = await self._gateway.position(context.symbol)
        if position.quantity == 0 and context.ledger.is_open and known_position(context) != 0:
            return await self._gateway.witnessed_position(context.symbol)
        return position

    async def _count_day(self, context: SymbolContext, position: Position) -> None:
        """Have today's result be known, while our books and the exchange's agree: in between it would be a guess."""
        if position.quantity != context.ledger.position_quantity:
            return
        now_ms = self._gateway.rest.server_clock.time_ms()
        context.ledger.agree(position, context.rules.tick_size, now_ms)
        mark_price = position.mark_price or context.state.mark_price
        try:
            if await self._days.keep(context, mark_price):
                self.postures.forget(context, LOSS)
        except ExchangeError as error:
            unknown = self._days.not_known(context, error)
            if self._day_complaint != str(error):
                self._day_complaint = str(error)
                log.warning("%s: %s", context.symbol, unknown)

    def _confirm(self, context: SymbolContext, position: Position) -> None:
        self._confirmed_ns[context.symbol] = self._clock.monotonic_ns()
        context.state.exchange_position = position
        context.state.last_risk_check = self._clock.time_ms() / 1000
        context.gate.open(CHECK_KEY)

    def _unconfirmed(self, context: SymbolContext, error: ExchangeError) -> None:
        """Close the gate once the position has not been confirmed for a while: no answer is not "flat"."""
        silent_s = (self._clock.monotonic_ns() - self._confirmed_ns[context.symbol]) / 1e9
        if silent_s < self.UNCONFIRMED_AFTER_S and not isinstance(error, AuthFailed):
            return
        if context.gate.close(CHECK_KEY, "position cannot be confirmed"):
            log.warning("%s: the position cannot be confirmed: %s", context.symbol, error)

    def _compare(self, context: SymbolContext, position: Position) -> None:
        """Report a difference to the exchange that two checks in a row found with no fill in between.

        A reading that lags behind our own fills differs, too, and says nothing.
        """
        difference = position.quantity - context.ledger.position_quantity
        seen = (difference, context.ledger.fill_count)
        if difference == 0 or self._lags(context, position):
            self._differing.pop(context.symbol, None)
        elif self._differing.get(context.symbol) == seen:
            self._differing.pop(context.symbol)
            self._on_difference(
                f"{context.symbol}: the exchange's position is {position.quantity}, ours"
                f" {context.ledger.position_quantity}"
            )
        else:
            self._differing[context.symbol] = seen

    # --- halting ----------------------------------------------------------------------------------------------

    async def _look_for_resume(self, context: SymbolContext) -> None:
        """Unpause when the operator has cleared the latch of a halt of ours; the gate opens last."""
        symbol = context.symbol
        if symbol in self._must_flatten or symbol in self._unlatched or not self._halts.stands(symbol):
            return
        if not self._halts.is_cleared(symbol):
            return
        await self._days.take_acceptance(context, context.state.mark_price)
        if symbol in self._unlatched:
            return  # held anew while the disk was read
        self._halted.pop(context.symbol, None)
        self._held.pop(context.symbol, None)
        if self.postures.begin_anew(context).posture is Posture.FLATTEN:
            return  # it halts again as soon as the position has been read
        self._halts.forget(context.symbol)
        context.state.strategy_paused = False
        context.gate.open(GATE_KEY)
        log.warning("%s: the halt was cleared by the operator; quoting resumes", context.symbol)

    async def _respond(self, context: SymbolContext, reason: Callable[[], str]) -> None:
        """Pause first, in this turn; then close. What is said or recorded beside that cannot stop it."""
        symbol = context.symbol
        context.gate.close(GATE_KEY, "halted by risk")
        context.gate.open(FORCED_KEY)
        context.state.strategy_paused = True
        self._must_flatten.add(symbol)
        self._halted[symbol] = "a limit was broken"
        flattening = asyncio.ensure_future(self._flatten(context))
        try:
            quietly(lambda: self._halted.update({symbol: reason()}))
            quietly(lambda: self._tell_of_breach(context))
            await self._halts.engage(symbol, self._halted[symbol], is_closing=True)
            await flattening
        finally:
            flattening.cancel()

    def _tell_of_breach(self, context: SymbolContext) -> None:
        reason = self._halted[context.symbol]
        quietly(lambda: log.error("%s: RISK: %s; closing it and pausing", context.symbol, reason))
        self._publish(context, RiskKind.BREACH, self._notional(context), reason)
        self._show(context)

    def _publish(self, context: SymbolContext, kind: RiskKind, value_quote: Decimal, details: str) -> None:
        quietly(lambda: self._bus.publish(RiskEvent(context.symbol, kind, value_quote, details)))

    def _show(self, context: SymbolContext) -> None:
        """Have posture and record follow."""
        quietly(lambda: self.postures.look(context))
        quietly(lambda: self._days.save(context))

    async def _flatten(self, context: SymbolContext) -> bool:
        """Close the position, and return whether that is verified; it is tried again at the next check if not."""
        async with self._closing_locks[context.symbol]:
            if context.symbol not in self._must_flatten:
                return True
            result = await self._flattening.flatten(context)
            if not result.is_done:
                self._alarm(context, result)
            elif self._clock.monotonic_ns() >= self._not_closed_before_ns.get(context.symbol, 0):
                await self._flat(context, result)
            return context.symbol not in self._must_flatten

    async def _flat(self, context: SymbolContext, result: Flattened) -> None:
        """Say that it is closed, and have the disk know it."""
        self._alarmed_ns.pop(context.symbol, None)
        if result.dust:
            quietly(lambda: log.warning("%s: %s", context.symbol, result.dust))
        text = "%s: the position is closed; quoting is paused until `python main.py resume`"
        quietly(lambda: log.warning(text, context.symbol))
        self._publish(context, RiskKind.FLAT, Decimal(0), result.dust)
        self._must_flatten.discard(context.symbol)
        self._show(context)
        await self._halts.finish(context.symbol)

    def _alarm(self, context: SymbolContext, result: Flattened) -> None:
        """Say aloud that it could not be closed, now and then for as long as that is so."""
        now_ns = self._clock.monotonic_ns()
        last_ns = self._alarmed_ns.get(context.symbol)
        if last_ns is not None and now_ns - last_ns < self.ALARM_EVERY_S * 1e9:
            return
        self._alarmed_ns[context.symbol] = now_ns
        what = (
            "the position could not be closed" if not result.is_flat else "the quotes could not be taken out"
        )
        text = "%s: %s; trying again: %s"
        quietly(lambda: log.critical(text, context.symbol, what, result.trouble))
        self._publish(context, RiskKind.NOT_FLAT, self._notional(context), result.trouble)
