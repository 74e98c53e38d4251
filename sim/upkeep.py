"""What the exchange does for the account at every whole second: it ends overdue orders, watches margin and conduct.

When maintenance margin reaches a chosen part of the margin balance, the user stream hears one MARGIN_CALL until it has
fallen below again. When it reaches the margin balance itself, the account is liquidated: all open orders expire with
reason 5; positions are closed through the book, the largest maintenance margin first, by orders of the exchange under
``autoclose-`` ids, until what is left is covered; each pays the symbol's liquidation fee to the insurance fund. If the
wallet ends below zero with nothing left, the insurance fund pays it up to zero. While the book does not take the whole
position, the account is in liquidation mode (new orders get -2023) and the next second tries again.

Source: facts section 4.2 (er 5, foreign client ids), 7.3 (MARGIN_CALL, INSURANCE_CLEAR), 9 (-2023). That whole
positions are closed at once, where Binance goes bracket by bracket, is this model's choice.
"""

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
        self._called = False

    def run(self, now_ms: int) -> None:
        """Do what is due at this second, after the mark prices have been set."""
        self._venue.desk.expire_overdue(now_ms)
        for instrument in self._venue.instruments.values():
            self._venue.conduct.judge(instrument, now_ms)
        if any(position.lots for position in self._venue.account.positions.values()):
            self._watch(now_ms)
        else:
            self._called = self._venue.liquidating = False

    def _watch(self, now_ms: int) -> None:
        needed, equity = self._margins()
        if needed >= equity:
            self._liquidate(now_ms)
        elif needed < self._venue.options.streams.margin_call_ratio * equity:
            self._called = False
        elif not self._called:
            self._called = True
            self._call(now_ms)
        needed, equity = self._margins()
        self._venue.liquidating = bool(needed) and needed >= equity

    def _margins(self) -> tuple[Decimal, Decimal]:
        """Return maintenance margin and margin balance."""
        account, marks = self._venue.account, self._venue.desk.marks
        return account.maintenance(marks), account.equity(marks)

    def _call(self, now_ms: int) -> None:
        venue = self._venue
        if venue.user.is_heard:
            rows = [_called_position(venue, instrument) for instrument in self._held()]
            event = {"e": "MARGIN_CALL", "E": now_ms, "cw": plain(venue.account.wallet), "p": rows}
            venue.user.publish("MARGIN_CALL", payloads.encode(event), now_ms)

    def _liquidate(self, now_ms: int) -> None:
        venue = self._venue
        venue.desk.knock_out(now_ms)
        for instrument in self._held():
            needed, equity = self._margins()
            if needed < equity:
                return
            venue.desk.liquidate(instrument, now_ms)
        wallet = venue.account.wallet
        if wallet < 0 and not self._held():
            venue.desk.clear(next(iter(venue.instruments.values())), -wallet, now_ms)

    def _held(self) -> list[Instrument]:
        """Return the symbols with a position, the largest maintenance margin first."""
        account, marks = self._venue.account, self._venue.desk.marks
        held = [each for each in self._venue.instruments.values() if account.positions[each.symbol].lots]
        return sorted(held, key=lambda each: -account.maintenance_margin(each.symbol, marks[each.symbol]))


def _called_position(venue: Venue, instrument: Instrument) -> Json:
    rules, mark = instrument.rules, instrument.mark.mark
    position = venue.account.positions[instrument.symbol]
    return {
        "s": instrument.symbol,
        "ps": "BOTH",
        "pa": rules.quantity_text(position.lots),
        "mt": "CROSSED",
        "iw": plain(ZERO),
        "mp": plain(mark),
        "up": plain(position.unrealised(rules, mark)),
        "mm": plain(venue.account.maintenance_margin(instrument.symbol, mark)),
    }
