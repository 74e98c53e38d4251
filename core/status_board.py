"""What a running daemon tells of itself: one object of plain values, and the text that a person reads of it."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.context import SymbolContext
from core.engine import Engine
from core.events import ConnectionEvent, ConnectionKind, EngineEvent, EngineKind, Fact
from core.live_order import LiveOrder
from core.settings import Settings
from utils.clock import Clock
from utils.redaction import redact

MAX_ORDERS = 200
MAX_TEXT = 300
PACKAGES = ("commands", "core", "utils")

Json = dict[str, Any]


def build_of(root: Path) -> str:
    """Return a short hash of the program's own source: the same for the same program."""
    digest = hashlib.sha256()
    files = [file for name in PACKAGES for file in (root / name).glob("*.py")]
    for path in sorted([root / "main.py", *files]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _told(text: str) -> str:
    """Return words that may be the exchange's, short and without secrets: a client reads them as they are."""
    return redact(text)[:MAX_TEXT]


def config_of(settings: Settings) -> str:
    """Return a short hash of the settings, which hold no keys."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]


class StatusBoard:
    """Follows one engine after the other, by reading and listening only; ``snapshot`` is what is true now."""

    def __init__(self, settings: Settings, account: str, clock: Clock, build: str) -> None:
        self._settings = settings
        self._account = account
        self._clock = clock
        self._build = build
        self._began_ns = clock.monotonic_ns()
        self._engine: Engine | None = None
        self._closed_ns: dict[str, dict[str, int]] = {}
        self._streams: dict[str, tuple[bool, int]] = {}
        self._reconciled_ns: dict[str, int] = {}
        self._restarts = 0
        self._wait, self._wait_ns = "", 0

    def waits_for(self, reason: str) -> None:
        """Tell of this as what the start waits for from now on; "" says that it waits no more."""
        if bool(reason) != bool(self._wait):
            self._wait_ns = self._clock.monotonic_ns()
        self._wait = reason

    def follow(self, engine: Engine) -> None:
        """Tell of this engine from now on."""
        self._engine = engine
        self._closed_ns = {context.symbol: {} for context in engine.contexts}
        self._streams.clear()
        self._reconciled_ns.clear()
        engine.bus.subscribe(self._note, ConnectionEvent, EngineEvent, name="status socket")
        for context in engine.contexts:
            context.gate.listen(self._note_gates)
        self._note_gates()

    def _note_gates(self) -> None:
        """Remember since when each key has been closed."""
        now_ns = self._clock.monotonic_ns()
        for context in self._engine.contexts if self._engine is not None else ():
            before = self._closed_ns[context.symbol]
            self._closed_ns[context.symbol] = {key: before.get(key, now_ns) for key in context.gate.closed_by}

    def _note(self, fact: Fact) -> None:
        now_ns = self._clock.monotonic_ns()
        match fact:
            case ConnectionEvent(kind=ConnectionKind.UP | ConnectionKind.DOWN):
                self._streams[fact.name] = fact.kind is ConnectionKind.UP, now_ns
            case ConnectionEvent(kind=ConnectionKind.RECONCILED):
                self._reconciled_ns[fact.symbol] = now_ns
            case EngineEvent(kind=EngineKind.WORKER_RESTARTED):
                self._restarts += 1

    def snapshot(self) -> Json:
        """Return what is true now; every list and text in it is bounded, and no key or secret is among it."""
        settings = self._settings
        found: Json = {
            "env": settings.environment.value,
            "account": self._account,
            "instance_id": settings.instance_id,
            "pid": os.getpid(),
            "uptime_s": self._age_s(self._began_ns),
            "build": self._build,
            "config": config_of(settings),
            "worker_restarts": self._restarts,
            "symbols": {},
        }
        if self._wait:
            found["start"] = {"reason": _told(self._wait), "since_s": self._age_s(self._wait_ns)}
        if self._engine is None or self._wait:
            return found
        engine = self._engine
        found["net_pnl_quote"] = f"{engine.metrics.net_pnl_quote():.4f}"
        found["rates"] = self._rates(engine)
        found["streams"] = {
            name[:MAX_TEXT]: {"up": is_up, "since_s": self._age_s(since_ns)}
            for name, (is_up, since_ns) in list(self._streams.items())[:MAX_ORDERS]
        }
        found["symbols"] = {context.symbol: self._symbol(engine, context) for context in engine.contexts}
        return found

    def _age_s(self, since_ns: int) -> float:
        return round((self._clock.monotonic_ns() - since_ns) / 1e9, 3)

    @staticmethod
    def _rates(engine: Engine) -> Json:
        lanes = engine.gateway.lanes
        budget = lanes.budget
        limits = (budget.weight.limit, budget.orders_10s.limit, budget.orders_1m.limit)
        names = ("weight_1m", "orders_10s", "orders_1m")
        return {
            name: {"used": used, "limit": limit}
            for name, used, limit in zip(names, lanes.used(), limits, strict=True)
        }

    def _symbol(self, engine: Engine, context: SymbolContext) -> Json:
        state, rules, orders = context.state, context.rules, context.orders.living()
        reading = state.exchange_position
        reconciled_ns = self._reconciled_ns.get(context.symbol)
        return {
            "quoting": context.gate.is_open,
            "paused": state.strategy_paused,
            "gate": self._gate(context),
            "posture": {"step": context.posture.label, "reason": _told(context.posture_reason)},
            "position": {
                "ours": f"{context.ledger.position_quantity:f}" if context.ledger.is_open else None,
                "exchange": None if reading is None else f"{reading.quantity:f}",
                "asset": rules.base_asset,
            },
            "mid": f"{state.mid(rules):f}",
            "mark_price": f"{state.mark_price:f}",
            "book_age_ms": round((self._clock.monotonic_ns() - state.book_proven_ns) / 1e6)
            if state.book is not None
            else None,
            "orders_total": len(orders),
            "orders": [self._order(context, order) for order in orders[:MAX_ORDERS]],
            "fills": context.ledger.fill_count,
            "day_result_quote": None if context.day is None else f"{context.day.quote:.4f}",
            "dead_man": self._dead_man(engine, context),
            "reconciled_s_ago": None if reconciled_ns is None else self._age_s(reconciled_ns),
        }

    def _gate(self, context: SymbolContext) -> list[Json]:
        since = self._closed_ns[context.symbol]
        return [
            {
                "key": key,
                "reason": _told(reason),
                "since_s": self._age_s(since[key]) if key in since else 0.0,
            }
            for key, reason in context.gate.closed_by.items()
        ]

    def _order(self, context: SymbolContext, order: LiveOrder) -> Json:
        rules = context.rules
        return {
            "client_id": order.client_id[:MAX_TEXT],
            "side": order.side.value,
            "level": order.level,
            "price": rules.price_text(order.price_ticks),
            "quantity": rules.quantity_text(order.lots),
            "executed": f"{order.executed_quantity(rules):f}",
            "state": str(order.state),
            "age_s": self._age_s(order.sent_ns),
        }

    def _dead_man(self, engine: Engine, context: SymbolContext) -> Json:
        window_s = self._settings.safety.dead_man_window_s
        age_s = engine.recovery.dead_man.ack_age_s(context.symbol)
        return {
            "armed": age_s is not None and age_s <= window_s,
            "ack_age_s": None if age_s is None else round(age_s, 3),
            "window_s": window_s,
        }


def as_text(status: Mapping[str, Any]) -> list[str]:
    """Return the lines that a person reads of it."""
    lines = [
        f"{status['env']} ({status['account']}), instance {status['instance_id']}, process {status['pid']},"
        f" up for {_span(status['uptime_s'])}, {status['worker_restarts']} worker restarts",
        f"build {status['build']}, configuration {status['config']}",
    ]
    if start := status.get("start"):
        lines.append(f"NOT QUOTING: the start waits for {_span(start['since_s'])}: {start['reason']}")
    if "rates" in status:
        used = ", ".join(f"{name} {one['used']}/{one['limit']}" for name, one in status["rates"].items())
        lines.append(f"profit after fees {status['net_pnl_quote']}; requests used: {used}")
        lines.append(f"streams: {', '.join(_stream(*item) for item in status['streams'].items()) or 'none'}")
    for symbol, one in status["symbols"].items():
        lines += ["", *_symbol_lines(symbol, one)]
    return lines


def _stream(name: str, one: Mapping[str, Any]) -> str:
    return f"{name} {'up' if one['up'] else 'DOWN'} for {_span(one['since_s'])}"


def _symbol_lines(symbol: str, one: Mapping[str, Any]) -> list[str]:
    position, dead_man, posture = one["position"], one["dead_man"], one["posture"]
    day = f", today {one['day_result_quote']}" if one["day_result_quote"] is not None else ""
    reason = f" ({posture['reason']})" if posture["reason"] else ""
    age = "no book yet" if one["book_age_ms"] is None else f"book {one['book_age_ms']} ms old"
    armed = "armed" if dead_man["armed"] else "NOT ARMED"
    ack = "never acknowledged" if dead_man["ack_age_s"] is None else f"{_span(dead_man['ack_age_s'])} ago"
    compared = one["reconciled_s_ago"]
    lines = [
        f"{symbol}: {'quoting' if one['quoting'] else 'NOT QUOTING'}, posture {posture['step']}{reason}",
        *(f"  closed for {_span(each['since_s'])}: {each['reason']} [{each['key']}]" for each in one["gate"]),
        f"  position {_known(position['ours'])} {position['asset']} (exchange: {_known(position['exchange'])}),"
        f" {one['fills']} fills{day}",
        f"  mid {one['mid']}, mark {one['mark_price']}, {age}",
        f"  dead-man switch {armed}, last sign of life {ack}, window {dead_man['window_s']:g} s",
        f"  books compared with the exchange's {'never' if compared is None else _span(compared) + ' ago'}",
        f"  {one['orders_total']} orders",
    ]
    lines += [
        f"    {each['side'].lower():<4} {each['level']}  {each['quantity']} at {each['price']},"
        f" executed {each['executed']}, {each['state']}, {_span(each['age_s'])} old, {each['client_id']}"
        for each in one["orders"]
    ]
    return lines


def _known(quantity: str | None) -> str:
    return quantity if quantity is not None else "unknown"


def _span(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
