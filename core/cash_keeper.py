"""Keeps the books of the wallet: what moved it besides our trades, and whether all of it adds up to what is there.

The identity: the wallet is what it was, plus realised profit, less fees, plus funding, transfers and the rest. The
unrealised profit is on both sides of it, so it holds for the equity as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from core.cash import CashBook, CashEntry, CashKind
from core.context import SymbolContext
from core.events import EventBus, RiskEvent, RiskKind
from core.gateway import Gateway
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

_ZERO = Decimal(0)


class CashKeeper:
    """Counts movements that the stream tells of, reads the exchange's record of them, and holds the sum to the wallet.

    ``find_trades`` has the trades of all symbols counted that no stream told of. A difference that neither trades nor
    the record explain, three times in a row, is taken over with a line about it (``equity_adopted``), and is part of
    ``unexplained_quote`` from then on.
    """

    EVERY_S = 600.0
    SOON_S = 15.0
    """After a gap of the stream, and while there is a difference: the record may lag."""
    OVERLAP_MS = 600_000
    """So much of the record is read again each time: a row may appear late."""
    SETTLED_MS = 3000
    """Trades younger than this may not be in the wallet that is read."""
    STRIKES = 3
    ROUNDING = Decimal("0.00000001")
    """The wallet is stated to so many digits, and so is each part of it."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        find_trades: Callable[[SymbolContext], Awaitable[object]],
    ) -> None:
        self.book = CashBook()
        self.unexplained_quote = _ZERO
        """What was taken over of the wallet without an explanation; 0 in order."""
        self._elsewhere_quote = _ZERO
        self._contexts = {context.symbol: context for context in contexts}
        self._asset = next(iter(contexts)).rules.quote_asset
        self._gateway = gateway
        self._bus = bus
        self._find_trades = find_trades
        self._since_ms = 0
        self.base_quote: Decimal | None = None
        """The wallet less everything that our books say has moved it; None until it has been read."""
        self._strikes = (0, _ZERO)
        self._soon = asyncio.Event()

    @property
    def transfers_quote(self) -> Decimal:
        """Return what was paid in, less what was paid out, since the start."""
        return self.book.total(CashKind.TRANSFER, self._asset)

    @property
    def other_quote(self) -> Decimal:
        """Return what else has moved the wallet since the start; what nothing explains is included."""
        return self.book.total(CashKind.OTHER, self._asset) + self._elsewhere_quote + self.unexplained_quote

    def told(self, entry: CashEntry) -> None:
        """Count a movement, unless it is known."""
        if not self.book.add(entry):
            return
        context = self._context_of(entry.symbol)
        if entry.kind is CashKind.FUNDING and entry.asset == self._asset and context is not None:
            context.ledger.funding_quote += entry.amount
            log.info("%s: funding of %s %s", context.symbol, f"{entry.amount:f}", entry.asset)
            return
        log.info("wallet: %s of %s %s", entry.kind, f"{entry.amount:f}", entry.asset)
        if entry.kind is CashKind.FUNDING and entry.asset == self._asset:
            self._elsewhere_quote += entry.amount

    def _context_of(self, symbol: str) -> SymbolContext | None:
        """Return whose a movement is; cross-margin funding may come without a symbol, and is that of the only one."""
        if not symbol and len(self._contexts) == 1:
            return next(iter(self._contexts.values()))
        return self._contexts.get(symbol)

    def look_soon(self) -> None:
        """Have the record read before long: the stream may have missed something."""
        self._soon.set()

    async def run(self) -> None:
        """Compare now and then until cancelled."""
        wait_s = self.SOON_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._soon.wait()
                await asyncio.sleep(self.SOON_S)
            except TimeoutError:
                pass
            self._soon.clear()
            try:
                agrees = await self.check()
            except ExchangeError as error:
                log.warning("the wallet could not be compared: %s", error)
                agrees = False
            wait_s = self.EVERY_S if agrees else self.SOON_S

    async def check(self) -> bool:
        """Read the record and the wallet; return whether they and our books agree. Raises ExchangeError."""
        if not all(context.ledger.is_open for context in self._contexts.values()):
            return False
        if self.base_quote is not None:
            await self._read_record()
        before = self._moves()
        wallet, _ = await self._gateway.available_quote(self._asset)
        if self._moves() != before or not self._is_settled():
            return False
        if self.base_quote is None:  # the books of the wallet begin
            self.base_quote = wallet - self._sums_quote()
            self._since_ms = self._gateway.rest.server_clock.time_ms()
            return True
        return await self._judge(wallet, wallet - self.base_quote - self._sums_quote())

    async def _read_record(self) -> None:
        """Count what the exchange's record holds of movements since the books of the wallet began."""
        asked_ms = self._gateway.rest.server_clock.time_ms()
        for entry in await self._gateway.cash_since(self._since_ms, self._contexts):
            self.told(entry)
        self._since_ms = max(self._since_ms, asked_ms - self.OVERLAP_MS)

    def _moves(self) -> tuple[object, ...]:
        ledgers = [context.ledger for context in self._contexts.values()]
        return (*(ledger.fill_count for ledger in ledgers), self._sums_quote())

    def _is_settled(self) -> bool:
        before_ms = self._gateway.rest.server_clock.time_ms() - self.SETTLED_MS
        return all(context.ledger.last_fill_ms < before_ms for context in self._contexts.values())

    def _sums_quote(self) -> Decimal:
        ledgers = [context.ledger for context in self._contexts.values()]
        traded = sum(
            (
                ledger.realized_pnl_quote - ledger.fees_in(self._asset) + ledger.funding_quote
                for ledger in ledgers
            ),
            _ZERO,
        )
        return traded + self.transfers_quote + self.other_quote

    async def _judge(self, wallet: Decimal, difference: Decimal) -> bool:
        """Hold the wallet to our books; look for a trade that explains a difference, and in the end take it over."""
        parts = sum(context.ledger.fill_count for context in self._contexts.values()) + 1
        if abs(difference) <= parts * self.ROUNDING:
            self._strikes = (0, _ZERO)
            return True
        count, before = self._strikes
        self._strikes = (count + 1 if difference == before else 1, difference)
        if self._strikes[0] < self.STRIKES:
            for context in self._contexts.values():
                await self._find_trades(context)
            return False
        self._strikes = (0, _ZERO)
        text = (
            f"the wallet is {wallet:f} {self._asset}, our books make {wallet - difference:f}:"
            f" neither trades nor the exchange's record explain {difference:+f}; taken over"
        )
        log.error("%s", text)
        self.unexplained_quote += difference
        symbol = next(iter(self._contexts))
        self._bus.publish(RiskEvent(symbol, RiskKind.EQUITY_ADOPTED, difference, text))
        return True
