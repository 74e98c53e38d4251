"""What became of every order: the journal's account, held against the exchange's own. The part that decides is pure."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import msgspec

from core.append_file import is_being_written
from core.client_ids import is_ours
from core.gateway import Gateway, PlacedOrder
from core.instance_lock import is_held
from core.journal import journal_paths, read_journal
from core.journal_account import JournalAccount, Recorded
from core.model import OrderStatus, SymbolRules
from core.order_life import Open
from utils.background import RunBlocking
from utils.errors import ExchangeError, Refused

FORGETS_AFTER_MS = 3 * 86_400_000 - 60_000
"""The exchange shows an order no longer that was placed three days ago and ended without a fill, be it a moment ago;
a minute less, for the clocks that tell."""
BROKEN_OFF_MS = 5_000
"""How far an order may be from the last line of a journal that broke off, clocks included, to belong to that break."""
CLOCKS_APART_MS = 86_400_000
"""The journal goes by the clock of its machine, which may be as wrong as this; the exchange's orders by its own."""
READ_AGAIN_S = 1.5
READINGS = 3
FRESH_MS = 10_000
"""What has become of an order so lately may be missing in the exchange's lists, or in the journal."""


class Standing(StrEnum):
    """How sure it is what became of an order."""

    ENDED = "ended"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """One order and what became of it. ``state`` is final if it has ended; ``source`` is who says so."""

    client_id: str
    symbol: str
    side: str
    level: int
    standing: Standing
    state: str
    executed: Decimal
    quantity: Decimal
    since_ms: int
    source: str = "journal"
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every order of an account, and what does not fit. ``note`` says why the exchange was not asked, if it was not."""

    account: str
    orders: tuple[Accounted, ...]
    unreadable_lines: int
    is_running: bool
    compared: bool
    note: str = ""

    @property
    def problems(self) -> list[str]:
        """Return in one sentence each what does not fit."""
        damaged = (
            [f"{_counted(self.unreadable_lines, 'line')} of the journal cannot be read"]
            if self.unreadable_lines
            else []
        )
        return damaged + [f"{order.client_id}: {order.problem}" for order in self.orders if order.problem]

    @property
    def is_accounted(self) -> bool:
        """Tell whether it is known of every order what became of it, and nothing contradicts it."""
        return not self.problems


# --- one order ----------------------------------------------------------------------------------------------------


def account_for(
    journal: JournalAccount,
    placed: Mapping[str, PlacedOrder] | None,
    *,
    running: Set[str],
    now_ms: int,
) -> list[Accounted]:
    """Return what became of every order of ours: by the journal, and by the exchange's account where there is one.

    ``running`` are the symbols that a daemon trades now.
    """
    recorded = journal.orders
    found = [
        _by_journal(client_id, one, is_running=one.symbol in running) for client_id, one in recorded.items()
    ]
    if placed is None:
        return found
    compared = [
        _compared(
            one,
            recorded[one.client_id],
            placed.get(one.client_id),
            is_running=one.symbol in running,
            now_ms=now_ms,
        )
        for one in found
    ]
    since_ms = now_ms if journal.first_ms is None else journal.first_ms
    missing = [order for client_id, order in placed.items() if client_id not in recorded]
    gaps = journal.breaks
    wanted = [order for order in missing if order.created_ms >= since_ms or not order.status.is_terminal]
    return compared + [_unrecorded(order, gaps) for order in wanted]


def _by_journal(client_id: str, recorded: Recorded, *, is_running: bool) -> Accounted:
    state = recorded.state
    standing, problem = Standing.ENDED, ""
    if len(recorded.ends) > 1:
        problem = f"it has two final states: {' and '.join(recorded.ends)}"
    elif not state.rest.is_terminal and recorded.ends:
        problem = f"it is {state.rest} after it was {recorded.ends[0]}"
    elif not state.rest.is_terminal:
        standing = Standing.OPEN if is_running else Standing.UNKNOWN
        problem = "" if is_running else f"it was {state} when the journal broke off"
    return Accounted(
        client_id=client_id,
        symbol=recorded.symbol,
        side=recorded.side,
        level=recorded.level,
        standing=standing,
        state=state.rest.value if state.rest.is_terminal else str(state),
        executed=recorded.executed,
        quantity=Decimal(recorded.quantity),
        since_ms=recorded.last_ms,
        problem=problem,
    )


def _compared(
    ours: Accounted, recorded: Recorded, theirs: PlacedOrder | None, *, is_running: bool, now_ms: int
) -> Accounted:
    """Return an order with what the exchange says of it taken into account."""
    if len(recorded.ends) > 1:
        return ours
    if theirs is None:
        return _absent(ours, recorded, now_ms)
    if recorded.state.rest.is_terminal:
        return _both_ended(ours, recorded, theirs)
    if theirs.status.is_terminal:
        return _taken_over(ours, theirs)
    if is_running:
        return replace(ours, problem="")
    return replace(
        ours,
        standing=Standing.OPEN,
        source="exchange",
        problem="it rests at the exchange, and no daemon runs",
    )


def _absent(ours: Accounted, recorded: Recorded, now_ms: int) -> Accounted:
    """Return an order that the exchange does not have: never placed, or ended without a fill and long forgotten."""
    state = recorded.state
    if state.rest is OrderStatus.REJECTED or (state.rest.is_terminal and state.open is Open.PROOF):
        return ours
    is_old = now_ms - recorded.first_ms > FORGETS_AFTER_MS and ours.executed == 0
    if state.rest.is_terminal:
        return ours if is_old else replace(ours, problem="it is not at the exchange")
    if ours.standing is Standing.OPEN:
        waits = state.rest in (OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT)
        return ours if waits else replace(ours, problem="it is not at the exchange")
    never = state.rest in (OrderStatus.PENDING_NEW, OrderStatus.IN_DOUBT)
    if never or is_old:
        end = OrderStatus.REJECTED if never else OrderStatus.CANCELLED
        return replace(ours, standing=Standing.ENDED, state=end.value, source="exchange", problem="")
    return replace(ours, problem="it is not at the exchange")


def _both_ended(ours: Accounted, recorded: Recorded, theirs: PlacedOrder) -> Accounted:
    state = recorded.state
    if not theirs.status.is_terminal:
        return replace(
            ours, problem=f"it rests at the exchange ({theirs.status}), and was believed to have ended"
        )
    if ours.executed != theirs.executed:
        text = f"{theirs.executed:f} of it was executed by the exchange's account, {ours.executed:f} by the journal's"
        return replace(ours, problem=text)
    if state.open is Open.PROOF and state.rest is OrderStatus.CANCELLED:
        return _taken_over(ours, theirs)
    if state.rest is not theirs.status:
        return replace(ours, problem=f"it is {theirs.status} at the exchange, {state.rest} in the journal")
    return replace(ours, source="both")


def _taken_over(ours: Accounted, theirs: PlacedOrder) -> Accounted:
    """Return an order whose end only the exchange knows."""
    return replace(
        ours,
        standing=Standing.ENDED,
        state=theirs.status.value,
        executed=theirs.executed,
        source="exchange",
        problem="",
    )


def _unrecorded(theirs: PlacedOrder, gaps: Sequence[tuple[int, int | None]]) -> Accounted:
    """Return an order that only the exchange has; one that ended is explained if the journal broke off about then."""
    explained = theirs.status.is_terminal and any(
        start - BROKEN_OFF_MS <= theirs.created_ms
        and (end is None or theirs.created_ms <= end + BROKEN_OFF_MS)
        for start, end in gaps
    )
    return Accounted(
        client_id=theirs.client_id,
        symbol=theirs.symbol,
        side=theirs.side,
        level=0,
        standing=Standing.ENDED if theirs.status.is_terminal else Standing.OPEN,
        state=theirs.status.value,
        executed=theirs.executed,
        quantity=theirs.quantity,
        since_ms=theirs.created_ms,
        source="exchange",
        problem="" if explained else "the exchange has it, the journal does not",
    )


# --- the audit ----------------------------------------------------------------------------------------------------


async def _at_once(work: Callable[[], None]) -> None:
    work()


class OrderAudit:
    """Reads the journal of one account, and asks its exchange.

    ``run_blocking`` has the journal read, which may have millions of lines: off the event loop, for whoever wants to
    break that off.

    ``gateway`` is None where the exchange cannot be asked. Where ``by_lock`` is false the daemons of the account hold
    no locks, because nobody else could trade on it: whoever has the journal open runs. A daemon that runs changes
    orders between the two readings, and the exchange's lists lag behind, so that what does not fit is read again while
    one runs, or for an order that has just changed; only what never fits counts.
    """

    def __init__(
        self,
        directory: Path,
        account: str,
        symbols: Sequence[str],
        gateway: Gateway | None,
        now_ms: Callable[[], int],
        run_blocking: RunBlocking = _at_once,
        *,
        by_lock: bool = True,
    ) -> None:
        self._directory = directory
        self._account = account
        self._symbols = symbols
        self._gateway = gateway
        self._now_ms = now_ms
        self._run_blocking = run_blocking
        self._by_lock = by_lock
        self._rules: Mapping[str, SymbolRules] = {}

    async def run(self, note: str = "") -> Audit:
        """Return what became of every order. Raises OSError if the journal cannot be read."""
        audit = await self._read(note)
        for _ in range(READINGS - 1):
            if not audit.problems or not (audit.is_running or self._is_fresh(audit)):
                break
            await asyncio.sleep(READ_AGAIN_S)
            audit = _lasting(audit, await self._read(note))
        return audit

    def _is_fresh(self, audit: Audit) -> bool:
        """Tell whether what does not fit may be about an order of a moment ago only."""
        since_ms = self._now_ms() - FRESH_MS
        return any(order.problem and order.since_ms >= since_ms for order in audit.orders)

    async def _read(self, note: str) -> Audit:
        paths = journal_paths(self._directory, self._account)
        journal = await self._journal(paths)
        symbols = journal.symbols | set(self._symbols)
        running = self._running(symbols, paths)
        placed, why_not = await self._placed(symbols, journal.oldest_ms)
        orders = account_for(journal, placed, running=running, now_ms=self._now_ms())
        return Audit(
            account=self._account,
            orders=tuple(orders),
            unreadable_lines=journal.unreadable,
            is_running=bool(running),
            compared=placed is not None,
            note=why_not or note,
        )

    async def _journal(self, paths: Sequence[Path]) -> JournalAccount:
        read: list[JournalAccount] = []
        await self._run_blocking(lambda: read.append(JournalAccount.of(read_journal(paths))))
        return read[0]

    def _running(self, symbols: set[str], paths: Sequence[Path]) -> set[str]:
        """Return those of the symbols that a daemon trades now."""
        if self._by_lock:
            return {symbol for symbol in symbols if is_held(self._directory, self._account, symbol)}
        return symbols if paths and is_being_written(paths[-1]) else set()

    async def _placed(
        self, symbols: Set[str], oldest_ms: int | None
    ) -> tuple[dict[str, PlacedOrder] | None, str]:
        """Return our orders as the exchange has them, or None and why it could not be asked."""
        if self._gateway is None:
            return None, ""
        since_ms = (self._now_ms() if oldest_ms is None else oldest_ms) - CLOCKS_APART_MS
        try:
            await self._gateway.rest.synchronise_clock()
            until_ms = self._gateway.rest.server_clock.time_ms()
            self._rules = self._rules or (await self._gateway.exchange_info()).rules
            found = [
                order
                for symbol in sorted(symbols)
                for order in await self._gateway.all_orders(self._known(symbol), since_ms, until_ms, is_ours)
            ]
        except ExchangeError as error:
            return None, f"the exchange could not be asked: {error}"
        return {order.client_id: order for order in found}, ""

    def _known(self, symbol: str) -> SymbolRules:
        if symbol not in self._rules:
            raise Refused(0, f"it does not know {symbol}")
        return self._rules[symbol]


def _lasting(first: Audit, again: Audit) -> Audit:
    """Return the second audit with those problems only that the first one had, too."""
    troubled = {order.client_id for order in first.orders if order.problem}
    orders = tuple(
        order if order.client_id in troubled else replace(order, problem="") for order in again.orders
    )
    return replace(again, orders=orders)


# --- in words -----------------------------------------------------------------------------------------------------


def as_json(audit: Audit) -> str:
    """Return the audit for a machine: one object."""
    return msgspec.json.encode(
        {
            "account": audit.account,
            "accounted": audit.is_accounted,
            "running": audit.is_running,
            "compared": audit.compared,
            "note": audit.note,
            "orders": audit.orders,
            "problems": audit.problems,
        }
    ).decode()


def as_text(audit: Audit) -> Iterator[str]:
    """Yield the audit for a person: a line for each order, what does not fit, and the sum of it."""
    rows = [_row(order) for order in audit.orders]
    widths = [
        max((len(row[column]) for row in rows), default=0) for column in range(len(rows[0]) if rows else 0)
    ]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    for problem in audit.problems:
        yield f"PROBLEM  {problem}"
    counts = Counter(
        order.state if order.standing is Standing.ENDED else order.standing.value for order in audit.orders
    )
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
    against = "the journal and the exchange" if audit.compared else f"the journal alone ({audit.note})"
    verdict = (
        "every order is accounted for" if audit.is_accounted else _counted(len(audit.problems), "problem")
    )
    running = "; a daemon is running" if audit.is_running else ""
    yield f"{audit.account}: {len(audit.orders)} orders by {against}: {kinds}; {verdict}{running}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _row(order: Accounted) -> tuple[str, ...]:
    since = datetime.fromtimestamp(order.since_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return (
        order.client_id,
        order.symbol,
        order.side.lower(),
        str(order.level or "-"),
        order.state if order.standing is Standing.ENDED else f"{order.standing}: {order.state}",
        f"{order.executed:f}/{order.quantity:f}",
        since,
        order.source,
    )
