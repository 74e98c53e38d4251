"""The worker that writes the metrics: a row for each metric a second, and a row for each event."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from core import metrics
from core.amend_queue import AmendQueue
from core.context import SymbolContext
from core.events import (
    RECORDED,
    ConnectionEvent,
    ConnectionKind,
    EngineEvent,
    EngineKind,
    EventBus,
    RecordedFact,
)
from core.gateway import Gateway
from core.metrics import Counters, Row
from core.metrics_file import Batch, Lines, MetricsFile
from core.metrics_rows import SymbolRows, account_series
from utils.background import RunBlocking
from utils.clock import Clock

log = logging.getLogger(__name__)

_MINUTE_LONG = len("2026-11-21T12:00:")
_MINUTE_MS = 60_000


def _none() -> tuple[Decimal, Decimal]:
    """Nothing has moved."""
    return Decimal(0), Decimal(0)


class LoggerWorker:
    """Collects rows on the event loop, makes lines of them there, and has these written off it, every second.

    ``file`` may be None: then nothing is written. A disk that does not take the rows costs metrics and nothing else: at
    most ``MAX_WAITING`` rows are kept for it, older ones are dropped and counted.
    """

    name = "metrics"
    EVERY_S = 1.0
    AT_ONCE = 24
    """So many lines are made in one turn of the event loop: a tenth of a millisecond."""
    MAX_WAITING = 50_000

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        clock: Clock,
        file: MetricsFile | None,
        run_blocking: RunBlocking,
        *,
        amend_queue: AmendQueue,
        limit_quote: Decimal,
        wallet_quote: Decimal | None,
    ) -> None:
        self.dropped = 0
        self.wallet_moves: Callable[[], tuple[Decimal, Decimal]] = _none
        """Returns what transfers and other movements that are no profit have brought since the start."""
        self.wallet_base: Callable[[], Decimal | None] = lambda: None
        """Returns the wallet with which the books began; while that is None, the one of the preflight has to do."""
        self.counters = Counters({})
        self._contexts = {context.symbol: context for context in contexts}
        self._symbol_rows = [SymbolRows(context) for context in contexts]
        self._account_series = account_series(contexts[0].rules.quote_asset if contexts else "-")
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._file = file
        self._run_blocking = run_blocking
        self._amend_queue = amend_queue
        self._limit_quote = limit_quote
        self._wallet_quote = wallet_quote
        self._started_ns = clock.monotonic_ns()
        self._waiting: deque[Batch] = deque()
        self._made: deque[Lines] = deque()
        """The lines of those before them, which wait for the disk."""
        self._rows_waiting = 0
        """How many rows are in both."""
        self._lag_ms = 0.0
        self._stamped_minute = -1
        self._stamp_text = "", ""
        self._connected: set[str] = set()
        self._disk_failed = False
        bus.subscribe(self._on_fact, *RECORDED, name="metrics")

    async def run(self) -> None:
        """Write the metrics every second until cancelled."""
        while True:
            asked_ns = self._clock.monotonic_ns()
            await asyncio.sleep(self.EVERY_S)
            self._lag_ms = max((self._clock.monotonic_ns() - asked_ns) / 1e6 - self.EVERY_S * 1000, 0.0)
            self.collect()
            await self.flush()

    def _on_fact(self, fact: RecordedFact) -> None:
        self.counters.count(fact)
        if isinstance(fact, ConnectionEvent) and fact.kind is ConnectionKind.UP:
            self.counters.reconnects += fact.name in self._connected
            self._connected.add(fact.name)
        self._add((metrics.event_row(fact, self._contexts),))

    def _stamp(self) -> str:
        """Return the local time of this moment."""
        number, ms = divmod(self._clock.time_ms(), _MINUTE_MS)
        if (
            number != self._stamped_minute
        ):  # no offset from UTC changes within one, or has had seconds since 1972
            text = datetime.fromtimestamp(number * 60).astimezone().isoformat(timespec="milliseconds")
            self._stamped_minute = number
            self._stamp_text = text[:_MINUTE_LONG], text[_MINUTE_LONG + len("00.000") :]
        minute, offset = self._stamp_text
        return f"{minute}{ms // 1000:02d}.{ms % 1000:03d}{offset}"

    def _add(self, rows: Sequence[Row]) -> None:
        """Have rows of this moment wait to be written."""
        if self._file is not None and rows:
            self._waiting.append((self._stamp(), rows))
            self._rows_waiting += len(rows)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Have no more rows wait than may."""
        too_many = self._rows_waiting - self.MAX_WAITING
        if too_many <= 0:
            return
        self.dropped += too_many
        self._rows_waiting = self.MAX_WAITING
        while too_many and self._made:
            lines = self._made.popleft()
            if lines.count > too_many:
                self._made.appendleft(lines.without_first(too_many))
            too_many -= min(lines.count, too_many)
        while too_many:
            timestamp, rows = self._waiting.popleft()
            if len(rows) > too_many:
                self._waiting.appendleft((timestamp, rows[too_many:]))
            too_many -= min(len(rows), too_many)

    def collect(self) -> None:
        """Take this second's values."""
        now_ns = self._clock.monotonic_ns()
        for rows in self._symbol_rows:
            self._add(rows.of_second(self.counters, self._limit_quote, now_ns))
        self._add(self._account_series.rows(self._account_values(now_ns)))

    def _account_values(self, now_ns: int) -> dict[str, Decimal | float]:
        transfers, other = self.wallet_moves()
        known: dict[str, Decimal | float] = {}
        base = self.wallet_base()
        if base is None:
            base = self._wallet_quote
        if base is not None:
            known["equity"] = base + self.net_pnl_quote() + transfers + other
        return {
            **known,
            "transfers": transfers,
            "other_income": other,
            **metrics.usage_values(self._gateway.rest.usage, self._gateway.rest.server_clock.time_ms()),
            **metrics.lane_values(self._gateway.lanes),
            **metrics.amend_values(self._amend_queue),
            "metrics_queue": self._rows_waiting,
            "metrics_dropped": self.dropped,
            **metrics.bus_values(self._bus.statistics()),
            "loop_lag": self._lag_ms,
            "reconnects": self.counters.reconnects,
            "worker_restarts": self.counters.restarts,
            "clock_offset": self._gateway.rest.server_clock.offset_ms,
            "uptime": (now_ns - self._started_ns) / 1e9,
        }

    def net_pnl_quote(self) -> Decimal:
        """Return the net profit of all symbols since the start."""
        return sum(
            (
                context.ledger.pnl_quote(context.state.mark_price, context.rules.quote_asset)
                for context in self._contexts.values()
            ),
            Decimal(0),
        )

    async def flush(self) -> None:
        """Have everything that waits written; what the disk does not take waits on."""
        if self._file is None or not self._rows_waiting:
            return
        file = self._file
        await self._make_lines(file)
        lines, self._made = self._made, deque()
        rows = sum(each.count for each in lines)
        self._rows_waiting -= rows
        try:
            await self._run_blocking(lambda: file.append(lines))
        except OSError as error:
            self._made.extendleft(reversed(lines))
            self._rows_waiting += rows
            self._drop_oldest()
            if not self._disk_failed:
                log.error("metrics are not being written: %s; trading goes on", error.strerror)
                self._bus.publish(EngineEvent(EngineKind.DISK_TROUBLE, f"metrics: {error.strerror}"))
            self._disk_failed = True
        else:
            if self._disk_failed:
                log.warning("metrics are being written again; %d rows were lost", self.dropped)
                self._bus.publish(EngineEvent(EngineKind.DISK_WELL, "metrics"))
            self._disk_failed = False

    async def _make_lines(self, file: MetricsFile) -> None:
        """Make the lines of what waits, a few at a time: a tick waits for those at most, not for all."""
        moments, rows = len(self._waiting), 0
        while moments and self._waiting:
            batches = self._next_batches(moments)
            moments -= len(batches)
            lines = file.lines(batches)
            self._made += lines
            rows += sum(each.count for each in lines)
            await asyncio.sleep(0)
        file.forget(rows)

    def _next_batches(self, moments: int) -> list[Batch]:
        """Take those that wait longest, of so many moments at most, until they are ``AT_ONCE`` rows."""
        batches: list[Batch] = []
        rows = 0
        while self._waiting and len(batches) < moments and rows < self.AT_ONCE:
            batches.append(self._waiting.popleft())
            rows += len(batches[-1][1])
        return batches
