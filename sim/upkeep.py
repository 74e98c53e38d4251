"""What the exchange does for the account at every whole second: it ends overdue orders, watches margin and conduct.

When maintenance margin reaches a chosen part of the margin balance, the user stream hears one MARGIN_CALL until it has
fallen below again. When it reaches the margin balance itself, the account is liquidated: all open orders expire with
reason 5; positions are closed through the book, the largest maintenance margin first, by orders of the exchange under
``autoclose-`` ids, until what is left is covered; each pays the symbol's liquidation fee to the insurance fund. If the
wallet is below zero with nothing left, also because the client closed first, the insurance fund pays it up to zero.
While the book does not take the whole position, the account is in liquidation mode (new orders get -2023) and the next
second tries again.

An isolated position has a margin balance of its own: it is called for and liquidated alone, with the orders of its
symbol, and what its margin does not pay the insurance fund pays at once.

Source: facts section 4.2 (er 5, foreign client ids), 7.3 (MARGIN_CALL, INSURANCE_CLEAR), 9 (-2023). That whole
positions are closed at once, where Binance goes bracket by bracket, is this model's choice.
"""

from collections.abc import Sequence
from decimal import Decimal

from sim import payloads
from sim.instrument import Instrument
from sim.money import ZERO
from sim.payloads import Json
from sim.rules import plain
from sim.venue import Venue


class Upkeep:
    """Looks after orders and positions."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._called: set[str] = set()
        """Which margins are short already: those of isolated symbols, and "" for all crossed ones."""

    def run(self, now_ms: int) -> None:
        """Do what is due at this second, after the mark prices have been set."""
        self._venue.desk.expire_overdue(now_ms)
        for instrument in self._venue.instruments.values():
            self._venue.conduct.judge(instrument, now_ms)
        if any(position.lots for position in self._venue.account.positions.values()):
            self._watch(now_ms)
        else:
            self._called.clear()
            self._venue.liquidating = False
        self._fill_up(now_ms)

    def _watch(self, now_ms: int) -> None:
        for symbol in list(self._venue.account.isolated):
            self._watch_isolated(self._venue.instruments[symbol], now_ms)
        needed, equity = self._margins()
        held = self._held()
        if held and needed >= equity:
            self._liquidate(now_ms)
            needed, equity = self._margins()
        else:
            self._compare("", needed, equity, held, now_ms)
        self._venue.liquidating = bool(needed) and needed >= equity

    def _watch_isolated(self, instrument: Instrument, now_ms: int) -> None:
        account, symbol, mark = self._venue.account, instrument.symbol, instrument.mark.mark
        needed, equity = account.maintenance_margin(symbol, mark), account.isolated_equity(symbol, mark)
        if needed and needed >= equity:
            self._liquidate_isolated(instrument, now_ms)
        else:
            self._compare(symbol, needed, equity, [instrument], now_ms)

    def _compare(
        self, name: str, needed: Decimal, equity: Decimal, held: Sequence[Instrument], now_ms: int
    ) -> None:
        """Call for margin once when so much of it is used up."""
        if not needed or needed < self._venue.options.streams.margin_call_ratio * equity:
            self._called.discard(name)
        elif name not in self._called:
            self._called.add(name)
            self._call(held, now_ms, crossed=not name)

    def _margins(self) -> tuple[Decimal, Decimal]:
        """Return maintenance margin and margin balance of the crossed positions."""
        account, marks = self._venue.account, self._venue.desk.marks
        return account.cross_maintenance(marks), account.cross_equity(marks)

    def _call(self, held: Sequence[Instrument], now_ms: int, *, crossed: bool) -> None:
        venue = self._venue
        if venue.user.is_heard:
            event: Json = {"e": "MARGIN_CALL", "E": now_ms}
            if crossed:
                event["cw"] = plain(venue.account.cross_wallet)
            event["p"] = [_called_position(venue, instrument) for instrument in held]
            venue.user.publish("MARGIN_CALL", payloads.encode(event), now_ms)

    def _liquidate(self, now_ms: int) -> None:
        venue = self._venue
        venue.desk.knock_out(self._crossed(), now_ms)
        for instrument in self._held():
            needed, equity = self._margins()
            if needed < equity:
                return
            venue.desk.liquidate(instrument, now_ms)

    def _fill_up(self, now_ms: int) -> None:
        """Leave no wallet below zero without a crossed position, whoever closed the last: the insurance fund pays."""
        venue = self._venue
        wallet = venue.account.cross_wallet
        if wallet < 0 and not self._held():
            venue.desk.clear(next(iter(venue.instruments.values())), -wallet, now_ms)

    def _liquidate_isolated(self, instrument: Instrument, now_ms: int) -> None:
        """Close an isolated position; what its margin does not pay is paid by the insurance fund, not by the wallet."""
        venue = self._venue
        before = venue.account.cross_wallet
        venue.desk.knock_out([instrument], now_ms)
        venue.desk.liquidate(instrument, now_ms)
        if (missing := before - venue.account.cross_wallet) > 0:
            venue.desk.clear(instrument, missing, now_ms)

    def _crossed(self) -> list[Instrument]:
        isolated = self._venue.account.isolated
        return [each for each in self._venue.instruments.values() if each.symbol not in isolated]

    def _held(self) -> list[Instrument]:
        """Return the symbols with a crossed position, the largest maintenance margin first."""
        account, marks = self._venue.account, self._venue.desk.marks
        held = [each for each in self._crossed() if account.positions[each.symbol].lots]
        return sorted(held, key=lambda each: -account.maintenance_margin(each.symbol, marks[each.symbol]))


def _called_position(venue: Venue, instrument: Instrument) -> Json:
    rules, mark, account = instrument.rules, instrument.mark.mark, venue.account
    position, symbol = account.positions[instrument.symbol], instrument.symbol
    return {
        "s": symbol,
        "ps": "BOTH",
        "pa": rules.quantity_text(position.lots),
        "mt": "ISOLATED" if symbol in account.isolated else "CROSSED",
        "iw": plain(account.isolated.get(symbol, ZERO)),
        "mp": plain(mark),
        "up": plain(position.unrealised(rules, mark)),
        "mm": plain(account.maintenance_margin(symbol, mark)),
    }
