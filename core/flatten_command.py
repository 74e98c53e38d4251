"""``python main.py flatten``: our orders out and the positions closed, both verified, without a daemon.

It does what the risk controller does at a breach (``core.flattening``), and holds the account's lock, so that no daemon
of this machine trades meanwhile. One elsewhere is told by its orders (``core.foreign_writer``), and given way to.
"""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal

from core.boot_number import earlier_boots, next_boot
from core.client_ids import ClientIds, is_ours
from core.context import SymbolContext
from core.events import EventBus
from core.execution import ExecutionEngine
from core.flatten import Terms
from core.flattening import Flattened, Flattening
from core.foreign_writer import ForeignWriter
from core.gate import Gate
from core.gateway import Gateway
from core.halt import HaltLatch
from core.instance_lock import InstanceLock, is_held
from core.journal import KEEP_DAYS, JournalFile
from core.journal_worker import JournalWorker
from core.live_order import settled_ns as settled_ns_of
from core.model import SymbolRules
from core.preflight import closing_check, keys_check
from core.settings import QuoteSettings, Settings
from core.wiring import Wiring
from utils.errors import ExchangeError, StartRefused

log = logging.getLogger(__name__)

GATE_KEY = "flatten"


@dataclass(frozen=True, slots=True)
class Deals:
    """What the closing orders have traded; money is in the quote asset."""

    quantity: Decimal
    value_quote: Decimal
    realized_quote: Decimal
    fees: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was done about one symbol. ``before`` is the position at first, None if it could not be read then.

    ``found`` counts the orders of ours that rested at first, None likewise; ``deals`` is None where nothing was
    traded, or the trades could not be read.
    """

    rules: SymbolRules
    found: int | None
    before: Decimal | None
    result: Flattened
    deals: Deals | None

    def lines(self) -> list[str]:
        """Return in sentences what was done, and what is left."""
        return [f"{self.rules.symbol}: {text}" for text in (self._orders(), self._position())]

    def _orders(self) -> str:
        if not self.result.is_out:
            return f"NOT VERIFIED that no order of ours rests ({self.result.trouble})"
        if self.found == 0:
            return "no order of ours rested; none rests now (verified)"
        count = "the orders" if self.found is None else f"{self.found} order{'s' * (self.found != 1)}"
        return f"{count} of ours cancelled; none rests now (verified)"

    def _position(self) -> str:
        was = f"{self.before:f} {self.rules.base_asset}" if self.before is not None else "unknown"
        if not self.result.is_flat:
            return (
                f"NOT VERIFIED that the position is closed (it was {was}): {self.result.trouble};"
                " run this again, or close it on the exchange's own site"
            )
        if self.result.dust:
            return f"the position was {was}; {self.result.dust}"
        if self.before == 0 and not self.result.orders:
            return "no position was held (verified)"
        return f"the position of {was} is closed{self._how()}; flat (verified)"

    def _how(self) -> str:
        if self.deals is None:
            return ""
        asset, count = self.rules.quote_asset, self.result.orders
        price = self.deals.value_quote / self.deals.quantity
        return (
            f": {self.deals.quantity.normalize():f} in {count} order{'s' * (count != 1)} at"
            f" {price.quantize(self.rules.tick_size):f} on average, realised {self.deals.realized_quote:+.2f}"
            f" {asset}, fees {self.deals.fees}"
        )


class FlattenCommand:
    """Closes every configured symbol of one account, which nobody else here may trade meanwhile."""

    DEADLINE_S = 60.0
    PAUSE_S = 1.0
    FLUSH_S = 2.0

    def __init__(self, settings: Settings, wiring: Wiring) -> None:
        self._settings = settings
        self._wiring = wiring
        self._gateway = Gateway(wiring.rest, wiring.clock)
        self._suspicion = Gate()
        """Closed while it is not known whether another instance trades on the account."""
        self._stranger = ""

    async def run(self) -> list[Report]:
        """Return what was done about each symbol.

        Raises StartRefused where configuration or a running daemon do not allow it, and ExchangeError where the
        exchange could not be asked at all; then nothing was sent.
        """
        settings, wiring = self._settings, self._wiring
        for check in (
            closing_check(settings, confirmed=wiring.live_confirmed),
            keys_check(settings, has_keys=wiring.has_keys),
        ):
            if not check.passed:
                raise StartRefused(f"{check.name}: {check.found}; {check.remedy}")
        with ExitStack() as held:
            locks = [held.enter_context(self._lock(symbol)) for symbol in settings.symbols]
            after_crash = any(lock.was_left_running for lock in locks)
            contexts = await self._contexts()
            for lock in locks:
                lock.mark_running(at_any_cost=True)
            reports = await self._all(contexts, after_crash=after_crash)
            if all(report.result.is_done for report in reports):
                for lock in locks:
                    lock.leave_clean()
            return reports

    def _lock(self, symbol: str) -> InstanceLock:
        """Return the symbol's lock; never fight a daemon that holds it."""
        if is_held(self._settings.state_directory, self._wiring.account, symbol):
            raise StartRefused(
                f"a daemon is trading {symbol} on this account; stop it first (Ctrl-C, or SIGTERM to its process, which"
                " `python main.py status` names): it takes its quotes out and leaves the position, then flatten"
            )
        return InstanceLock(self._settings.state_directory, self._wiring.account, symbol)

    async def _contexts(self) -> list[SymbolContext]:
        await self._gateway.rest.synchronise_clock()
        info = await self._gateway.exchange_info()
        return [self._context(quotes, info.rules.get(quotes.symbol)) for quotes in self._settings.quotes]

    def _context(self, quotes: QuoteSettings, rules: SymbolRules | None) -> SymbolContext:
        if rules is None:
            raise StartRefused(f"symbol: {quotes.symbol} is not listed here; set symbol in config.yaml")
        context = SymbolContext(
            settings=quotes,
            rules=rules,
            state=self._wiring.state.add(quotes.symbol),
            gate=Gate(),
            limits=self._settings.risk,
        )
        context.gate.close(GATE_KEY, "the position is being closed")
        return context

    async def _all(self, contexts: list[SymbolContext], *, after_crash: bool) -> list[Report]:
        settings, wiring = self._settings, self._wiring
        bus = EventBus(wiring.clock)
        file = JournalFile(settings.state_directory, wiring.account, KEEP_DAYS)
        journal = JournalWorker(contexts, wiring.clock, file, wiring.run_blocking, Gate(), bus)
        boot = next_boot(
            *(settings.state_directory, wiring.account, settings.symbols, wiring.clock.time_ms()),
            at_any_cost=True,
        )
        execution = ExecutionEngine(
            self._gateway,
            wiring.clock,
            bus,
            ClientIds(settings.instance_id, boot),
            recv_window_ms=wiring.rest.recv_window_ms,
            max_book_age_ms=settings.safety.max_book_age_ms,
        )
        flattening = Flattening(
            self._gateway,
            execution,
            wiring.clock,
            Terms(settings.risk.flatten_max_slippage_bps, settings.risk.flatten_deadline_s),
            max_book_age_ms=settings.safety.max_book_age_ms,
        )
        strangers = self._look_for_strangers(contexts, execution, bus, boot)
        watching = asyncio.ensure_future(strangers.run())
        journal.started()
        reports = []
        try:
            work = (self._one(each, flattening, after_crash=after_crash) for each in contexts)
            reports = list(await asyncio.gather(*work))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if reports and all(report.result.is_done for report in reports):
                journal.stopped()
            await self._write(journal)
        return reports

    def _look_for_strangers(
        self, contexts: list[SymbolContext], execution: ExecutionEngine, bus: EventBus, boot: int
    ) -> ForeignWriter:
        """Return what tells the orders of a living instance elsewhere from ours; from now on they are left alone."""

        def give_way(why: str) -> None:
            self._stranger = f"{why}; stop that one first"

        settings, wiring = self._settings, self._wiring
        strangers = ForeignWriter(
            contexts,
            self._gateway,
            self._suspicion,
            bus,
            wiring.clock,
            boot=boot,
            earlier=earlier_boots(settings.state_directory, wiring.account, settings.symbols),
            give_way=give_way,
        )
        execution.is_strangers = strangers.is_strangers
        return strangers

    async def _write(self, journal: JournalWorker) -> None:
        """Have the journal on disk, unless the disk hangs: what was closed is closed."""
        try:
            async with asyncio.timeout(self.FLUSH_S):
                await journal.flush()
        except TimeoutError:
            log.error("the journal of orders could not be written in time")

    async def _one(self, context: SymbolContext, flattening: Flattening, *, after_crash: bool) -> Report:
        """Close one symbol, round by round, until that is verified or the time is over.

        After a crash it is looked at once more when nothing that the last run sent is executed any more; and where
        orders of an unknown run rested, once nobody has placed them again for a while. Whoever does is left alone.
        """
        settled_ns = settled_ns_of(self._wiring.clock.monotonic_ns(), self._wiring.rest.recv_window_ms)
        began_ms = self._gateway.rest.server_clock.time_ms()
        found, before = await self._first_look(context)
        until_ns = self._wiring.clock.monotonic_ns() + int(self.DEADLINE_S * 1e9)
        orders = 0
        while True:
            result = await flattening.flatten(context)
            orders += result.orders
            now_ns = self._wiring.clock.monotonic_ns()
            if self._stranger:
                result = replace(result, is_flat=False, is_out=False, trouble=self._stranger)
                break
            if result.is_done and after_crash and now_ns < settled_ns:
                await asyncio.sleep((settled_ns - now_ns) / 1e9)
                continue
            if result.is_done and not self._suspicion.is_open and now_ns < until_ns:
                await asyncio.sleep(self.PAUSE_S)
                continue
            if result.is_done or now_ns >= until_ns:
                break
            log.warning("%s: not closed yet: %s", context.symbol, result.trouble)
            await asyncio.sleep(self.PAUSE_S)
        whole = replace(result, orders=orders)
        if whole.is_done:
            self._note_closed(context.symbol)
        deals = await self._deals(context, began_ms) if orders else None
        return Report(context.rules, found, before, whole, deals)

    def _note_closed(self, symbol: str) -> None:
        """Have a halt that stands not wait for a close any more; a disk that takes nothing has the next start look."""
        try:
            HaltLatch(self._settings.state_directory, self._wiring.account, symbol).finish()
        except OSError as error:
            log.error("%s: that it is closed could not be noted: %s", symbol, error.strerror)

    async def _first_look(self, context: SymbolContext) -> tuple[int | None, Decimal | None]:
        """Return how many orders of ours rest and what is held, for the report; None for what cannot be read."""
        try:
            resting = await self._gateway.open_orders(context.rules, is_ours)
            position = await self._gateway.witnessed_position(context.symbol)
        except ExchangeError as error:
            log.warning("%s: the first look failed: %s", context.symbol, error)
            return None, None
        return len(resting), position.quantity

    async def _deals(self, context: SymbolContext, since_ms: int) -> Deals | None:
        """Return what the closing orders have traded, as far as the exchange can be asked."""
        ids = {order.order_id for order in context.orders.takers()}
        try:
            trades = await self._gateway.user_trades(context.symbol, 0, since_ms - 1000)
            fills = [self._gateway.fill(trade, "") for trade in trades if trade["orderId"] in ids]
        except ExchangeError as error:
            log.warning("%s: the trades could not be read: %s", context.symbol, error)
            return None
        if not fills:
            return None
        fees: dict[str, Decimal] = {}
        for fill in fills:
            fees[fill.commission_asset] = fees.get(fill.commission_asset, Decimal(0)) + fill.commission
        return Deals(
            sum((fill.quantity for fill in fills), Decimal(0)),
            sum((fill.quantity * fill.price for fill in fills), Decimal(0)),
            sum((fill.realized_pnl_quote for fill in fills), Decimal(0)),
            ", ".join(f"{amount.normalize():f} {asset}" for asset, amount in fees.items()),
        )
