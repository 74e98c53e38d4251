"""Keeps what each symbol has made today: opened from the exchange's own record, carried over midnight, kept on disk."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from core.context import SymbolContext
from core.daily_loss import (
    DayCount,
    DayResult,
    day_of,
    quantity_at_start,
    start_ms_of,
    unrealized_at_start,
)
from core.day_file import Acceptance, DamagedDay, DayFile, DayRecord, date_text
from core.day_trades import DayTrades
from core.events import EventBus, RiskEvent, RiskKind
from core.gateway import Gateway
from core.model import Fill
from core.posture import LOSS, Reading
from core.questions import Questions
from utils.background import RunBlocking
from utils.clock import Clock
from utils.errors import ExchangeError

log = logging.getLogger(__name__)

DAY_KEY = "day"
NOT_KNOWN = "today's result is not known yet"
DAY_IS_LATE = f"{NOT_KNOWN}: what was made since 00:00 UTC is asked for"

_ZERO = Decimal(0)
_TRADES, _FUNDING, _ACCEPTED = "today's trades", "today's funding", "what was accepted"
_RATES = "prices of fees"
_BEGINNING = "the trades and the price with which today began"

T = TypeVar("T")


@dataclass(slots=True)
class _Turn:
    """A day was begun here after 00:00 UTC, at this mark price: what was made in between does not count yet."""

    mark_price: Decimal
    is_late: bool
    """It may be more than the limit allows: no quote is sent until it counts."""
    short_lists: int = 0
    is_counted: bool = False
    """Its trades and its price are; of a late one the funding is still asked for."""

    @property
    def is_held(self) -> bool:
        """Tell whether quotes still wait for it: a list that lacks trades may lack them for good."""
        return self.is_late and self.short_lists < DayTrades.MOST_SHORT_LISTS


class DayKeeper:
    """Counts the day of every symbol, and holds the sum against ``limit_quote``; 0 means no limit, and no counting.

    The gates are closed under ``DAY_KEY`` until the day is known and has been judged: an unknown loss is not "none".
    """

    SAVE_EVERY_S = 60.0
    FUNDING_EVERY_S = 600.0
    FUNDING_AGAIN_S = 60.0
    """After a difference: so long the books of the wallet have time to hear of it first.

    And a record that is read so long after 00:00 UTC has what was paid then.
    """
    RATES_EVERY_S = 60.0
    ACCEPTED_EVERY_S = 2.0
    """So soon what an operator has accepted counts, whether a halt stands or not."""
    OPEN_AGAIN_S = 1.0
    LOOK_AGAIN_S = 60.0
    """So long after a day was opened its trades are read once more: the list may have hidden what nobody here knew."""
    LOOKS_AGAIN = 30
    """So often, where each time a trade has come between the reading and its use."""
    OPEN_AGAIN_AT_MOST_S = 10.0
    """What opening a day asks for costs weight, so that a refusal is not met with the next question at once."""
    TURN_WITHIN_S = 5.0
    """A day that is begun here within this time of 00:00 UTC, and without a trade, has brought nothing yet."""
    TURN_AGAIN_S = 5.0
    DISK_PATIENCE_S = 2.0
    """A disk that hangs is not waited for: the position has to be checked meanwhile."""

    def __init__(
        self,
        contexts: Sequence[SymbolContext],
        gateway: Gateway,
        bus: EventBus,
        clock: Clock,
        limit_quote: Decimal,
        check_interval_s: float,
        files: Mapping[str, DayFile],
        account: str,
        run_blocking: RunBlocking,
        look_for_cash: Callable[[], None],
    ) -> None:
        self._contexts = contexts
        self._gateway = gateway
        self._bus = bus
        self._clock = clock
        self._limit_quote = limit_quote
        self._check_interval_s = check_interval_s
        self._files = files
        self._account = account
        self._run_blocking = run_blocking
        self._look_for_cash = look_for_cash
        self._counts: dict[str, DayCount] = {}
        self._rates: dict[str, Decimal] = {}
        self._unpriced: set[str] = set()
        """Of which no price was known when it was asked for last."""
        self._due_ns: dict[tuple[str, str], int] = {}
        self._funding_seen: dict[str, Decimal] = {}
        self._funding_missing: dict[str, Decimal] = {}
        """By how much the last reading of the record differed; without those by nothing."""
        self._complained: set[str] = set()
        self._unread: set[str] = set()
        """Whose record the disk did not give: their day is counted from the exchange's trades alone, until it does."""
        self._accepted_here: set[str] = set()
        """Whose result was accepted in this run, as it was known then."""
        self._turns: dict[str, _Turn] = {}
        self._to_look_again: dict[str, int] = {}
        """By symbol, how often the list may still be of another moment than the books."""
        self._trades = {context.symbol: DayTrades() for context in contexts}
        self._open_again_s = self.OPEN_AGAIN_S
        self._questions = Questions()
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._reading: dict[str, asyncio.Future[None]] = {}
        for context in contexts if limit_quote else ():
            context.gate.close(DAY_KEY, NOT_KNOWN)

    def is_waiting(self, context: SymbolContext) -> bool:
        """Tell whether the day is still to be opened, its record to be read, or what it made before it was begun."""
        turn = self._turns.get(context.symbol)
        is_held = turn is not None and turn.is_held
        return bool(self._limit_quote) and (is_held or self._is_to_be_opened(context))

    def _is_to_be_opened(self, context: SymbolContext) -> bool:
        return context.symbol not in self._counts or context.symbol in self._unread

    def not_known(self, context: SymbolContext, error: ExchangeError) -> str:
        """Return in words why today's result is not known; the gate says so, too, if it waits for that."""
        text = f"{NOT_KNOWN}: {error}"
        if self.is_waiting(context):
            context.gate.close(DAY_KEY, text)
        return text

    def reading(self) -> Reading | None:
        """Return today's loss of all symbols as a share of the limit; None while it is not known, or has no limit."""
        results = [context.day for context in self._contexts if context.day is not None]
        if not self._limit_quote or len(results) < len(self._contexts):
            return None
        total = sum((result.quote for result in results), _ZERO)

        def in_words() -> str:
            parts = results[0].text if len(results) == 1 else f"{len(results)} symbols"
            return f"today's result is {total:+.2f} ({parts}) of the allowed loss of {self._limit_quote:f}"

        return Reading(LOSS, max(-total, _ZERO) / self._limit_quote, in_words)

    async def keep(self, context: SymbolContext, mark_price: Decimal) -> bool:
        """Have the day's result be that of this moment; return whether a new day has begun.

        Call it while our books agree with the exchange's. Raises ExchangeError while the day cannot be opened. No day
        begins while the exchange's time is in doubt: one that begins by a wrong clock forgets what was lost before.
        """
        if not self._limit_quote:
            return False
        today, time_is_known = day_of(self._server_ms()), self._gateway.rest.time_is_known
        count = self._counts.get(context.symbol)
        has_turned = count is not None and today > count.day and time_is_known
        if count is not None and has_turned:
            self._turn(context, count, today, mark_price)
        elif self._is_to_be_opened(context):
            if time_is_known and self._is_due("open", context, self._open_again_s):
                self._open_again_s = min(2 * self._open_again_s, self.OPEN_AGAIN_AT_MOST_S)
                await self._open(context, today, mark_price)
            elif count is None:
                return False
        else:
            self._heal_turn(context, mark_price)
            await self._heal_trades(context, mark_price)
            self._heal_funding(context)
            self._look_for_acceptance(context, mark_price)
        self._refresh_rates(context)
        self._measure(context, mark_price)
        if has_turned or self._is_due("save", context, self.SAVE_EVERY_S):
            self.save(context)
        return has_turned

    def _server_ms(self) -> int:
        return self._gateway.rest.server_clock.time_ms()

    def _is_due(self, what: str, context: SymbolContext, every_s: float) -> bool:
        """Tell whether it is time again, and note that it is being done."""
        if self._clock.monotonic_ns() < self._due_ns.get((what, context.symbol), 0):
            return False
        self._is_done(what, context, every_s)
        return True

    def _is_done(self, what: str, context: SymbolContext, again_s: float) -> None:
        """Note when it is time again."""
        self._due_ns[what, context.symbol] = self._clock.monotonic_ns() + int(again_s * 1e9)

    def _measure(self, context: SymbolContext, mark_price: Decimal) -> DayResult:
        count = self._counts[context.symbol]
        if counted := self._trades[context.symbol].counted_since(context.ledger):
            count = self._counts[context.symbol] = count.without(counted)
        result = count.result(context.ledger, mark_price, context.rules.quote_asset, self._rates)
        context.day = result
        for asset, amount in result.unvalued:
            if asset in self._unpriced and asset not in self._complained:
                self._complained.add(asset)
                log.warning(
                    "%s: fees of %s %s are not part of today's result: no price of %s is known",
                    *(context.symbol, f"{amount:f}", asset, asset),
                )
        return result

    # --- a day begins -----------------------------------------------------------------------------------------

    async def _open(self, context: SymbolContext, today: int, mark_price: Decimal) -> None:
        """Begin to count, from what the exchange's own record says of the day so far."""
        ledger, symbol = context.ledger, context.symbol
        try:
            stored, is_read = await self._stored(context, today), True
        except OSError as error:
            self._note_unread(context, error)
            stored, is_read = None, False
        if not is_read and symbol in self._counts:
            return
        fills, funding = await asyncio.gather(
            self._fills_of(context, today),
            self._gateway.funding_since(symbol, start_ms_of(today), context.rules.quote_asset),
        )
        known = stored if stored is not None and stored.day == today else None
        self._trades[symbol].refuse_short(known, len(fills))
        began_with = await self._unrealized_at_start(context, fills, today, mark_price, stored)
        count = DayCount(today, *self._trades[symbol].take(ledger, fills, today), began_with)
        accepted = self._accepted_before(known, await self._accepted(context, today))
        if accepted is not None and accepted.accepted_quote is not None:
            quote, at_ms = accepted.accepted_quote, accepted.accepted_ms
            count = replace(count, accepted_quote=quote, accepted_ms=at_ms)
        self._counts[symbol] = count.with_funding(ledger, funding)
        if is_read:
            self._unread.discard(symbol)
        self._funding_seen[symbol] = ledger.funding_quote
        self._to_look_again[symbol] = self.LOOKS_AGAIN
        self._is_done("look again", context, self.LOOK_AGAIN_S)
        self._take_rates(await self._prices(self._foreign_assets(context), context.rules.quote_asset))
        self._measure(context, mark_price)
        await self.take_acceptance(context, mark_price)
        if (lacking := self._trades[symbol].lacking) is not None:
            text = "%s: the exchange lists %d trades of today, %d were known; it is asked for the others"
            log.warning(text, symbol, len(fills), lacking.trades)
        self._tell(context, "of today so far")

    async def _fills_of(self, context: SymbolContext, day: int) -> list[Fill]:
        trades = await self._gateway.user_trades(context.symbol, 0, start_ms_of(day))
        return [self._gateway.fill(trade, "") for trade in trades]

    async def _beginning(self, context: SymbolContext, day: int) -> tuple[list[Fill], Decimal | None]:
        """Return the trades of a day, and the price at its beginning, None if the exchange does not know it."""
        return await asyncio.gather(
            self._fills_of(context, day), self._gateway.price_at(context.symbol, start_ms_of(day))
        )

    async def _stored(self, context: SymbolContext, today: int) -> DayRecord | None:
        """Return what an earlier run has left; what cannot be used is put aside and said aloud. Raises OSError."""
        file = self._files[context.symbol]
        try:
            return await self._from_disk(context, lambda: file.read(today))
        except DamagedDay as damage:
            log.error(
                "%s: the record of today's result, %s, cannot be used: %s; it is put aside, and the day is counted"
                " from the exchange's trades",
                *(context.symbol, file.path.name, damage),
            )
        try:
            await self._from_disk(context, file.put_aside)
        except OSError as error:
            log.warning("%s: %s could not be put aside: %s", context.symbol, file.path.name, error)
        return None

    def _note_unread(self, context: SymbolContext, error: OSError) -> None:
        """Have no quote sent while a loss may stand on disk that the exchange's trades do not tell of."""
        symbol = context.symbol
        why = error.strerror or "the disk does not answer"
        text = f"{NOT_KNOWN}: its record, {self._files[symbol].path.name}, cannot be read ({why})"
        context.gate.close(DAY_KEY, text)
        if symbol not in self._unread:
            self._unread.add(symbol)
            log.error(
                "%s: %s; until it can, the day is counted from the exchange's trades alone", symbol, text
            )

    async def _from_disk(self, context: SymbolContext, read: Callable[[], T]) -> T:
        """Return what is read off the event loop. Raises what it raises, and TimeoutError for a disk that hangs.

        While a reading hangs no other is begun: each has a thread of its own, of which a process may not have many.
        """
        hanging = self._reading.get(context.symbol)
        if hanging is not None and not hanging.done():
            raise TimeoutError
        found: list[T] = []
        reading = asyncio.ensure_future(self._run_blocking(lambda: found.append(read())))
        reading.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # it may come too late
        self._reading[context.symbol] = reading
        await asyncio.wait({reading}, timeout=self.DISK_PATIENCE_S)
        if not reading.done():
            raise TimeoutError
        reading.result()
        return found[0]

    async def _unrealized_at_start(
        self,
        context: SymbolContext,
        fills: Sequence[Fill],
        today: int,
        mark_price: Decimal,
        stored: DayRecord | None,
    ) -> Decimal:
        """Return with which unrealised profit the day began: nothing, if the exchange says that it began flat."""
        ledger = context.ledger
        carried = quantity_at_start(ledger.position_quantity, fills)
        if not carried:
            return _ZERO
        if stored is not None and stored.day == today:
            return stored.unrealized_at_start_quote
        price = await self._gateway.price_at(context.symbol, start_ms_of(today))
        if price is not None:
            return unrealized_at_start(ledger.position_quantity, ledger.entry_price, fills, price)
        log.warning(
            "%s: a position of %s is older than today, and no price of 00:00 UTC is known:"
            " its unrealised profit counts from now on",
            *(context.symbol, f"{carried:f}"),
        )
        return ledger.unrealized_pnl_quote(mark_price)

    def _turn(self, context: SymbolContext, count: DayCount, today: int, mark_price: Decimal) -> None:
        """Begin the next day with nothing made and nothing lost, whatever stands on disk of the one before."""
        self._unread.discard(context.symbol)
        self._measure(context, mark_price)
        self._tell(context, f"of {date_text(count.day)}, which has ended at 00:00 UTC")
        self._counts[context.symbol] = count.next(context.ledger, mark_price, today)
        self._trades[context.symbol].begin_anew()
        self._questions.forget(context.symbol)
        self._to_look_again.pop(context.symbol, None)
        self._funding_missing.pop(context.symbol, None)
        self._complained.clear()
        self._look_back(context, today, mark_price)

    def _look_back(self, context: SymbolContext, today: int, mark_price: Decimal) -> None:
        """Have what was made since 00:00 UTC asked for, unless the day is begun there and then."""
        start_ms = start_ms_of(today)
        since_s = (self._server_ms() - start_ms) / 1000
        self._turns.pop(context.symbol, None)
        if since_s <= self.TURN_WITHIN_S and context.ledger.last_fill_ms < start_ms:
            return
        is_late = since_s > self.TURN_WITHIN_S + self._check_interval_s
        self._turns[context.symbol] = _Turn(mark_price, is_late)
        if is_late:
            context.gate.close(DAY_KEY, DAY_IS_LATE)
        self._heal_turn(context, mark_price)

    def _tell(self, context: SymbolContext, when: str) -> None:
        result = context.day
        if result is None:
            return
        text = (
            f"result {when}: {result.quote:+.2f} {context.rules.quote_asset} ({result.text}),"
            f" allowed loss {self._limit_quote:f}"
        )
        log.info("%s: %s", context.symbol, text)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.DAY, result.quote, text))

    # --- what the exchange knows better -----------------------------------------------------------------------

    def _heal_turn(self, context: SymbolContext, mark_price: Decimal) -> None:
        """Count the day from 00:00 UTC on once the exchange has told with what it began.

        A list that lacks trades which our books have is asked for again; quotes do not wait for it for ever.
        """
        symbol, day, turn = context.symbol, self._counts[context.symbol].day, self._turns.get(context.symbol)
        if turn is None or turn.is_counted:
            return
        if context.ledger.ids_began_anew:
            del self._turns[symbol]
            log.warning("%s: the exchange was reset: today's result counts from now on", symbol)
            return
        found: tuple[list[Fill], Decimal | None] | None = self._questions.answer(_BEGINNING, symbol)
        if found is not None and not self._trades[symbol].are_all(context.ledger, found[0], day):
            turn.short_lists += 1
            if turn.short_lists == DayTrades.MOST_SHORT_LISTS:
                text = "%s: the exchange does not list all trades of today; it is asked for the others"
                log.warning(text, symbol)
            found = None
        if found is None:
            if self._is_due("turn", context, self.TURN_AGAIN_S):
                self._questions.ask(_BEGINNING, symbol, lambda: self._beginning(context, day))
            return
        fills, price = found
        ledger = context.ledger
        if price is None and turn.is_late and quantity_at_start(ledger.position_quantity, fills):
            text = "%s: no price of 00:00 UTC is known: what is not realised counts from the first check on"
            log.warning(text, symbol)
        price = price or turn.mark_price
        began_with = unrealized_at_start(ledger.position_quantity, ledger.entry_price, fills, price)
        found_quote = self._recount(context, fills, began_with, mark_price, accepted_before_ms=0)
        turn.is_counted = True
        self._funding_seen[symbol] = ledger.funding_quote
        self._due_ns.pop(("funding", symbol), None)
        self._funding_missing.pop(symbol, None)  # read at once, it is the first reading, whatever came before
        if not turn.is_held:
            self._end_turn(symbol)
        self._tell(context, f"of today so far, with {found_quote:+.2f} of before the day was begun here")

    def _end_turn(self, symbol: str) -> None:
        """Have the day count as it is known now, if that was all that it waited for."""
        turn = self._turns.get(symbol)
        if turn is not None and turn.is_counted:
            del self._turns[symbol]
            self._due_ns.pop(("save", symbol), None)

    async def _heal_trades(self, context: SymbolContext, mark_price: Decimal) -> None:
        """Count the day's trades anew once the list has those that it lacked when the day was opened."""
        symbol, trades = context.symbol, self._trades[context.symbol]
        known = trades.lacking
        if known is None:
            self._look_again(context, mark_price)
            return
        fills: list[Fill] | None = self._questions.answer(_TRADES, symbol)
        if fills is None or len(fills) < known.trades:
            if self._is_due("trades", context, self.OPEN_AGAIN_AT_MOST_S):
                day = known.day
                self._questions.ask(_TRADES, symbol, lambda: self._fills_of(context, day))
            return
        began_with = await self._unrealized_at_start(context, fills, known.day, mark_price, known)
        trades.lacking = None
        found_quote = self._recount(context, fills, began_with, mark_price, known.accepted_ms)
        self._tell(
            context, f"of today so far, with {found_quote:+.2f} of trades that the exchange lists again"
        )

    def _look_again(self, context: SymbolContext, mark_price: Decimal) -> None:
        """Count the day's trades anew, once, if the list has more of them some time after the day was opened.

        One that lacks a trade of our books, as one came after it was read, tells nothing of the position with which the
        day began: it is asked for again, up to so often.
        """
        symbol, ledger, count = context.symbol, context.ledger, self._counts[context.symbol]
        if symbol not in self._to_look_again:
            return
        found: tuple[list[Fill], Decimal | None] | None = self._questions.answer(_BEGINNING, symbol)
        if found is not None and not self._trades[symbol].are_all(ledger, found[0], count.day):
            self._to_look_again[symbol] -= 1
            if ledger.ids_began_anew or not self._to_look_again[symbol]:
                del self._to_look_again[symbol]
                text = "%s: the list of today's trades lacks some of ours; what it hid at the start does not count"
                log.warning(text, symbol)
                return
            found = None
        if found is None:
            if self._is_due("look again", context, self.OPEN_AGAIN_AT_MOST_S):
                self._questions.ask(_BEGINNING, symbol, lambda: self._beginning(context, count.day))
            return
        del self._to_look_again[symbol]
        fills, price = found
        if not self._trades[symbol].lacks(ledger, fills):
            return
        began_with = count.unrealized_at_start_quote
        if price is not None or not quantity_at_start(ledger.position_quantity, fills):
            began_with = unrealized_at_start(
                ledger.position_quantity, ledger.entry_price, fills, price or _ZERO
            )
        found_quote = self._recount(context, fills, began_with, mark_price, accepted_before_ms=0)
        self._tell(
            context, f"of today so far, with {found_quote:+.2f} of trades that were not listed at first"
        )

    def _recount(
        self,
        context: SymbolContext,
        fills: Sequence[Fill],
        began_with_quote: Decimal,
        mark_price: Decimal,
        accepted_before_ms: int,
    ) -> Decimal:
        """Count the day anew from these trades of it; return by how much the result of the whole day has changed.

        A result that an operator has accepted meanwhile was without that: the count began anew there all the same.
        """
        symbol, ledger = context.symbol, context.ledger
        lacked, count = self._measure(context, mark_price), self._counts[symbol]
        earlier, since = self._trades[symbol].take(ledger, fills, count.day)
        funding_quote = count.sums(ledger).funding_quote
        count = replace(count, earlier=earlier, since=since, unrealized_at_start_quote=began_with_quote)
        count = self._counts[symbol] = count.with_funding(ledger, funding_quote)
        found_quote = self._measure(context, mark_price).whole_quote - lacked.whole_quote
        if symbol in self._accepted_here and count.accepted_ms > accepted_before_ms:
            self._counts[symbol] = replace(count, accepted_quote=count.accepted_quote + found_quote)
            self._measure(context, mark_price)
        return found_quote

    def _heal_funding(self, context: SymbolContext) -> None:
        """Take the day's funding from the exchange's record now and then: a stream may not have told of all of it.

        Not just after some was told of, because the record may lag; and only what a second reading bears out, because
        the books of the wallet read the same record, and would count it once more. A day that was begun late is known
        only then: what was paid since 00:00 UTC may be in the ledger, and not of this day. A record that agrees just
        after 00:00 UTC may lag, and is read again.
        """
        symbol, ledger = context.symbol, context.ledger
        turn = self._turns.get(symbol)
        differed = symbol in self._funding_missing
        every_s = self.TURN_AGAIN_S if turn is not None and turn.is_counted else self.FUNDING_EVERY_S
        if self._is_due("funding", context, self.FUNDING_AGAIN_S if differed else every_s):
            seen, self._funding_seen[symbol] = self._funding_seen.get(symbol), ledger.funding_quote
            if differed or seen == ledger.funding_quote:
                day, asset = self._counts[symbol].day, context.rules.quote_asset
                self._questions.ask(_FUNDING, symbol, lambda: self._funding_of(symbol, day, asset))
        found: tuple[Decimal, float] | None = self._questions.answer(_FUNDING, symbol)
        if found is None or self._funding_seen[symbol] != ledger.funding_quote:
            return
        funding, early_s = found
        count = self._counts[symbol]
        missing = funding - count.sums(ledger).funding_quote
        before = self._funding_missing.pop(symbol, _ZERO)
        if not missing:
            if turn is not None and early_s > 0:
                self._is_done("funding", context, early_s)
            else:
                self._end_turn(symbol)
            return
        self._funding_missing[symbol] = missing
        self._is_done("funding", context, self.FUNDING_AGAIN_S)
        if missing == before:
            self._counts[symbol] = count.with_funding(ledger, funding)
            self._end_turn(symbol)
        else:
            self._look_for_cash()

    async def _funding_of(self, symbol: str, day: int, asset: str) -> tuple[Decimal, float]:
        """Return the day's funding, and how much too early it was asked for to have that of 00:00 UTC."""
        early_s = self.FUNDING_AGAIN_S - (self._server_ms() - start_ms_of(day)) / 1000
        return await self._gateway.funding_since(symbol, start_ms_of(day), asset), early_s

    def _refresh_rates(self, context: SymbolContext) -> None:
        """Learn the prices of other assets in which fees were paid, BNB for example."""
        symbol, quote_asset = context.symbol, context.rules.quote_asset
        foreign = self._foreign_assets(context)
        if foreign and self._is_due("rates", context, self.RATES_EVERY_S):
            self._questions.ask(_RATES, symbol, lambda: self._prices(foreign, quote_asset))
        self._take_rates(self._questions.answer(_RATES, symbol) or {})

    def _foreign_assets(self, context: SymbolContext) -> list[str]:
        """Return the other assets in which today's fees were paid."""
        quote_asset = context.rules.quote_asset
        count, ledger = self._counts[context.symbol], context.ledger
        if not {*count.earlier.fees, *ledger.fees} - {quote_asset}:
            return []
        sums = count.sums(ledger)
        return [asset for asset, paid in sums.fees.items() if paid and asset != quote_asset]

    async def _prices(self, assets: Sequence[str], quote_asset: str) -> dict[str, Decimal | None]:
        """Return the prices of these assets, None where none is known."""
        prices: dict[str, Decimal | None] = dict.fromkeys(assets)
        for asset in assets:
            try:
                prices[asset] = await self._gateway.mark_price(f"{asset}{quote_asset}", attempts=1)
            except ExchangeError as error:
                log.debug("no price of %s: %s", asset, error)
        return prices

    def _take_rates(self, prices: Mapping[str, Decimal | None]) -> None:
        """Value fees at these prices from now on; where there is none now, the last one goes on to count."""
        self._rates.update({asset: price for asset, price in prices.items() if price is not None})
        self._unpriced.update(asset for asset, price in prices.items() if price is None)

    # --- accepting --------------------------------------------------------------------------------------------

    @staticmethod
    def _accepted_before(
        known: DayRecord | None, accepted: Acceptance | None
    ) -> DayRecord | Acceptance | None:
        """Return with which accepted result a run begins.

        One that a daemon has not taken although it ran on after it is as large as it was then: what was lost later is
        not. One that came after the last record is taken with the result that is found (``take_acceptance``).
        """
        if known is None or accepted is None or accepted.accepted_quote is None:
            return known or accepted
        return accepted if known.accepted_ms < accepted.accepted_ms < known.saved_ms else known

    async def _accepted(self, context: SymbolContext, day: int) -> Acceptance | None:
        file = self._files[context.symbol]
        try:
            found = await self._from_disk(context, lambda: file.acceptance(day))
        except OSError:
            if f"accepted {context.symbol}" not in self._complained:
                self._complained.add(f"accepted {context.symbol}")
                text = "%s: the disk cannot be read; whether a loss was accepted is not known"
                log.error(text, context.symbol)
            return None
        self._complained.discard(f"accepted {context.symbol}")
        return found

    def _look_for_acceptance(self, context: SymbolContext, mark_price: Decimal) -> None:
        """Have what an operator accepts count soon, whether a halt stands or not; the disk is not waited for."""
        symbol, day = context.symbol, self._counts[context.symbol].day
        if self._is_due("accepted", context, self.ACCEPTED_EVERY_S):
            self._questions.ask(_ACCEPTED, symbol, lambda: self._accepted(context, day))
        accepted: Acceptance | None = self._questions.answer(_ACCEPTED, symbol)
        if accepted is not None and accepted.day == day:
            self._take(context, accepted, mark_price)

    async def take_acceptance(self, context: SymbolContext, mark_price: Decimal) -> None:
        """Begin the count anew if an operator has accepted the loss since the last look."""
        count = self._counts.get(context.symbol)
        if count is None:
            return
        accepted = await self._accepted(context, count.day)
        if accepted is not None:
            self._take(context, accepted, mark_price)

    def _take(self, context: SymbolContext, accepted: Acceptance, mark_price: Decimal) -> None:
        """Begin the count anew at the present result, unless that was done for this acceptance."""
        if accepted.accepted_ms <= self._counts[context.symbol].accepted_ms:
            return
        result = self._measure(context, mark_price)
        count = self._counts[context.symbol]
        self._accepted_here.add(context.symbol)
        self._counts[context.symbol] = count.accepting(result, accepted.accepted_ms)
        self._measure(context, mark_price)
        text = f"the operator has accepted today's result of {result.whole_quote:+.2f}; the count begins anew"
        log.warning("%s: %s", context.symbol, text)
        self._bus.publish(RiskEvent(context.symbol, RiskKind.LOSS_ACCEPTED, result.whole_quote, text))
        self.save(context)

    # --- on disk ----------------------------------------------------------------------------------------------

    def save(self, context: SymbolContext) -> None:
        """Have the day's result on its way to the disk, unless the one before is still, or another waits to be read."""
        count, result = self._counts.get(context.symbol), context.day
        saving = self._saving.get(context.symbol)
        if count is None or result is None or (saving is not None and not saving.done()):
            return
        if context.symbol in self._unread or context.symbol in self._turns:
            return  # it would take the place of what is not known yet
        record = self._record(context, count, result)
        if (lacking := self._trades[context.symbol].lacking) is not None:
            if count.accepted_ms <= lacking.accepted_ms:
                return  # so would this
            record = replace(lacking, accepted_quote=count.accepted_quote, accepted_ms=count.accepted_ms)
        self._saving[context.symbol] = asyncio.ensure_future(self._write(context, record))

    def _record(self, context: SymbolContext, count: DayCount, result: DayResult) -> DayRecord:
        return DayRecord(
            account=self._account,
            symbol=context.symbol,
            day=count.day,
            date=date_text(count.day),
            unrealized_at_start_quote=count.unrealized_at_start_quote,
            result_quote=result.quote,
            whole_quote=result.whole_quote,
            limit_quote=self._limit_quote,
            text=result.text,
            accepted_quote=count.accepted_quote,
            accepted_ms=count.accepted_ms,
            saved_ms=self._server_ms(),
            trades=self._trades[context.symbol].known(context.ledger, count.day),
        )

    async def _write(self, context: SymbolContext, record: DayRecord) -> None:
        """Have the record on disk; a disk that does not take it costs what the exchange can tell again."""
        file = self._files[context.symbol]
        try:
            await self._run_blocking(lambda: file.write(record))
        except OSError as error:
            if "disk" not in self._complained:
                self._complained.add("disk")
                log.error("%s: today's result could not be written: %s", context.symbol, error.strerror)

    async def finish(self) -> None:
        """Have what is on its way to the disk written, unless the disk hangs."""
        for context in self._contexts:
            self._questions.forget(context.symbol)
        waiting = [task for task in self._saving.values() if not task.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self.DISK_PATIENCE_S)
