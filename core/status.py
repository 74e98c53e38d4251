"""What a person sees: the summary at the start, one status line every few seconds, the result at the end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

from core.context import SymbolContext
from core.events import (
    ConnectionEvent,
    ConnectionKind,
    EngineEvent,
    EngineKind,
    EventBus,
    Fact,
    OrderEvent,
    OrderKind,
)
from core.gate import STOPPING
from core.model import Side
from core.posture import Posture
from core.settings import RiskSettings, Settings
from utils.clock import Clock

log = logging.getLogger(__name__)
STATUS_LOG = "status"
"""Status lines go to a logger of this name, so that a terminal can show them apart."""
status_log = logging.getLogger(STATUS_LOG)


def log_summary(settings: Settings, contexts: Sequence[SymbolContext]) -> None:
    """Say what is about to happen: environment, symbol, rules, limits, and where the metrics are."""
    risk, safety = settings.risk, settings.safety
    where = f" at {settings.paper_url}" if settings.paper_url else ""
    log.info(
        "%s on %s%s, instance %s", settings.strategy_name, settings.environment, where, settings.instance_id
    )
    for context in contexts:
        rules, quotes = context.rules, context.settings
        log.info(
            "%s: %d levels a side, %s %s each, every %s %% from the mid, refreshed every %g s (%s)",
            rules.symbol,
            quotes.levels,
            f"{quotes.size_quote:f}",
            rules.quote_asset,
            f"{quotes.offset_percent:f}",
            quotes.refresh_interval_s,
            quotes.refresh_mode,
        )
        log.info(
            "%s: tick %s, step %s, minimum notional %s, leverage %d",
            rules.symbol,
            f"{rules.tick_size:f}",
            f"{rules.step_size:f}",
            f"{rules.min_notional_quote:f}",
            risk.leverage,
        )
    log.info(
        "position limit %s = capital %s × leverage %d × ratio %s, checked every %g s",
        f"{risk.position_limit_quote.normalize():f}",
        f"{risk.capital_quote:f}",
        risk.leverage,
        f"{risk.max_net_position_ratio:f}",
        risk.check_interval_s,
    )
    log.info("%s", _limits(risk))
    log.info(
        "quotes go out when the book is older than %d ms; the exchange cancels them when it misses us for %g s",
        safety.max_book_age_ms,
        safety.dead_man_window_s,
    )
    if settings.logs.log_to_csv:
        log.info("metrics: %s", _short(settings.logs.directory / "metrics-YYYYMMDD.csv"))
    else:
        log.info("metrics: none (logging.log_to_csv is false)")


def _limits(risk: RiskSettings) -> str:
    """Return the limits of loss, price change and orders in words."""
    loss = f"{risk.max_daily_loss_quote:f} a day (UTC)" if risk.max_daily_loss_quote else "none"
    change = f"{(risk.max_price_change * 100).normalize():f} % in {risk.price_change_window_s:g} s"
    return (
        f"loss limit {loss}, price change {change if risk.max_price_change else 'not limited'},"
        f" at most {risk.max_order_count} orders"
    )


def _short(path: Path) -> Path:
    """Return the path as a person in the present folder would type it."""
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def status_line(context: SymbolContext, net_pnl_quote: Decimal, now_ns: int) -> str:
    """Return one line with mid, quotes, position, profit and age of the data."""
    state, rules = context.state, context.rules
    age_ms = (now_ns - state.book_proven_ns) / 1e6 if state.book is not None else -1.0
    mid = f"{state.mid(rules):f}" if state.book is not None else "-"
    reasons = "" if context.gate.is_open else f" | NOT QUOTING: {'; '.join(context.gate.reasons)}"
    return (
        f"{rules.symbol} mid {mid} | {_side(context, Side.BUY, 'bids')} | {_side(context, Side.SELL, 'asks')}"
        f" | position {position_text(context)} | fills {context.ledger.fill_count} | PnL {net_pnl_quote:+.2f}"
        f"{_day(context)} | data {age_ms:.0f} ms{_upkeep(context, now_ns)}{_posture(context)}"
        f"{_refusal(context)}{_no_room(context)}{reasons}"
    )


def position_text(context: SymbolContext) -> str:
    """Return the position in words."""
    held = context.told_position
    return f"{held:f}" if held is not None else "unknown"


def _upkeep(context: SymbolContext, now_ns: int) -> str:
    """Return what was amended last and why, and how long it is until the next timed reset."""
    state = context.state
    change = f" | {state.last_change}" if state.last_change else ""
    left_s = max(state.reset_due_ns - now_ns, 0) / 1e9
    return change + (f" | reset in {left_s:.0f} s" if state.reset_due_ns else "")


def _day(context: SymbolContext) -> str:
    """Return what has been made since 00:00 UTC, as far as it is counted."""
    return f" | today {context.day.quote:+.2f}" if context.day is not None else ""


def _posture(context: SymbolContext) -> str:
    """Return how far risk holds the quotes back, nothing while it does not."""
    return "" if context.posture is Posture.NORMAL else f" | {context.posture.label}"


def _refusal(context: SymbolContext) -> str:
    """Return why quotes are held back that the exchange keeps refusing, nothing while none are, or none may rest."""
    return f" | REFUSED: {context.refusal}" if context.refusal and context.gate.is_open else ""


def _no_room(context: SymbolContext) -> str:
    """Return that and for how long the request limits hold up what quoting takes, nothing while they do not."""
    return f" | {context.no_room}" if context.no_room else ""


def _side(context: SymbolContext, side: Side, name: str) -> str:
    """Return how many orders rest on a side, and the price of the one nearest to the mid."""
    prices = [order.price_ticks for order in context.orders.living() if order.side is side]
    if not prices:
        return f"no {name}"
    nearest = max(prices) if side is Side.BUY else min(prices)
    return f"{len(prices)} {name} from {context.rules.price_text(nearest)}"


class StatusReporter:
    """Prints the status lines, and the events that matter to a person as they happen."""

    name = "status"

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        bus: EventBus,
        clock: Clock,
        interval_s: float,
        net_pnl_quote: Callable[[], Decimal],
    ) -> None:
        self._contexts = contexts
        self._bus = bus
        self._clock = clock
        self._interval_s = interval_s
        self._net_pnl_quote = net_pnl_quote
        self._was_open: dict[str, bool] = {context.symbol: False for context in contexts}
        self._has_quoted: set[str] = set()
        self._bus_troubles = (0, 0, 0)
        bus.subscribe(self._on_fact, OrderEvent, ConnectionEvent, name="status")
        for context in contexts:
            context.gate.listen(partial(self._gate_changed, context))

    async def run(self) -> None:
        """Print a line for each symbol at the interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            for context in self._contexts:
                pnl = self._net_pnl_quote() if len(self._contexts) == 1 else self._pnl_of(context)
                status_log.info("%s", status_line(context, pnl, self._clock.monotonic_ns()))
            self._tell_of_bus()

    def text(self) -> str:
        """Return the status line of each symbol, in one."""
        now_ns = self._clock.monotonic_ns()
        return " || ".join(status_line(each, self._pnl_of(each), now_ns) for each in self._contexts)

    def _tell_of_bus(self) -> None:
        """Say that watchers fail or are too slow, whenever it has become more."""
        statistics = self._bus.statistics()
        troubles = (statistics.failures, statistics.dropped, statistics.lost)
        if troubles != self._bus_troubles:
            self._bus_troubles = troubles
            log.warning("some watchers of events are in trouble: %s", statistics)

    def _pnl_of(self, context: SymbolContext) -> Decimal:
        return context.ledger.pnl_quote(context.state.mark_price, context.rules.quote_asset)

    def _gate_changed(self, context: SymbolContext) -> None:
        is_open = context.gate.is_open
        if is_open == self._was_open[context.symbol]:
            return
        self._was_open[context.symbol] = is_open
        reasons = "; ".join(context.gate.reasons)
        kind = EngineKind.GATE_OPEN if is_open else EngineKind.GATE_CLOSED
        self._bus.publish(EngineEvent(kind, reasons, context.symbol))
        if is_open:
            log.info("%s: quoting", context.symbol)
        elif STOPPING not in context.gate.reasons:
            log.warning("%s: not quoting: %s", context.symbol, reasons)

    def _on_fact(self, fact: Fact) -> None:
        match fact:
            case OrderEvent(kind=OrderKind.PLACED) if fact.symbol not in self._has_quoted:
                self._has_quoted.add(fact.symbol)
                log.info(
                    "%s: first quote rests: %s %s at %s",
                    fact.symbol,
                    fact.side.lower(),
                    fact.quantity,
                    fact.price,
                )
            case ConnectionEvent(kind=ConnectionKind.UP):
                log.info("%s stream connected", fact.name)
            case ConnectionEvent(kind=ConnectionKind.DEAD_MAN | ConnectionKind.FRESH):
                log.info("%s %s", fact.name, fact.details or fact.kind)

    def log_result(self, *, verified: bool) -> None:
        """Say how the run ended."""
        for context in self._contexts:
            ledger, rules = context.ledger, context.rules
            log.info(
                "%s: %d fills, position %s %s, fees %s %s, profit after fees %s %s",
                rules.symbol,
                ledger.fill_count,
                position_text(context),
                rules.base_asset,
                f"{ledger.fees_in(rules.quote_asset):f}",
                rules.quote_asset,
                f"{self._pnl_of(context):.4f}",
                rules.quote_asset,
            )
        log.info("no order of ours rests: %s", "verified" if verified else "NOT VERIFIED")
