"""The daemon: workers around the shared state, from the first question to the last verified cancel."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.amend_queue import AmendQueue
from core.boot_number import earlier_boots
from core.client_ids import ClientIds
from core.closing_start import Prepared
from core.context import SymbolContext
from core.day_file import DayFile
from core.day_keeper import DayKeeper
from core.events import EngineEvent, EngineKind, EventBus
from core.execution import ExecutionEngine
from core.exit_code import ExitCode
from core.flatten import Terms
from core.flattening import Flattening
from core.foreign_writer import ForeignWriter
from core.gate import STOPPING, Gate
from core.gateway import Gateway
from core.halt import Halt, HaltLatch
from core.journal import KEEP_DAYS, JournalFile
from core.journal_worker import JournalWorker
from core.key_keeper import KeyKeeper
from core.kill_switch import KillSwitch
from core.last_look import LastLook
from core.live_order import settled_ns
from core.logger import LoggerWorker
from core.loop_watch import LoopWatch
from core.market import MarketDataWorker
from core.metrics_file import MetricsFile
from core.order_manager import OrderManager
from core.order_transport import OrderSocket
from core.recovery import RecoveryManager
from core.resource_watch import ResourceWatch
from core.restarts import StartProof
from core.risk_controller import RiskController
from core.settings import Settings
from core.shutdown import StopRequest
from core.status import StatusReporter, log_summary
from core.supervisor import Supervisor, Worker, WorkerGaveUp
from core.systemd import Heartbeat, to_nobody
from core.wiring import Wiring
from utils.ws import WsTransport
from utils.ws_governor import ConnectionGovernor, GovernedTransport

log = logging.getLogger(__name__)


def latches_of(settings: Settings, account: str) -> dict[str, HaltLatch]:
    """Return the latch of each symbol on the account."""
    return {symbol: HaltLatch(settings.state_directory, account, symbol) for symbol in settings.symbols}


@dataclass(frozen=True, slots=True)
class Records:
    """The files that the runs of one process write to, one after the other; ``metrics`` is None if none are wanted.

    Each is opened once, and marked as written to for as long as the process lives: one for each run would stay open,
    and a day that is over would be taken for one that somebody writes to.
    """

    journal: JournalFile
    metrics: MetricsFile | None


def records_of(settings: Settings, account: str) -> Records:
    """Return the files of this account that nobody has written to yet."""
    logs = settings.logs
    metrics = MetricsFile(
        logs.directory, settings.instance_id, settings.environment.value, logs.max_metrics_mb
    )
    journal = JournalFile(settings.state_directory, account, KEEP_DAYS)
    return Records(journal, metrics if logs.log_to_csv else None)


class Engine:
    """One run after a successful preflight: the parts, put together, and their orderly end."""

    LOCK_PATIENCE_S = 1.0
    HURRIED_S = 1.0
    LAST_WORDS_S = 0.5
    FLUSH_S = 1.0
    CLOSE_PATIENCE_S = 10.0
    """A stop waits so long for a close that is under way; deploy/ has to allow for it."""

    def __init__(
        self,
        settings: Settings,
        wiring: Wiring,
        gateway: Gateway,
        prepared: Prepared,
        stop: StopRequest,
        *,
        records: Records,
        closes: Sequence[Halt],
        after_crash: bool,
        boot: int,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._after_crash = after_crash
        self._began_ns = wiring.clock.monotonic_ns()
        self._changed = asyncio.Event()
        self.begins_anew = False
        """Whether the run has ended because it has to begin anew, and not because somebody has asked it to stop."""
        self.has_begun = False
        """Whether it came as far as holding its positions to their limits: one that finds a halt ends before that."""
        self.is_close_noted = True
        """Whether a close that this run leaves unfinished, if it does, stands on disk for the next one."""
        self._clock = wiring.clock
        self._gateway = self.gateway = gateway
        self.bus = EventBus(wiring.clock)
        self.gate = Gate(last_word=lambda: self.loop_watch.objection())
        self.contexts = [
            SymbolContext(
                settings=quotes,
                rules=prepared.rules[quotes.symbol],
                state=wiring.state.add(quotes.symbol),
                gate=Gate(self.gate),
                limits=settings.risk,
            )
            for quotes in settings.quotes
        ]
        self._closes = closes
        self._is_finishing_close = bool(closes)
        """Whether this run does nothing but finish what an earlier one had to close."""
        self._heartbeat = Heartbeat(
            wiring.notify,
            wiring.clock,
            progress=self._progress,
            is_open=lambda: all(context.gate.is_open for context in self.contexts),
            status=lambda: self._status.text(),
        )
        self.loop_watch = self._watch_of_the_loop(wiring)
        self._latches = latches_of(settings, wiring.account)
        self.execution = ExecutionEngine(
            gateway,
            wiring.clock,
            self.bus,
            ClientIds(settings.instance_id, boot),
            recv_window_ms=wiring.rest.recv_window_ms,
            max_book_age_ms=settings.safety.max_book_age_ms,
            amend_queue=AmendQueue(
                gateway.amend,
                wiring.clock,
                workers=settings.execution.modify_worker_count,
                per_second=settings.execution.modify_rate_limit,
                max_pending=settings.manage.max_pending_modifications,
                prefers_singles=gateway.amends_singly,
                send_now=gateway.start_amend,
            ),
        )
        for context in self.contexts:
            context.gate.listen(self.execution.amend_queue.recheck)
            context.gate.listen(gateway.lanes.recheck)
        self.foreign = ForeignWriter(
            self.contexts,
            gateway,
            self.gate,
            self.bus,
            wiring.clock,
            boot=boot,
            earlier=earlier_boots(
                settings.state_directory, wiring.account, settings.symbols if wiring.is_shared else ()
            ),
            give_way=lambda reason: stop.want(reason, failed=True),
        )
        self.execution.is_strangers = self.foreign.is_strangers
        self._build_workers(wiring, records, prepared.wallet_quote)

    def _watch_of_the_loop(self, wiring: Wiring) -> LoopWatch:
        """Return what has the gate's last word; whom it tells of what it finds is put together later."""
        switch = self._switch = wiring.kill_switch or KillSwitch(
            self._settings.state_directory, wiring.clock.monotonic_ns
        )
        watch = LoopWatch(
            self.contexts,
            self.gate,
            wiring.rest,
            self.bus,
            wiring.clock,
            switch,
            self._settings.safety.max_loop_lag_ms,
            hold=lambda symbol, reason: self.risk.hold(symbol, reason),
            is_held=lambda symbol: self.risk.is_held(symbol),
            on_jump=lambda reason: self.recovery.request_reconcile(reason),
            on_turn=self._heartbeat.beat if wiring.notify is not to_nobody else None,
        )
        switch.on_throw = watch.look_at_switch
        return watch

    def _progress(self) -> list[int]:
        """Return numbers that grow only while the control loops of this run work."""
        turns = self.risk.checks if self._is_finishing_close else self.orders.alive
        return [turns[context.symbol] for context in self.contexts]

    def _build_workers(self, wiring: Wiring, records: Records, wallet_quote: Decimal | None) -> None:
        """Put the workers together; each is handed those before it."""
        governor = ConnectionGovernor()
        streams = GovernedTransport(wiring.streams, governor, wiring.clock)
        self._build_records(wiring, records, wallet_quote)
        self.order_socket = self._order_socket(wiring, governor)
        self.resources = self._resource_watch(wiring)
        self.start_proof = self._start_proof(wiring)
        self._build_market(wiring, streams)
        self._build_risk(wiring)
        self._build_recovery(wiring, streams)
        self.keys = KeyKeeper(self._gateway, wiring.wallet, self.gate)
        self._status = StatusReporter(
            self.contexts,
            self.bus,
            wiring.clock,
            self._settings.logs.status_interval_s,
            self.metrics.net_pnl_quote,
        )

    def _build_records(self, wiring: Wiring, records: Records, wallet_quote: Decimal | None) -> None:
        """Put together what writes down what happens."""
        settings = self._settings
        self.metrics = LoggerWorker(
            self.contexts,
            self._gateway,
            self.bus,
            wiring.clock,
            records.metrics,
            wiring.run_blocking,
            amend_queue=self.execution.amend_queue,
            limit_quote=settings.risk.position_limit_quote,
            wallet_quote=wallet_quote,
        )
        self.journal = JournalWorker(
            self.contexts,
            wiring.clock,
            records.journal,
            wiring.run_blocking,
            self.gate,
            self.bus,
        )

    def _build_market(self, wiring: Wiring, streams: WsTransport) -> None:
        """Put together what follows the market, and what has the orders follow it."""
        settings = self._settings
        self.market = MarketDataWorker(
            self.contexts,
            self._gateway,
            streams,
            self.bus,
            wiring.clock,
            wiring.rng,
            settings.safety.max_book_age_ms,
            settings.market_data,
        )
        self.orders = OrderManager(self.contexts, self.execution, self.bus, wiring.clock, settings.manage)

    def _build_risk(self, wiring: Wiring) -> None:
        """Put together what counts the day and keeps the limits."""
        settings = self._settings
        self.days = DayKeeper(
            self.contexts,
            self._gateway,
            self.bus,
            wiring.clock,
            settings.risk.max_daily_loss_quote,
            settings.risk.check_interval_s,
            {s: DayFile(settings.state_directory, wiring.account, s) for s in settings.symbols},
            wiring.account,
            wiring.run_blocking,
            look_for_cash=lambda: self.recovery.cash.look_soon(),
        )
        self.risk = RiskController(
            self.contexts,
            self._gateway,
            Flattening(
                self._gateway,
                self.execution,
                wiring.clock,
                Terms(settings.risk.flatten_max_slippage_bps, settings.risk.flatten_deadline_s),
                max_book_age_ms=settings.safety.max_book_age_ms,
            ),
            self.bus,
            wiring.clock,
            settings.risk,
            self._latches,
            wiring.run_blocking,
            self.days,
            on_difference=lambda reason: self.recovery.request_reconcile(reason),
            on_latched=lambda symbol: self._looks[symbol].halted(),
            max_book_age_ms=settings.safety.max_book_age_ms,
        )

    def _build_recovery(self, wiring: Wiring, streams: WsTransport) -> None:
        """Put together what keeps the books equal to the exchange's; the metrics tell of its cash."""
        settings = self._settings
        state, account, now_ms = settings.state_directory, wiring.account, wiring.rest.server_clock.time_ms
        self._looks = {
            each: LastLook(state, account, each, wiring.run_blocking, now_ms) for each in settings.symbols
        }
        self.recovery = RecoveryManager(
            self.contexts,
            self._gateway,
            self.execution,
            streams,
            self.bus,
            wiring.clock,
            wiring.rng,
            self.gate,
            settings.safety,
            leverage=settings.risk.leverage,
            progress=self.orders.progress.__getitem__,
            on_fill=self.risk.check_now,
            on_forced=self.risk.halt,
            on_new_units=self._begin_anew,
            looks=self._looks,
            after_crash=self._after_crash,
        )
        self.recovery.dead_man.is_anothers = lambda: self.foreign.is_seen
        cash = self.recovery.cash
        self.metrics.wallet_moves = lambda: (cash.transfers_quote, cash.other_quote)
        self.metrics.wallet_base = lambda: cash.base_quote

    def _resource_watch(self, wiring: Wiring) -> ResourceWatch | None:
        """Return the worker that watches the machine, None if there is none to be asked."""
        if wiring.machine is None:
            return None
        return ResourceWatch(
            wiring.machine,
            self._settings.folders,
            self._settings.safety.max_memory_mb,
            self.bus,
            wiring.run_blocking,
            lambda reason: self._stop.want(reason, failed=True),
        )

    def _start_proof(self, wiring: Wiring) -> StartProof | None:
        if wiring.restarts is None:
            return None
        return StartProof(wiring.restarts, [context.gate for context in self.contexts], wiring.run_blocking)

    def _order_socket(self, wiring: Wiring, governor: ConnectionGovernor) -> OrderSocket | None:
        """Return the worker that carries orders by the WebSocket API, None if REST is to do it."""
        if self._settings.execution.order_transport != "ws" or wiring.order_api is None:
            return None
        transport = GovernedTransport(wiring.order_api, governor, wiring.clock)
        return OrderSocket(wiring.rest, self._gateway.lanes, transport, self.bus, wiring.clock, wiring.rng)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Return the workers, in the order in which they are started."""
        optional: tuple[Worker | None, ...] = (self.order_socket, self.resources, self.start_proof)
        return (
            *(worker for worker in optional if worker is not None),
            self.bus,
            self.metrics,
            self.journal,
            self.market,
            self.loop_watch,
            self.foreign,
            self.risk,
            self.recovery,
            self.orders,
            self.keys,
            self._status,
        )

    @property
    def closers(self) -> tuple[Worker, ...]:
        """Return the workers of a run that does nothing but finish a close."""
        optional = (self.order_socket,) if self.order_socket is not None else ()
        return (
            *optional,
            self.bus,
            self.metrics,
            self.journal,
            self.loop_watch,
            self.risk,
            self._status,
        )

    async def run(self) -> ExitCode:
        """Work until asked to stop, or until a worker gives up; then end in order.

        Where a halt stands that ends at once, or when what it had to close is closed.
        """
        self._gateway.lanes.budget.keep_reserve()
        log_summary(self._settings, self.contexts)
        self.bus.publish(EngineEvent(EngineKind.STARTED, f"{self._settings.environment}"))
        self.journal.started()
        if self._is_finishing_close:
            self._take_up_closes()
        elif self._halt_stands():
            return await self._end(ExitCode.HALTED, [])
        self.has_begun = True
        supervisor = Supervisor(
            self._settings.safety.restart_budget,
            self._settings.safety.restart_window_s,
            self._clock,
            self.bus,
            self.gate,
        )
        quiet = (
            *(self.bus, self.metrics, self.journal, self._status),
            *(self.order_socket, self.resources, self.start_proof),
        )
        workers = self.closers if self._is_finishing_close else self.workers
        tasks = [
            asyncio.ensure_future(supervisor.keep(worker, guards_quotes=worker not in quiet))
            for worker in workers
        ]
        try:
            code = await self._until_stop(tasks)
            kept = self.order_socket  # the last cancels may have no other way
            ending = [task for worker, task in zip(workers, tasks, strict=True) if worker is not kept]
            return await self._end(code, ending)
        finally:  # also when this is cancelled from outside, which ends everything at once
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _halt_stands(self) -> bool:
        if reason := self._switch.reason():
            self._latch_all(reason)
        halts = [halt for latch in self._latches.values() if (halt := latch.read()) is not None]
        for halt in halts:
            log.error(
                "%s is halted (%s); look at the position, then clear the halt with `python main.py resume`",
                halt.symbol,
                halt.reason,
            )
        return bool(halts)

    def _take_up_closes(self) -> None:
        """Have what an earlier run began to close be closed; nothing is quoted meanwhile, or afterwards."""
        now_ns = self._clock.monotonic_ns()
        late_ns = settled_ns(now_ns, self._gateway.rest.recv_window_ms) if self._after_crash else now_ns
        self.gate.close("closing", "a close that an earlier run began is being finished")
        for halt in self._closes:
            text = (
                "%s is halted (%s), and nobody has verified that its position is closed; going on with that"
            )
            log.critical(text, halt.symbol, halt.reason)
            self.risk.take_up(halt, late_ns)

    def _begin_anew(self, reason: str) -> None:
        """Have this run end in order, and another one begin; not while a position has to be closed, or is kept.

        The close learns new rules by itself, and whoever watches them asks again. A run that is halted would end for
        good, and nobody would hold the position to its limits any more.
        """
        if self.risk.is_closing or any(self.risk.is_held(each.symbol) for each in self.contexts):
            return
        self.gate.close("changed", reason)
        self._changed.set()

    def _latch_all(self, reason: str) -> None:
        """Have a halt stand on disk for every symbol that none stands for."""
        for symbol, latch in self._latches.items():
            if latch.read() is None:
                try:
                    latch.engage(reason, self._clock.time_ms())
                except OSError as error:
                    log.critical("%s: the halt (%s) could not be written: %s", symbol, reason, error.strerror)

    async def _until_stop(self, tasks: Sequence[asyncio.Future[None]]) -> ExitCode:
        asked: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._stop.wanted()),
            asyncio.ensure_future(self._changed.wait()),
        ]
        if self._is_finishing_close:
            asked.append(asyncio.ensure_future(self.risk.closed()))
        try:
            await asyncio.wait([*asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in asked:
                future.cancel()
        for task in tasks:
            if task.done():
                error = None if task.cancelled() else task.exception()
                trace = None if isinstance(error, WorkerGaveUp) else error
                log.critical("stopping: %s", error or "a worker was cancelled", exc_info=trace)
                return ExitCode.FAULT
        if self._changed.is_set() and not self._stop.is_wanted:
            self.begins_anew = True
            log.warning("ending this run to begin another one")
            return ExitCode.STOPPED
        if self._is_finishing_close and not (self._stop.is_wanted or self.risk.is_closing):
            log.error(
                "what the last run had to close is closed; the halt stands until `python main.py resume`"
            )
            return ExitCode.HALTED
        log.info("stopping: %s", self._stop.reason)
        if self.foreign.gave_way:
            return ExitCode.REFUSED
        return ExitCode.FAULT if self._stop.failed else ExitCode.STOPPED

    # --- the end ----------------------------------------------------------------------------------------------

    async def _end(self, code: ExitCode, tasks: Sequence[asyncio.Future[None]]) -> ExitCode:
        """Close the gate, take the quotes out, verify, say so, flush; a second request to stop bounds all of it."""
        self.gate.close(STOPPING, STOPPING)
        self.bus.publish(EngineEvent(EngineKind.STOPPING, self._stop.reason))
        if not self.begins_anew:  # else the process goes on, and must not be waited for to end
            self._heartbeat.stopping(self._stop.reason or code.name.lower())
        is_closed = code is ExitCode.REFUSED or await self._closed_in_time()
        verified = await self._withdraw_for_good(tasks)
        if reason := self._switch.reason():  # it may have come too late for anybody to note it
            self._latch_all(reason)
            code = ExitCode.HALTED if code is ExitCode.STOPPED else code
        for context in self.contexts:
            if context.state.strategy_paused and code is ExitCode.STOPPED:
                code = ExitCode.HALTED
        if is_closed and code is not ExitCode.REFUSED and self.risk.is_closing:
            is_closed = False  # a breach that was found while the quotes were taken out
            await self._say_not_flat()
        if not is_closed:
            code = ExitCode.FAULT
        if not verified:
            log.critical(
                "could not verify that no order of ours rests; the exchange's dead-man switch cancels them"
                " within %.0f s. Look at the open orders.",
                self._settings.safety.dead_man_window_s,
            )
            code = ExitCode.NOT_VERIFIED
        else:
            self.journal.stopped()
        self.bus.publish(EngineEvent(EngineKind.STOPPED, code.name.lower()))
        self._status.log_result(verified=verified)
        for context in self.contexts:
            self.days.save(context)
        await asyncio.gather(self.days.finish(), *(look.finish() for look in self._looks.values()))
        log.info("%s", self.bus.statistics())
        await self._flush()
        return code

    async def _closed_in_time(self) -> bool:
        """Give a close that is under way a bounded time, which a second request to stop ends; tell if it sufficed."""
        if not self.risk.is_closing:
            await self.risk.closed()  # its record may be on its way to the disk
            return True
        log.warning("stopping in the middle of a close: %.0f s more for it", self.CLOSE_PATIENCE_S)
        closing = asyncio.ensure_future(self.risk.closed())
        hurrying = asyncio.ensure_future(self._stop.hurried())
        try:
            await asyncio.wait(
                {closing, hurrying}, timeout=self.CLOSE_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (closing, hurrying):
                task.cancel()
            await asyncio.gather(closing, hurrying, return_exceptions=True)
        if self.risk.is_closing:
            await self._say_not_flat()
        return not self.risk.is_closing

    async def _say_not_flat(self) -> None:
        self.is_close_noted = await self.risk.is_close_noted()
        what_next = (
            "The next start goes on with it; or run `python main.py flatten`"
            if self.is_close_noted
            else "The halt is not on disk, so the next start does not know of it: run `python main.py flatten`"
        )
        log.critical("NOT FLAT: ending before the position was verified to be closed. %s", what_next)

    async def _flush(self) -> None:
        """Write the last metrics and what became of the orders, unless the disk hangs. That fails no end."""
        try:
            async with asyncio.timeout(self.FLUSH_S):
                await self.journal.flush()
        except TimeoutError:
            log.error("the journal of orders could not be written in time")
        try:
            self.metrics.collect()
            async with asyncio.timeout(self.FLUSH_S):
                await self.metrics.flush()
        except TimeoutError:
            log.error("the last metrics could not be written in time")
        except Exception as error:
            log.error("the last metrics could not be made: %s", error, exc_info=error)

    async def _withdraw_for_good(self, tasks: Sequence[asyncio.Future[None]]) -> bool:
        work = asyncio.ensure_future(self._stop_and_withdraw(tasks))
        hurrying = asyncio.ensure_future(self._stop.hurried())
        try:
            await asyncio.wait({work, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                log.warning("hurrying: %.0f s more for the cancels", self.HURRIED_S)
                await asyncio.wait({work}, timeout=self.HURRIED_S)
            if work.done() and (error := work.exception()) is not None:
                log.critical("the stop itself failed: %s", error, exc_info=error)
                return False
            return work.done() and work.result()
        finally:
            for task in (work, hurrying):
                task.cancel()
            await asyncio.gather(work, hurrying, return_exceptions=True)

    async def _stop_and_withdraw(self, tasks: Sequence[asyncio.Future[None]]) -> bool:
        """Let requests under way come back, stop the workers, and cancel until the exchange confirms no order."""
        deadline_s = self._settings.safety.stop_timeout_s
        started_ns = self._clock.monotonic_ns()
        if not self.risk.is_closing:  # a close that was given its time already would hold on to the lock
            await asyncio.gather(*(self._wait_for_requests(context) for context in self.contexts))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gateway.lanes.budget.release_reserve()
        until_ns = started_ns + int(deadline_s * 1e9)
        verified = await self._withdraw_all(until_ns)
        if verified and self._after_crash and not all(context.ledger.is_open for context in self.contexts):
            verified = await self._withdraw_what_comes_late(until_ns)
        if verified:
            await self._last_words()
        return verified

    async def _withdraw_all(self, until_ns: int) -> bool:
        """Cancel until the exchange confirms that no order of ours rests, or until then; return whether it did."""
        left_s = max((until_ns - self._clock.monotonic_ns()) / 1e9, 0.5)
        return all(
            await asyncio.gather(*(self.execution.withdraw(context, left_s) for context in self.contexts))
        )

    async def _withdraw_what_comes_late(self, until_ns: int) -> bool:
        """Withdraw again when nothing that a run before this one sent, which was killed, is executed any more.

        The reconciliation has not looked twice. A stop has no time beyond its deadline: then nothing is verified, and
        the countdown that the killed run left is not disarmed.
        """
        late_ns = settled_ns(self._began_ns, self._gateway.rest.recv_window_ms)
        if late_ns > until_ns and self._stop.is_wanted:
            return False
        wait_s = max(late_ns - self._clock.monotonic_ns(), 0) / 1e9
        log.info("the last run did not end well; looking again for its orders in %.1f s", wait_s)
        await asyncio.sleep(wait_s)
        return await self._withdraw_all(until_ns)

    async def _wait_for_requests(self, context: SymbolContext) -> None:
        """Wait, not for long, until nobody changes orders: a request that is cut off leaves an order in doubt."""
        try:
            async with asyncio.timeout(self.LOCK_PATIENCE_S), context.lock:
                pass
        except TimeoutError:
            log.warning("%s: stopping with a request under way", context.symbol)

    async def _last_words(self) -> None:
        """Disarm the dead-man switch, now that no order rests, and count the last trades; neither for long.

        A run that another one follows waits until a disarming without an answer can be executed no more: it would
        take the switch from the quotes of the next one.
        """
        asked_ns = self._clock.monotonic_ns()
        disarmed = await self._last_word(
            "the dead-man switch could not be disarmed", self.recovery.dead_man.disarm
        )
        await self._last_word("the last trades could not be read", self._count_last_trades)
        if self.begins_anew and not disarmed:
            late_ns = settled_ns(asked_ns, self._gateway.rest.recv_window_ms)
            with suppress(TimeoutError):  # a stop that is asked for meanwhile has no run to wait for
                async with asyncio.timeout(max(late_ns - self._clock.monotonic_ns(), 0) / 1e9):
                    await self._stop.wanted()

    async def _last_word(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Have this done, and return True; say so if it could not be, in time or at all, and return False."""
        try:
            async with asyncio.timeout(self.LAST_WORDS_S):
                await work()
        except Exception as error:  # noqa: BLE001 - that no order rests is verified, whatever this brings
            log.warning("%s: %s", what, str(error) or "no answer in time")
            return False
        return True

    async def _count_last_trades(self) -> None:
        for context in self.contexts:
            if context.ledger.is_open:
                await self.recovery.reconciler.count_missed_trades(context)
            context.state.exchange_position = await self._gateway.position(context.symbol)
