"""What the daemon counts as today's result, held against the exchange's books, midnight included."""

from decimal import Decimal

from test.simulation.claim_rules import UNHEARD
from test.simulation.facts import HELD_UP, LYING_READS, MARKET_SHOCKS, Facts

_SETTLED_S = 30.0
_AT_ONCE_S = 2.0
_FOLLOWED_S = 12.0
"""The mark price follows a shock within this time."""
_SPOILT_DISKS = ("disk-full", "disk-broken")
_ALLOWED_QUOTE = Decimal(2)
_ALLOWED_SHARE = Decimal("0.005")


class DayRules:
    """INV-19: no loss is held against the limit that is not one."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._began: tuple[Decimal, Decimal] | None = None
        self._is_next_day = False
        self._is_judged = False
        self._is_spoilt = False

    def look(self) -> None:
        """Note what the account is worth as the day begins, and whether the daemon can have seen that."""
        facts, midnight_s = self._facts, self._facts.plan.midnight_s
        if self._began is None:
            self._began = self._equity(), Decimal(0)
        self._is_spoilt = self._is_spoilt or facts.world.exchange._venue.account.wallet <= 0
        if not midnight_s:
            return
        since_s = facts.now_s - midnight_s
        if 0 <= since_s < _AT_ONCE_S:
            self._is_spoilt = self._is_spoilt or facts.struck(_FOLLOWED_S, *MARKET_SHOCKS)
        if not self._is_next_day and since_s >= 0:
            self._is_next_day = True
            self._began = self._equity(), self._value()
        if not self._is_judged and since_s >= _SETTLED_S:
            self._is_judged = True
            blind = facts.struck(2 * _SETTLED_S, *HELD_UP, *LYING_READS, *UNHEARD, *_SPOILT_DISKS)
            self._is_spoilt = self._is_spoilt or blind

    def differences(self) -> list[str]:
        """INV-19: today's result is what the account has gained since 00:00 UTC, transfers apart, at any start.

        2 USDT and half a percent of the positions then and now are allowed for what the mark price does between two
        looks. No verdict where midnight fell into a storm in which nobody could see the position, or soon after a
        shock of the price, which mark price and candle see at different moments; within 30 s of midnight; on an account
        that was wiped, or of which more was taken out than it had: the exchange makes up for what is below zero.
        """
        context = self._facts.context
        if context is None or context.day is None or self._began is None or self._is_spoilt:
            return []
        if self._is_next_day and not self._is_judged:
            return []
        if self._facts.nemesis.fired_at_exchange("wipe-account"):
            return []
        began, held_then = self._began
        gained = self._equity() - began
        allowed = _ALLOWED_QUOTE + _ALLOWED_SHARE * (held_then + self._value())
        counted = context.day.whole_quote
        if abs(counted - gained) <= allowed:
            return []
        return [f"INV-19 today's result is counted as {counted:.2f}, the account has gained {gained:.2f}"]

    def _equity(self) -> Decimal:
        """Return what the account is worth, less what was paid in."""
        venue, instrument = self._facts.world.exchange._venue, self._facts.instrument
        account = venue.account
        position = account.positions[instrument.symbol]
        paid_in = sum((each.amount for each in venue.ledger.cash if each.kind == "TRANSFER"), Decimal(0))
        return account.wallet - paid_in + position.unrealised(instrument.rules, instrument.mark.mark)

    def _value(self) -> Decimal:
        instrument = self._facts.instrument
        position = self._facts.world.exchange._venue.account.positions[instrument.symbol]
        return abs(position.notional(instrument.rules, instrument.mark.mark))
